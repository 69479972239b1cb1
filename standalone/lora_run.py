"""A run with adapters: those its prompt and settings ask for are found, put in, and moved as the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..loras import Bound, Strength
from ..loras.curve import place_of
from .lora_prompt import Wanted, of_prompts
from .lora_source import locate_lora, lora_hash
from .lora_stack import Loras
from .textual_inversion import Embedding, Embeddings, embedding_of

if TYPE_CHECKING:
    from ..core.patch import Hooks, StepInfo
    from .request import Request


def put_in(
    loras: Loras, request: Request, embeddings: Embeddings, more: Sequence[tuple[Bound, Strength]] = ()
) -> dict[str, str]:
    """Puts the adapters of a request on the model, and what textual inversions they bring within the prompt's reach.

    ``more`` are those that other adapters bring. Answers name -> hash of each, for the picture's text. FileError,
    OptionError; the model is then as it was.
    """
    acting: list[tuple[Bound, Strength]] = []
    hashes: dict[str, str] = {}
    for one in of_prompts(request.prompts(), request.loras):
        bound = _bound(loras, one)
        acting.append((bound, one.strength))
        hashes[bound.file.path.stem] = lora_hash(bound.file.path)
    loras.for_run([*acting, *more])
    used = [bound for bound, _ in acting] + [loras.loaded[name] for name in loras.active]
    embeddings.lend({e.name: e for bound in used for e in _brought(bound)})
    return hashes


def _bound(loras: Loras, one: Wanted) -> Bound:
    """A loaded adapter of that name, else a file, opened once as long as it is in use."""
    if one.source in loras.loaded:
        return loras.loaded[one.source]
    path = locate_lora(one.source, loras.folders, dict(one.options))
    return loras.kept(path)


def _brought(bound: Bound) -> list[Embedding]:
    return [embedding_of(name, bound.file.path, dict(t)) for name, t in bound.file.embeddings.items()]


def following(
    loras: Loras, hooks: Callable[[StepInfo], Hooks | None], sigmas: Sequence[float]
) -> Callable[[StepInfo], Hooks | None]:
    """``hooks`` that first move the adapters' strengths to where an evaluation stands."""
    if not loras.moving:
        return hooks

    def moved(info: StepInfo) -> Any:
        loras.at(place_of(info.sigma, sigmas))
        return hooks(info)

    return moved
