"""The functions of an installed k-diffusion: `k_diffusion:dpmpp_2m` is its `sample_dpmpp_2m`.

Its package imports its training code, so that it cannot be imported where it was installed without its requirements.
`sampling.py` alone needs little; it is run as a module of our own, and what is missing fails where it is used.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from ..core.errors import OptionError, nearest

PREFIX = "k_diffusion:"
_PREFIX = re.compile(r"k[-_ ]?diffusion:(?:sample_)?", re.IGNORECASE)
_PRIVATE = "_sigmagraft_k_diffusion"
_OPTIONAL = ("scipy", "torchdiffeq", "torchsde")  # each used by one function or two


def split(name: str) -> str | None:
    """`dpmpp_2m` of `k_diffusion:dpmpp_2m` or `k-diffusion:sample_dpmpp_2m`; None for another name."""
    found = _PREFIX.match(name.strip())
    return name.strip()[found.end() :] if found else None


def functions() -> dict[str, Any]:
    """Every `sample_*` of the installed k-diffusion, by the name without `sample_`. OptionError if there is none."""
    module = sampling()
    return {name[7:]: value for name, value in vars(module).items() if name.startswith("sample_")}


def function(name: str) -> Any:
    """The function `sample_<name>`. Raises OptionError with the nearest names."""
    known = functions()
    if name not in known:
        raise OptionError(f"k-diffusion has no sampler {name!r}", PREFIX + name, todo=nearest(name, known))
    return known[name]


def sampling() -> ModuleType:
    """`k_diffusion.sampling`, of the host where it has been imported. OptionError where it is not installed."""
    return sys.modules.get("k_diffusion.sampling") or _load()


@cache
def _load() -> ModuleType:
    try:
        found = importlib.util.find_spec("k_diffusion")
    except (ImportError, ValueError):
        found = None
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (file := Path(folder, "sampling.py")).is_file():
            return _execute(file)
    raise OptionError("k-diffusion is not installed", PREFIX[:-1], todo="pip install --no-deps k-diffusion")


def _execute(file: Path) -> ModuleType:
    """`file` as a module in a package that holds only the helper it asks for."""
    package, utils = ModuleType(_PRIVATE), ModuleType(f"{_PRIVATE}.utils")
    package.__path__ = []
    package.utils = utils  # type: ignore[attr-defined]
    utils.append_dims = _append_dims  # type: ignore[attr-defined]
    missing = {name: _Missing(name) for name in _OPTIONAL if importlib.util.find_spec(name) is None}
    spec = importlib.util.spec_from_file_location(f"{_PRIVATE}.sampling", file)
    assert isinstance(spec, ModuleSpec)  # it has a loader: the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    ours = {_PRIVATE: package, utils.__name__: utils, **missing}
    sys.modules.update(ours)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise OptionError(
            f"k-diffusion's sampling.py: {error}", file, todo="pip install k-diffusion"
        ) from error
    finally:
        for name in ours:
            sys.modules.pop(name, None)
    return module


def _append_dims(x: Tensor, dims: int) -> Tensor:
    return x[(...,) + (None,) * (dims - x.ndim)]


class _Missing(ModuleType):
    """Stands for a module that is not installed: whatever is taken from it fails when it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Missing(self.__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise OptionError(
            f"this sampler of k-diffusion needs {self.__name__}", todo=f"pip install {self.__name__}"
        )
