"""Changes of weights as a patch of a host's ModelPatcher: merged, offloaded and taken out again by the host itself.

ComfyUI, reForge and Forge Neo take objects of their own class WeightAdapterBase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from ..core.errors import FileError
from ..loras.fuse import Change, merged

MARK = "sigmagraft_changes"


@lru_cache(maxsize=4)
def adapter_class(base: type) -> type[Any]:
    """Our changes as a subclass of the host's WeightAdapterBase."""

    class Adapter(base):  # type: ignore[misc,valid-type]
        """``weights``: ((change, strength), ...) and all their tensors, which the host may exchange for copies.

        A host that streams weights makes it anew with two arguments, the tensors where they are needed.
        """

        name = "sigmagraft"

        def __init__(self, loaded_keys: Any, weights: Any) -> None:
            self.loaded_keys, self.weights = loaded_keys, weights

        def calculate_weight(
            self, weight: Tensor, key: str, strength: float, *rest: Any, **named: Any
        ) -> Tensor:
            """weight + strength * the changes, of the weight as it is given, written into it."""
            changes = [(change, own * strength) for change, own in self.changes()]
            return weight.copy_(merged(weight, changes, key=key)) if changes else weight

        def changes(self) -> list[Change]:
            """The changes on the tensors where they are now."""
            tensors = iter(self.weights[1])
            return [(change.with_tensors(tensors), own) for change, own in self.weights[0]]

    setattr(Adapter, MARK, True)
    return Adapter


def adapter(base: type, changes: Sequence[Change]) -> Any:
    """One patch that makes all these changes of one weight, each of the weight as it is given."""
    tensors = tuple(tensor for change, _ in changes for tensor in change.tensors())
    return adapter_class(base)({"sigmagraft"}, (tuple(changes), tensors))


def patch(patcher: Any, base: type, changes: Mapping[str, Sequence[Change]]) -> None:
    """Adds changes, by the host's names, to a ModelPatcher that is nobody else's (a clone).

    Beside changes of ours that are there already: each is of the weight without the others, so no order matters.
    """
    fresh = {}
    for key, own in changes.items():
        entries = list(patcher.patches.get(key, ()))
        place = next((i for i, entry in enumerate(entries) if _ours(entry)), None)
        if place is None:
            fresh[key] = adapter(base, own)
        else:
            strength, there, *rest = entries[place]
            entries[place] = (strength, adapter(base, [*there.changes(), *own]), *rest)
            patcher.patches[key] = entries
    added = patcher.add_patches(fresh, 1.0)  # also tells the host that there is something new
    if lost := set(fresh) - set(added):
        raise FileError(
            f"the host has no weight named {sorted(lost)[0]}", expected="a model of Stable Diffusion"
        )


def _ours(entry: Sequence[Any]) -> bool:
    """Whether a patch is ours, as we added it."""
    return getattr(entry[1], MARK, False) and entry[0] == 1.0 and entry[2] == 1.0
