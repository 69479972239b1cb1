"""Adapters whose strength moves over the run, on a host's UNet: terms that are there during an evaluation only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..core.errors import OptionError
from ..loras import Forward
from ..loras.curve import Place
from ..loras.forward import Prepared, Term, hookable

Weights = Callable[
    [str], Tensor
]  # path of a parameter within the UNet -> the weight as the model's file has it


class Moving:
    """Terms by patch key, made ready for each UNet they meet: a host may have copies, one for each device."""

    def __init__(self, terms: Mapping[str, Sequence[Term]]) -> None:
        self.terms = terms
        self._ready: WeakKeyDictionary[nn.Module, tuple[Forward, Prepared]] = WeakKeyDictionary()

    @contextmanager
    def on(self, unet: nn.Module, place: Place, weights: Weights) -> Iterator[None]:
        """The terms on this UNet as they are at a place of the run; whatever happens within, they come off."""
        if unet not in self._ready:
            self._ready[unet] = self._prepare(unet, weights)
        forward, prepared = self._ready[unet]
        forward.put(prepared)
        try:
            forward.at(place)
            yield
        finally:
            forward.clear()

    def forget(self) -> None:
        """Lets go of what was made ready, and of its memory."""
        self._ready.clear()

    def _prepare(self, unet: nn.Module, weights: Weights) -> tuple[Forward, Prepared]:
        layers = {key: _layer(unet, _path(key)) for key in self.terms}
        forward = Forward(layers, lambda key: _exact(weights(_path(key))))
        return forward, forward.prepare(self.terms)


def _path(key: str) -> str:
    return key.removeprefix("unet.")


def _layer(unet: nn.Module, path: str) -> nn.Module:
    layer = unet.get_submodule(path.rpartition(".")[0])
    if not hookable(layer):
        raise OptionError(
            f"{path} ({type(layer).__name__}) cannot move over the run", todo="give a fixed strength"
        )
    return layer


def _exact(weight: Tensor) -> Tensor:
    """A weight in a type that can be computed with: changes of weights kept in 8 bits need more."""
    return weight if weight.dtype in (torch.float32, torch.float16, torch.bfloat16) else weight.float()
