"""Adapters merged into weights, and taken out bit for bit: the original is kept, never computed back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..core.errors import FileError
from .delta import Delta, matrix
from .lowrank import LowRank

Change = tuple[Delta, float]
Changes = Mapping[str, Sequence[Change]]
_CHUNK = 1 << 19  # values of a weight that are worked on at a time
_SAFE = 1e30
_NARROW = (torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)  # a merge may leave their range


class Fused:
    """The weights of one model with adapters in them; ``parameters`` by patch key.

    On the CPU a changed weight is a new tensor and the original, which may be a view of a mapped file, is put aside
    uncopied. Elsewhere the weight is written in place, so that compiled code keeps its addresses, and the original
    waits on the CPU. One weight at a time is computed in fp32, from its original. The memory that taking out leaves
    waits in ``spare`` for the next merge (new pages cost more than what is written into them) until `release`.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.originals: dict[str, Tensor] = {}
        self.changes: dict[str, list[Change]] = {}
        self.spare: dict[str, Tensor] = {}

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
            self.release()
            self._put_back(list(self.originals))
            self.changes = {}
            self._write({}, before, None)
            raise

    def restore(self) -> None:
        """Every weight as the model had it."""
        self.apply({})

    def release(self) -> None:
        """Gives back the memory that waits for the next merge."""
        self.spare = {}

    def _write(self, before: Changes, wanted: Changes, progress: Callable[[int, int], None] | None) -> None:
        for done, (key, own) in enumerate(wanted.items(), start=1):
            if not _same(before.get(key, ()), own):
                parameter = self.parameters[key]
                original = self.original(key).to(parameter.device, parameter.dtype)
                self._set(key, merged(original, own, self._own(key), key))
            if progress is not None:
                progress(done, len(wanted))
        self._put_back([key for key in self.originals if key not in wanted])
        self.changes = {key: list(own) for key, own in wanted.items()}

    def _own(self, key: str) -> Tensor | None:
        """What the merged weight may be written into: the one that is there now, else what the last one left."""
        data, original = self.parameters[key].data, self.originals.get(key)
        if data.device.type != "cpu":
            return None
        if original is not None and original.data_ptr() != data.data_ptr():
            return data
        return self._spare(key)

    def _spare(self, key: str) -> Tensor | None:
        """Memory like the weight's that waits for it, taken out of ``spare``."""
        spare, data = self.spare.pop(key, None), self.parameters[key].data
        return spare if spare is not None and _layout(spare) == _layout(data) else None

    def _set(self, key: str, value: Tensor) -> None:
        parameter = self.parameters[key]
        cpu = parameter.device.type == "cpu"
        if key not in self.originals:
            self.originals[key] = parameter.data if cpu else self._copy(key)
        if cpu:
            parameter.data = value
        else:
            parameter.data.copy_(value)

    def _copy(self, key: str) -> Tensor:
        """The weight on the CPU."""
        spare, data = self._spare(key), self.parameters[key].data
        return data.to("cpu", copy=True) if spare is None else spare.copy_(data)

    def _put_back(self, keys: Sequence[str]) -> None:
        for key in keys:
            parameter, original = self.parameters[key], self.originals[key]
            if parameter.device.type == "cpu":
                left, parameter.data = (
                    parameter.data,
                    original.to(parameter.dtype),
                )  # converted since, perhaps
            else:
                left = original
                parameter.data.copy_(original)
            del self.originals[key]
            if left.data_ptr() != parameter.data_ptr() and left.device.type == "cpu":
                self.spare[key] = left


def _layout(value: Tensor) -> tuple[torch.dtype, torch.Size, tuple[int, ...]]:
    return value.dtype, value.shape, value.stride()


def merged(weight: Tensor, changes: Sequence[Change], out: Tensor | None = None, key: str = "") -> Tensor:
    """weight + sum of strength * delta(weight), computed in fp32 and rounded once, in the weight's dtype and layout.

    It is written into ``out`` where that is given. FileError where it leaves the dtype's range.
    """
    result = torch.empty_like(weight) if out is None else out
    pair = _stacked(changes, weight)
    if pair is None:
        _add_all(result, weight, changes)
        return in_range(result, key)
    _add_product(result, weight, *pair)
    return result if result.dtype not in _NARROW and _is_small(*pair) else in_range(result, key)


def _is_small(up: Tensor, down: Tensor) -> bool:
    """Whether no product of these factors can leave the range of fp32, nor of bf16 which is the same."""
    return float(up.abs().max() * down.abs().max()) * up.shape[1] < _SAFE


def _stacked(changes: Sequence[Change], weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """All low-rank changes as one product, strengths in its left factor; None where another is among them."""
    ups, downs = [], []
    for delta, strength in changes:
        if not isinstance(delta, LowRank) or delta.mid is not None:
            return None
        ups.append(matrix(delta.up, weight) * (delta.scale * strength))
        downs.append(matrix(delta.down, weight))
    return (ups[0], downs[0]) if len(ups) == 1 else (torch.cat(ups, 1), torch.cat(downs))


def _add_product(result: Tensor, weight: Tensor, up: Tensor, down: Tensor) -> None:
    """weight + up down, rows at a time on the CPU: what is added to stays in the cache, and little of it is in fp32."""
    rank, columns = down.shape
    rows = max(_CHUNK // columns, rank) if weight.device.type == "cpu" else len(weight)
    direct = (
        result.dtype == weight.dtype == torch.float32 and result.is_contiguous() and weight.is_contiguous()
    )
    scratch = None if direct else torch.empty(min(rows, len(weight)), columns, device=weight.device)
    for begin in range(0, len(weight), rows):
        own = slice(begin, begin + rows)
        part, into = weight[own], result[own]
        if scratch is None:
            torch.addmm(part.flatten(1), up[own], down, out=into.view(len(into), -1))
            continue
        total = scratch[: len(part)]
        total.view(part.shape).copy_(part)
        into.copy_(total.addmm_(up[own], down).view(part.shape))


def _add_all(result: Tensor, weight: Tensor, changes: Sequence[Change]) -> None:
    """weight + every change, each of the whole weight."""
    exact = weight.float().contiguous()
    direct = result.dtype == torch.float32 and result.is_contiguous()
    total = result.copy_(exact) if direct else exact.clone()
    for delta, strength in changes:
        delta.add_to(total, exact, strength)
    if not direct:
        result.copy_(total)


def in_range(result: Tensor, key: str) -> Tensor:
    """A merged weight as it is. FileError where it left the range of its dtype."""
    if not _finite(result):
        raise FileError(
            f"with these adapters {key} leaves the range of {str(result.dtype).removeprefix('torch.')}",
            todo="lower their weights or load the model in bf16 or fp32",
        )
    return result


def _finite(value: Tensor) -> bool:
    """Neither NaN nor infinite: both reach the extremes."""
    value = value.float() if value.dtype.itemsize == 1 else value
    return bool(torch.isfinite(torch.stack(value.aminmax())).all())


def _same(one: Sequence[Change], other: Sequence[Change]) -> bool:
    return len(one) == len(other) and all(
        a[0] is b[0] and a[1] == b[1] for a, b in zip(one, other, strict=True)
    )
