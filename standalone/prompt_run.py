"""The prompts of one run: read, encoded, and told to its denoiser evaluation by evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from .conditioning import Conditioning
from .emphasis import find_emphasis
from .encode import encode_prompts
from .like import alone_at, find_like
from .prompt_course import ByEvaluation, Told, by_step, told_by
from .prompt_editing import Count, read_editing
from .prompt_parts import Part, read_parts, whole
from .size_settings import sizes_of

if TYPE_CHECKING:
    from .model import Model
    from .request import Request
    from .textual_inversion import Embeddings

Known = dict[tuple[bool, tuple[str, ...]], Conditioning]


@dataclass
class Speech:
    """What a request says; `known` keeps what is encoded already, and may be another run's of the same settings."""

    model: Model
    request: Request
    embeddings: Embeddings | None = None
    known: Known = field(default_factory=dict)

    @cached_property
    def sides(self) -> tuple[list[list[Part]], list[Part]]:
        """The parts of each image's prompt, and the negative prompts."""
        request = self.request
        if not find_emphasis(request.emphasis).edits:
            return [whole(text) for text in request.prompts()], [
                whole(text)[0] for text in request.negatives()
            ]
        like = find_like(request.like)
        read = partial(read_parts, alone=like is not None and like.by_evaluations)
        negatives = [Part(read_editing(text)) for text in request.negatives()]
        return [read(text) for text in request.prompts()], negatives

    @property
    def composed(self) -> bool:
        """Whether a prompt is of several parts, or of one that is weighed."""
        return any(len(parts) > 1 or parts[0].weight != 1.0 for parts in self.sides[0])

    @property
    def alone(self) -> str:
        """The prompt that is all the network is told, "prompt" or "negative"; "" where guidance needs both."""
        request = self.request
        alone = alone_at(request.cfg, request.like) if request.base == "cfg" else ""
        return "" if alone == "prompt" and self.composed else alone

    def told(self, sigmas: Sequence[float], sampler: str, done: int = 0) -> Told:
        """What the network is told over a walk of which `done` evaluations are made already."""
        count, step = self._steps(sigmas, sampler, done)
        prompts, negatives = self.sides
        if self.alone == "negative":
            encode = (partial(self._encoded, True), partial(self._encoded, True))
            return told_by([[part] for part in negatives], None, encode, count, step)
        encode = (partial(self._encoded, False), partial(self._encoded, True))
        return told_by(prompts, None if self.alone else negatives, encode, count, step)

    def _steps(self, sigmas: Sequence[float], sampler: str, done: int) -> tuple[Count, Any]:
        request, like = self.request, find_like(self.request.like)
        before = request.second.before if request.second else None
        if like is None or not like.by_evaluations:
            return Count(len(sigmas) - 1, before), by_step(sigmas)
        steps = (request.steps or len(sigmas) - 1) * (2 if sampler in like.twice else 1)
        return Count(steps, before), ByEvaluation(steps, done)

    def _encoded(self, negative: bool, texts: list[str]) -> Conditioning:
        key = (negative, tuple(texts))
        if key not in self.known:
            self.known[key] = self._encode(texts, negative)
        return self.known[key]

    def _encode(self, texts: list[str], negative: bool) -> Conditioning:
        request, like = self.request, find_like(self.request.like)
        skips = not negative or like is None or like.skips_negative
        return encode_prompts(
            self.model,
            texts,
            size=(request.width, request.height),
            negative=negative,
            clip_skip=request.clip_skip if skips else None,
            emphasis=request.emphasis,
            embeddings=self.embeddings,
            sizes=sizes_of(request, negative=negative),
        )
