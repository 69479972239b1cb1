"""Devices and dtypes, and what to say when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..core.errors import OptionError, OutOfMemory, nearest

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The named device, or the best there is: CUDA, then MPS, then CPU. OptionError where it is not there."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(
            f"unknown device {str(name)!r}", todo=nearest(str(name), available_devices())
        ) from None
    if device.type not in available_devices():
        raise OptionError(f"device {str(name)!r} is not here", todo=nearest(str(name), available_devices()))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"device {str(name)!r} is not here", expected=f"cuda:0 to cuda:{torch.cuda.device_count() - 1}"
        )
    return device


def available_devices() -> list[str]:
    """The kinds of device this torch can use here."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else []), *(["mps"] if _mps() else [])]


def choose_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The named dtype, or what the device runs best: fp16 on CUDA and MPS, fp32 on CPU."""
    if isinstance(name, torch.dtype):
        return name
    if name is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    if name not in DTYPES:
        raise OptionError(f"unknown dtype {name!r}", todo=nearest(name, DTYPES))
    return DTYPES[name]


def vae_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """fp16 activations overflow in SDXL's autoencoder: bf16 where the device has it, else fp32."""
    if dtype != torch.float16:
        return dtype
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def memory_format(network: nn.Module) -> torch.memory_format:
    """The layout a network's convolutions keep their weights in: activations should come in the same.

    Mixed layouts make every convolution reorder its input or its weights: a third slower on CPU.
    """
    for weight in network.parameters():
        if weight.ndim == 4 and min(weight.shape[1:]) > 1:
            last = weight.is_contiguous(memory_format=torch.channels_last)
            return torch.channels_last if last else torch.contiguous_format
    return torch.contiguous_format


def prefer_layout(network: nn.Module, device: torch.device) -> None:
    """channels_last on CUDA, whose convolutions want it; elsewhere the layout of the file, which stays mapped."""
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _mps() -> bool:
    return torch.backends.mps.is_available()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is torch (CUDA, MPS, CPU allocator) or Python saying that memory ran out."""
    text = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
    )


@contextmanager
def memory_errors(doing: str, device: torch.device) -> Iterator[None]:
    """Turns a shortage of memory inside the block into one OutOfMemory that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory on {device} while {doing}",
            todo="lower --batch or --size, choose --dtype fp16 or bf16, or --device cpu",
        ) from error
