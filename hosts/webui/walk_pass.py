"""What our panels ask of the walk that comes next, put around the sampler's function: the first pass, or hires fix."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...core.errors import SigmaGraftError
from .control_model import device_of, patcher_of
from .walk import Walk

_MARK = "sigmagraft_pass"


@dataclass(frozen=True)
class Part:
    """What one panel has act: `begin` as the walk begins, `networks` on the device as long as it lasts, and
    (object, attribute, value) in the places of the host's own.
    """

    begin: Callable[[Walk], None]
    networks: Sequence[nn.Module] = ()
    swaps: Sequence[tuple[Any, str, Any]] = ()


class Pass:
    """The parts of one pass, by the panel that asks: Forge asks twice before hires fix, and means once."""

    def __init__(self, p: Any) -> None:
        self.p = p
        self.parts: dict[str, Part] = {}
        self.noise: Any = None
        self.refusal: SigmaGraftError | None = None
        self._lent: list[tuple[Any, Any]] = []  # (patcher, the host's own)

    def put(self, panel: str, part: Part, noise: Tensor) -> None:
        """This panel's part, in the place of what it asked before."""
        self.parts[panel], self.noise = part, noise
        self._lend(part.networks)

    def walk(self, func: Any, model: Any, x: Tensor, *args: Any, **named: Any) -> Any:
        """The sampler's function with all of it."""
        with ExitStack() as stack:
            stack.callback(self._give_back)
            if self.refusal is not None:
                raise self.refusal
            for network in [one for part in self.parts.values() for one in part.networks]:
                network.to(device_of(self.p))
                stack.callback(network.to, "cpu")
            for owner, name, value in [one for part in self.parts.values() for one in part.swaps]:
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)
            walk = Walk(self.p, model, self.noise, named, stack)
            for part in self.parts.values():
                part.begin(walk)
            return func(model, x, *args, **named)

    def _lend(self, networks: Sequence[nn.Module]) -> None:
        """Counts the networks in the Forges' memory while they sample."""
        patcher = patcher_of(self.p)
        if patcher is None or not networks:
            return
        lent = patcher.clone()
        lent.add_extra_torch_module_during_sampling(nn.ModuleList(networks), cast_to_unet_dtype=False)
        self.p.sd_model.forge_objects.unet = lent
        self._lent.append((lent, patcher))

    def _give_back(self) -> None:
        objects = getattr(self.p.sd_model, "forge_objects", None)
        for lent, patcher in reversed(self._lent):
            if objects is not None and objects.unet is lent:
                objects.unet = patcher
        self._lent.clear()


def pass_of(p: Any) -> Pass:
    """That of the walk that comes next. The sampler's function is this pass's own object, so nothing of it stays."""
    func = p.sampler.func
    found = getattr(func, _MARK, None)
    if found is not None:
        return found
    made = Pass(p)

    @functools.wraps(func)  # hosts look at its signature for what to hand over
    def walk(*args: Any, **named: Any) -> Any:
        return made.walk(func, *args, **named)

    setattr(walk, _MARK, made)
    p.sampler.func = walk
    return made


def refuse(p: Any, error: SigmaGraftError) -> None:
    """Has the walk that comes next end with our message: a host swallows what a script raises."""
    pass_of(p).refusal = error
