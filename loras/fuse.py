"""Adapters merged into weights, and taken out bit for bit: the original is kept, never computed back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..core.errors import FileError
from .delta import Delta

Change = tuple[Delta, float]
Changes = Mapping[str, Sequence[Change]]
_NARROW = (torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)  # a merge may leave their range


class Fused:
    """The weights of one model with adapters in them; ``parameters`` by patch key.

    On the CPU a changed weight is a new tensor and the original, which may be a view of a mapped file, is put aside
    uncopied. Elsewhere the weight is written in place, so that compiled code keeps its addresses, and the original
    waits on the CPU. One weight at a time is computed in fp32, from its original.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.originals: dict[str, Tensor] = {}
        self.changes: dict[str, list[Change]] = {}

    def original(self, key: str) -> Tensor:
        """The weight as the model had it."""
        return self.originals.get(key, self.parameters[key].data)

    @torch.inference_mode(False)
    @torch.no_grad()
    def apply(self, changes: Changes, progress: Callable[[int, int], None] | None = None) -> None:
        """Makes the weights their originals plus exactly these changes; those no longer named become their originals.

        Whatever interrupts it, the weights are as they were before. FileError where a result leaves the dtype's range.
        """
        wanted = {key: [c for c in own if c[1] != 0.0] for key, own in changes.items()}
        wanted = {key: own for key, own in wanted.items() if own}
        before = self.changes
        try:
            self._write(before, wanted, progress)
        except BaseException:
            self._put_back(list(self.originals))
            self.changes = {}
            self._write({}, before, None)
            raise

    def restore(self) -> None:
        """Every weight as the model had it."""
        self.apply({})

    def _write(self, before: Changes, wanted: Changes, progress: Callable[[int, int], None] | None) -> None:
        for done, (key, own) in enumerate(wanted.items(), start=1):
            if not _same(before.get(key, ()), own):
                self._set(
                    key, merged(self.original(key).to(self.parameters[key].device), own, self._own(key), key)
                )
            if progress is not None:
                progress(done, len(wanted))
        self._put_back([key for key in self.originals if key not in wanted])
        self.changes = {key: list(own) for key, own in wanted.items()}

    def _own(self, key: str) -> Tensor | None:
        """The merged weight that the next one may be written into, so that exchanging adapters takes no new memory."""
        data = self.parameters[key].data
        exact = data.dtype == torch.float32 and data.is_contiguous()
        return data if key in self.originals and exact and data.device.type == "cpu" else None

    def _set(self, key: str, value: Tensor) -> None:
        parameter = self.parameters[key]
        cpu = parameter.device.type == "cpu"
        if key not in self.originals:
            self.originals[key] = parameter.data if cpu else parameter.data.to("cpu", copy=True)
        if cpu:
            parameter.data = value
        else:
            parameter.data.copy_(value)

    def _put_back(self, keys: Sequence[str]) -> None:
        for key in keys:
            parameter, original = self.parameters[key], self.originals[key]
            if parameter.device.type == "cpu":
                parameter.data = original.to(parameter.dtype)  # the model may have been converted since
            else:
                parameter.data.copy_(original)
            del self.originals[key]


def merged(weight: Tensor, changes: Sequence[Change], out: Tensor | None = None, key: str = "") -> Tensor:
    """weight + sum of strength * delta(weight), computed in fp32 (in ``out``), in the weight's dtype and layout."""
    exact = weight.float().contiguous()
    delta, strength = changes[0]
    total = delta.added(exact, strength, out)
    for delta, strength in changes[1:]:
        delta.add_to(total, exact, strength)
    return in_range(torch.empty_like(weight).copy_(total) if _differs(total, weight) else total, key)


def in_range(result: Tensor, key: str) -> Tensor:
    """A merged weight as it is. FileError where it left the range of its dtype."""
    if result.dtype in _NARROW and not bool(torch.isfinite(result.float()).all()):
        raise FileError(
            f"with these adapters {key} leaves the range of {str(result.dtype).removeprefix('torch.')}",
            todo="lower their weights or load the model in bf16 or fp32",
        )
    return result


def _differs(total: Tensor, weight: Tensor) -> bool:
    return total.dtype != weight.dtype or total.stride() != weight.stride()


def _same(one: Sequence[Change], other: Sequence[Change]) -> bool:
    return len(one) == len(other) and all(
        a[0] is b[0] and a[1] == b[1] for a, b in zip(one, other, strict=True)
    )
