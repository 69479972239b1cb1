"""Networks that wait on the CPU and are on the device only while they run.

`model`: a whole network at a time (text encoders, then the UNet, then the VAE), so that the largest one has to fit.
`sequential`: the weights of one layer at a time, for cards on which not even the UNet fits; every step then waits for
the bus. What goes to the device is a copy: the weights stay where they are, mapped from their files or changed by
adapters, and nothing is copied back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

import torch
from torch import Tensor, nn

from ..core.errors import OptionError, nearest
from .model import Model
from .mover import Copies, Mover, weights_of

MODES = ("model", "sequential")
Stage = Mapping[str, nn.Module]
_Watched = WeakValueDictionary[str, nn.Module]  # a network that nobody needs any more goes


class Offload:
    """Moves the networks it watches, each stage of them when one of its layers runs; a stage is there together.

    OptionError for an unknown mode.
    """

    def __init__(self, device: torch.device, mode: str = "model", mover: Mover | None = None) -> None:
        check_mode(mode)
        self.device, self.mode = device, mode
        self._mover = mover or Copies(device)
        self._there: list[str] = []  # what is on the device
        self._stage: _Watched | None = None  # and of which stage, where whole networks are moved
        self._stages: list[_Watched] = []
        self._hooks: dict[str, list[Any]] = {}
        self._guests: list[nn.Module] = []

    def watch(self, stages: Iterable[Stage]) -> None:
        """Further networks. One that is watched already stays in its stage, and those given with it come there."""
        for given in stages:
            stage = next((s for s in self._stages if {*s.values()} & {*given.values()}), None)
            if stage is None:
                self._stages.append(stage := WeakValueDictionary())
            for name, network in given.items():
                if offload_of(network) is not self:
                    self._add(stage, name, network)

    def guest(self, name: str, network: nn.Module) -> None:
        """One more network until the end of a call, by itself."""
        if offload_of(network) is not self:
            self._guests.append(network)
            self.watch([{name: network}])

    def beside(self, host: nn.Module, name: str, networks: Iterable[nn.Module]) -> None:
        """These are there together with a network until the end of a call, in place of those that were."""
        stage = next(stage for stage in self._stages if host in stage.values())
        self.drop([network for network in self._guests if network in stage.values()])
        for network in networks:
            if offload_of(network) is not self:
                self._guests.append(network)
                self._add(stage, name, network)

    def free(self) -> None:
        """Nothing is on the device."""
        for name in self._there:
            self._mover.release(name)
        self._there, self._stage = [], None

    def end(self) -> None:
        """A call has ended: nothing is on the device, and guests are not watched any more."""
        self.free()
        self.drop(self._guests)

    def drop(self, networks: Iterable[nn.Module]) -> None:
        """These will not be moved; where there are any, nothing is on the device."""
        leaving = [each for each in networks if offload_of(each) is self]
        if leaving:
            self.free()
        for network in leaving:
            self._guests = [each for each in self._guests if each is not network]
            del _OFFLOADS[network]
            for stage in self._stages:
                for name in [name for name, own in stage.items() if own is network]:
                    del stage[name]
                    for hook in self._hooks.pop(name):
                        hook.remove()
        self._stages = [stage for stage in self._stages if stage]

    def remove(self) -> None:
        """Nothing is on the device, and nothing will be moved."""
        self.drop([network for stage in self._stages for network in stage.values()])

    def _add(self, stage: _Watched, name: str, network: nn.Module) -> None:
        """Layers that own weights tell that their network runs: it may be entered by any of its methods."""
        if (other := offload_of(network)) is not None:
            other.drop([network])
        if self._stage is stage:
            self.free()
        while name in self._hooks:
            name = _next(name)
        _OFFLOADS[network], stage[name], self._hooks[name] = ref(self), network, []
        for path, layer in network.named_modules():
            if not weights_of(layer):
                continue
            if self.mode == "model":
                self._before(name, layer, lambda: self._enter(stage))
            else:
                self._one_by_one(name, path, layer)

    def _enter(self, stage: _Watched) -> None:
        if self._stage is stage:
            return
        self.free()
        self._stage = stage
        for name, network in stage.items():
            self._there.append(name)
            self._mover.bring(name, [*network.parameters(), *network.buffers()])

    def _one_by_one(self, network: str, path: str, layer: nn.Module) -> None:
        """A layer's weights stay until the next layer's come; those that are read between children, until it ends."""
        lasting = any(True for _ in layer.children())
        name = f"{network}.{path}"

        def enter() -> None:
            if not lasting:
                self._leave(lambda each: each.startswith("."))
            self._there.append(name if lasting else f".{name}")
            self._mover.bring(self._there[-1], weights_of(layer))

        def leave(*_: Any) -> None:
            self._leave(lambda each: each == name)

        self._before(network, layer, enter)
        if lasting:
            self._hooks[network].append(layer.register_forward_hook(leave, always_call=True))

    def _leave(self, which: Callable[[str], bool]) -> None:
        for name in [each for each in self._there if which(each)]:
            self._there.remove(name)
            self._mover.release(name)

    def _before(self, name: str, layer: nn.Module, enter: Callable[[], None]) -> None:
        """Before the layer runs, with its inputs on the device: who made them may have asked where weights wait."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            enter()
            return tuple(map(self._on, args)), {key: self._on(value) for key, value in kwargs.items()}

        self._hooks[name].append(layer.register_forward_pre_hook(hook, with_kwargs=True))

    def _on(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value


_OFFLOADS: WeakKeyDictionary[nn.Module, ref[Offload]] = WeakKeyDictionary()


def offload_of(network: nn.Module) -> Offload | None:
    """What moves a network."""
    found = _OFFLOADS.get(network)
    return None if found is None else found()


def _next(name: str) -> str:
    """`unet`, `unet_2`, `unet_3`."""
    stem, _, number = name.rpartition("_")
    return f"{stem}_{int(number) + 1}" if number.isdigit() else f"{name}_2"


def check_mode(mode: str, compiled: bool = False) -> None:
    """Raises OptionError for an unknown mode, or for one of a network that is compiled, which keeps its addresses."""
    if mode not in MODES:
        raise OptionError(f"offload {mode!r}", todo=nearest(mode, MODES))
    if compiled:
        raise OptionError("offload of a compiled UNet", todo="leave out one of the two")


@contextmanager
def freeing(offload: Offload | None) -> Iterator[None]:
    """A call: when it ends, nothing is on the device."""
    try:
        yield
    finally:
        if offload is not None:
            offload.end()


def watch_model(offload: Offload, model: Model) -> None:
    """A model whose networks, which are on the CPU, come to the device as they run; everything else of it is there."""
    model.device, model.offload = offload.device, offload
    for name in ("scale_factor", "shift_factor"):
        if isinstance(value := getattr(model, name), Tensor):
            setattr(model, name, value.to(offload.device))
    networks = {"unet": [model.unet], "vae": [model.vae], "text_encoder": model.texts}
    offload.watch(stages_of(networks, ("unet",)))


def stages_of(
    networks: Mapping[str, Sequence[nn.Module]], together: Sequence[str]
) -> list[dict[str, nn.Module]]:
    """A stage for each name, and one for all of `together`, which answer each other within a step."""
    named = {
        name: {f"{name}_{n + 1}" if n else name: network for n, network in enumerate(own)}
        for name, own in networks.items()
    }
    joint = {key: value for name in together for key, value in named.get(name, {}).items()}
    return [joint, *(stage for name, stage in named.items() if name not in together)]
