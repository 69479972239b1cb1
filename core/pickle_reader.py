"""A pickle read without running anything it asks for.

A pickle is a small program that may call any Python function. This reader knows a fixed table of names: those
that rebuild tensors give `Pointer`s to where the tensors lie, harmless leftovers of training frameworks become
inert stand-ins that hold their state and do nothing; every other name is refused by name.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from .errors import FileError

AGAIN = "download or copy the file again"
_STORAGES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_DTYPES = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
]
_INERT_MODULES = (
    *("pytorch_lightning.", "lightning.", "lightning_fabric."),
    *("omegaconf.", "torch.optim.", "ldm.", "sgm."),
)
_PLAIN = (dict, list, set, frozenset, tuple, int, float, bool, str)
_INERT = {
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.nn.modules.container", "ParameterDict"),
    ("torch.serialization", "_get_layout"),
    ("typing", "Any"),
}


class Storage(NamedTuple):
    """A storage a tensor points into: `shift` is in elements from the start of storage `key`."""

    dtype: torch.dtype
    key: str
    numel: int
    shift: int = 0


class Pointer(NamedTuple):
    """A tensor as the pickle describes it, before it is known where its storage lies in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class Inert:
    """Stands in for an object of a training framework: takes whatever it is given and does nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __call__(self, *_args: object, **_kwargs: object) -> Inert:
        return Inert()

    def __setitem__(self, _key: object, _value: object) -> None: ...

    def append(self, _item: object) -> None: ...

    def extend(self, _items: object) -> None: ...


class _Rebuild:
    """A tensor-building function by name; sealed, so a pickle's BUILD cannot alter it."""

    __slots__ = ("_make",)

    def __init__(self, make: Any) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, _state: object) -> None:
        raise FileError("the pickle tries to change a function", todo="do not trust this file")

    def __setattr__(self, name: str, _value: object) -> None:
        self.__setstate__(name)


def _tensor(storage: Storage, offset: int, shape: Any, stride: Any, *_rest: object) -> Pointer:
    return _pointer(storage, offset, shape, stride, storage.dtype)


def _pointer(storage: Storage, offset: Any, shape: Any, stride: Any, dtype: Any) -> Pointer:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise FileError("the pickle builds a tensor out of something else", todo=AGAIN)
    return Pointer(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)), dtype)


def _typed_tensor(
    storage: Storage,
    offset: int,
    shape: Any,
    stride: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    *_rest: object,
) -> Pointer:
    return _pointer(storage, offset, shape, stride, dtype)


def _first(value: Any, *_rest: object) -> Any:
    return value


def _from_type(function: Any, _kind: object, args: Any, _state: object) -> Any:
    if not isinstance(function, _Rebuild):
        raise FileError("the pickle calls something that builds no tensor", todo="do not trust this file")
    return function(*args)


_FUNCTIONS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _Rebuild(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Rebuild(_typed_tensor),
    ("torch._utils", "_rebuild_parameter"): _Rebuild(_first),
    ("torch._utils", "_rebuild_parameter_with_state"): _Rebuild(_first),
    ("torch._tensor", "_rebuild_from_type_v2"): _Rebuild(_from_type),
    ("torch", "Tensor"): Inert,
    ("torch.nn.parameter", "Parameter"): Inert,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "long"): int,
    ("builtins", "unicode"): str,
    ("collections", "defaultdict"): _Rebuild(lambda *_: {}),
    ("collections", "Counter"): _Rebuild(lambda *_: {}),
    **{("builtins", kind.__name__): kind for kind in _PLAIN},
    **{("torch", name): getattr(torch, name) for name in _DTYPES},
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
    **{("torch.cuda", name): dtype for name, dtype in _STORAGES.items()},
    **{("torch.storage", name): dtype for name, dtype in _STORAGES.items()},
    **{name: Inert for name in _INERT},
}


class _Reader(pickle.Unpickler):
    """An unpickler that can only build plain containers, `Pointer`s and `Inert`s."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self._path = path

    def find_class(self, module: str, name: str, /) -> Any:
        module = "builtins" if module == "__builtin__" else module  # Python 2's name, still written today
        known = _FUNCTIONS.get((module, name))
        if known is not None:
            return known
        if f"{module}.".startswith(_INERT_MODULES):
            return Inert
        raise FileError(
            f"refused: the pickle asks for {module}.{name}, which could run code",
            where=self._path,
            expected="weights only",
            todo="use a .safetensors version of this model",
        )

    def persistent_load(self, pid: Any, /) -> Storage:
        kind, dtype, key, _place, numel, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise FileError(f"the pickle stores an unknown kind of data: {kind!r}", where=self._path)
        shift = int(view[0][1]) if view and view[0] else 0
        return Storage(dtype, str(key), int(numel), shift)


def unpickle(file: IO[bytes], path: Path) -> Any:
    """The next pickle in `file`; FileError where it is damaged or asks for a name that could run code."""
    try:
        return _Reader(file, path).load()
    except FileError as error:
        error.where = error.where or str(path)
        raise
    except Exception as error:  # a damaged pickle fails in any way at all
        what = f"damaged or truncated pickle ({type(error).__name__}: {error})"
        raise FileError(what, path, todo=AGAIN) from error
