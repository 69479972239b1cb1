"""Networks from tensors that still lie in their files: mapped where nothing changes, streamed where something does.

Same dtype on the CPU: the parameters are views of the mapped file, no byte is copied and none is read before its
first use. Another dtype or device: tensor by tensor through one small buffer, so that the source never stays in
memory beside its converted copy. Peak memory is the weights in the dtype they run in, plus the buffer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .entry import Entry, Pages
from .errors import FileError

BUFFER = 4 << 20  # bytes read at a time when converting: stays in the cache
SMALL = 1 << 14  # tensors up to this many elements are checked whole, larger ones at SAMPLES places
SAMPLES = 8
Progress = Callable[[int, int], None]
Network = TypeVar("Network", bound=nn.Module)


class _Skeleton(TorchFunctionMode):
    """Creates parameters on the meta device and skips their initialisation: they are replaced at once."""

    _CREATE = (torch.empty, torch.zeros, torch.ones)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func in self._CREATE:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def skeleton() -> AbstractContextManager[Any]:
    """Inside it, modules are built without memory and without initial values."""
    return _Skeleton()


@dataclass
class Filler:
    """One load: where to, in what dtype, and how far it has come. Use as a context: it closes the files it opened."""

    dtype: torch.dtype
    device: torch.device
    progress: Progress | None = None
    total: int = 0
    done: int = 0
    _pages: Pages = field(default_factory=Pages)
    _files: dict[Path, BinaryIO] = field(default_factory=dict)
    _buffer: Tensor | None = None

    def __enter__(self) -> Filler:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def build(
        self,
        make: Callable[[], Network],
        tensors: Mapping[str, Entry],
        what: str,
        dtype: torch.dtype | None = None,
    ) -> Network:
        """A network with these weights, in eval mode. FileError where names or shapes differ, or a weight is NaN."""
        with skeleton():
            network = make()
        _check(network, tensors, what)
        wanted = sorted(tensors.items(), key=lambda item: (str(item[1].file), item[1].offset))
        weights = {name: self._load(name, entry, dtype or self.dtype) for name, entry in wanted}
        network.load_state_dict(weights, assign=True)
        return network.requires_grad_(False).eval()

    def _load(self, name: str, entry: Entry, dtype: torch.dtype) -> Tensor:
        if not entry.dtype.is_floating_point:
            raise FileError(
                f"tensor {name!r} holds {short_name(entry.dtype)}", entry.file, "floating-point weights"
            )
        if entry.dtype == dtype and self.device.type == "cpu" and entry.scale is None:
            value = self._pages.tensor(entry)
            finite = _sampled_finite(value)
        elif entry.stride is not None or entry.scale is not None or entry.numel == 0:
            value = self._whole(entry, dtype)
            finite = is_finite(value)
        else:
            value, finite = self._streamed(entry, dtype)
        if not finite:
            raise FileError(
                _not_finite(name, entry, dtype), entry.file, todo="this file is damaged; use another copy"
            )
        self.done += entry.nbytes
        if self.progress:
            self.progress(self.done, max(self.total, self.done))
        return value

    def _whole(self, entry: Entry, dtype: torch.dtype) -> Tensor:
        """A strided or scaled tensor, which is converted in one piece."""
        value = Pages().tensor(entry)
        if entry.scale is not None:
            scale = Pages().tensor(entry.scale).float()
            value = value.float() * scale.reshape(scale.shape + (1,) * (value.ndim - scale.ndim))
        return value.to(self.device, dtype, copy=True).contiguous()

    def _streamed(self, entry: Entry, dtype: torch.dtype) -> tuple[Tensor, bool]:
        """Read a contiguous tensor piece by piece into its new dtype and place."""
        target = torch.empty(entry.shape, dtype=dtype, device=self.device)
        flat = target.view(-1)
        step = BUFFER // entry.dtype.itemsize
        finite = True
        for start in range(0, entry.numel, step):
            count = min(step, entry.numel - start)
            source = self._read(entry, start, count)
            piece = flat[start : start + count].copy_(source)
            finite = finite and is_finite(piece if self.device.type == "cpu" else source)
        return target, finite

    def _read(self, entry: Entry, start: int, count: int) -> Tensor:
        if self._buffer is None:
            self._buffer = torch.empty(BUFFER, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        if entry.file not in self._files:
            self._files[entry.file] = entry.file.open("rb", buffering=0)
        file, size = self._files[entry.file], entry.dtype.itemsize
        file.seek(entry.offset + start * size)
        view = memoryview(self._buffer.numpy())[: count * size]  # type: ignore[arg-type]
        while len(view):
            got = file.readinto(view)  # type: ignore[attr-defined]
            if not got:
                raise FileError("the file ends early", entry.file, todo="download or copy it again")
            view = view[got:]
        return self._buffer[: count * size].view(entry.dtype)


def _check(network: nn.Module, tensors: Mapping[str, Entry], what: str) -> None:
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    missing = [name for name in wanted if name not in tensors]
    extra = [name for name in tensors if name not in wanted]
    wrong = [name for name in wanted if name in tensors and tensors[name].shape != wanted[name]]
    where = next((entry.file for entry in tensors.values()), None)
    if missing:
        raise FileError(
            f"the {what} lacks {_some(missing)}", where, todo="the file is incomplete or another kind"
        )
    if wrong:
        name = wrong[0]
        raise FileError(f"the {what}'s {name!r} is {tensors[name].shape}", where, expected=f"{wanted[name]}")
    if extra:
        raise FileError(
            f"the {what} has {_some(extra)} nobody knows", where, todo="this variant is not supported"
        )


def _some(names: list[str]) -> str:
    return f"{len(names)} tensors, such as {names[0]!r}," if len(names) > 1 else f"tensor {names[0]!r}"


def is_finite(value: Tensor) -> bool:
    """Neither NaN nor infinite anywhere: both reach the extremes, one pass and one small result."""
    value = value.float() if value.dtype.itemsize == 1 else value
    return not value.numel() or all(math.isfinite(extreme.item()) for extreme in value.aminmax())


def _sampled_finite(value: Tensor) -> bool:
    """As `is_finite`, but a large mapped tensor only in places: reading it all here would cost the load its speed.

    What goes wrong in practice (a merge that overflowed, a broken cast) fills whole tensors or reaches norms and
    biases, which are small.
    """
    if value.numel() <= SMALL or not value.is_contiguous():
        return is_finite(value)
    flat, length = value.view(-1), SMALL // SAMPLES
    starts = torch.linspace(0, flat.numel() - length, SAMPLES).long().tolist()
    return all(is_finite(flat[start : start + length]) for start in starts)


def _not_finite(name: str, entry: Entry, dtype: torch.dtype) -> str:
    if not is_finite(Pages().tensor(entry)):
        return f"tensor {name!r} holds NaN or infinite values"
    return f"tensor {name!r} holds values too large for {short_name(dtype)}"


def short_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def size_of(parts: Iterable[Mapping[str, Entry]]) -> int:
    """Bytes of all these tensors in their files."""
    return sum(entry.nbytes for part in parts for entry in part.values())
