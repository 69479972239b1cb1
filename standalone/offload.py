"""Networks that wait on the CPU and are on the device only while they run.

`model`: a whole network at a time (text encoders, then the UNet, then the VAE), so that the largest one has to fit.
`sequential`: the weights of one layer at a time, for cards on which not even the UNet fits; every step then waits for
the bus. What goes to the device is a copy: the weights stay where they are, mapped from their files or changed by
adapters, and nothing is copied back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..core.blocks import SpatialTransformer
from ..core.errors import OptionError, nearest
from .model import Model
from .text import TextEncoder

MODES = ("model", "sequential")
# weights that a module reads of its children without calling them: where it runs they have to be
READ: Mapping[type[nn.Module], tuple[str, ...]] = {
    TextEncoder: ("text_model.embeddings.position_embedding",),
    SpatialTransformer: ("proj_in", "proj_out"),
}
Stage = Mapping[str, nn.Module]


class Mover(Protocol):
    """Brings weights to the device under a name, and lets go of them by that name."""

    def bring(self, name: str, tensors: Iterable[Tensor]) -> None:
        """The data of every tensor is on the device."""

    def release(self, name: str) -> None:
        """The data is what it was."""


class Copies:
    """Copies on `device`; the originals wait. What was brought under two names stays until both are released."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._brought: dict[str, list[Tensor]] = {}
        self._originals: dict[int, Tensor] = {}

    @torch.inference_mode(False)
    def bring(self, name: str, tensors: Iterable[Tensor]) -> None:
        self._brought[name] = list(tensors)
        for tensor in self._brought[name]:
            if id(tensor) not in self._originals:
                self._originals[id(tensor)] = tensor.data
                self._come(tensor)

    @torch.inference_mode(False)
    def release(self, name: str) -> None:
        leaving = self._brought.pop(name)
        kept = {id(tensor) for own in self._brought.values() for tensor in own}
        for tensor in leaving:
            if id(tensor) not in kept and id(tensor) in self._originals:
                tensor.data = self._originals.pop(id(tensor))

    def _come(self, tensor: Tensor) -> None:
        tensor.data = tensor.data.to(self.device)


class Offload:
    """Moves the networks of `stages`, each under its name; those of one stage are on the device together.

    OptionError for an unknown mode.
    """

    def __init__(
        self, stages: Iterable[Stage], device: torch.device, mode: str = "model", mover: Mover | None = None
    ) -> None:
        check_mode(mode)
        self.device, self.mode = device, mode
        self._mover = mover or Copies(device)
        self._there: list[str] = []  # what is on the device
        self._hooks: list[Any] = []
        for stage in stages:
            for name, network in stage.items():
                self._watch(stage, name, network)

    def free(self) -> None:
        """Nothing is on the device."""
        for name in self._there:
            self._mover.release(name)
        self._there = []

    def remove(self) -> None:
        """Nothing is on the device, and nothing will be moved."""
        self.free()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _watch(self, stage: Stage, name: str, network: nn.Module) -> None:
        """Layers that own weights tell that their network runs: it may be entered by any of its methods."""
        for path, layer in network.named_modules():
            if not _own(layer):
                continue
            if self.mode == "model":
                self._before(layer, lambda stage=stage: self._enter(stage))
            else:
                self._one_by_one(layer, f"{name}.{path}")

    def _enter(self, stage: Stage) -> None:
        if self._there != list(stage):
            self.free()
            for name, network in stage.items():
                self._there.append(name)
                self._mover.bring(name, [*network.parameters(), *network.buffers()])

    def _one_by_one(self, layer: nn.Module, name: str) -> None:
        """A layer's weights stay until the next layer's come; those that are read between children, until it ends."""
        lasting = any(True for _ in layer.children())

        def enter() -> None:
            if not lasting:
                self._leave(lambda each: each.startswith("."))
            self._there.append(name if lasting else f".{name}")
            self._mover.bring(self._there[-1], _own(layer))

        def leave(*_: Any) -> None:
            self._leave(lambda each: each == name)

        self._before(layer, enter)
        if lasting:
            self._hooks.append(layer.register_forward_hook(leave, always_call=True))

    def _leave(self, which: Callable[[str], bool]) -> None:
        for name in [each for each in self._there if which(each)]:
            self._there.remove(name)
            self._mover.release(name)

    def _before(self, layer: nn.Module, enter: Callable[[], None]) -> None:
        """Before the layer runs, with its inputs on the device: who made them may have asked where weights wait."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            enter()
            return tuple(map(self._on, args)), {key: self._on(value) for key, value in kwargs.items()}

        self._hooks.append(layer.register_forward_pre_hook(hook, with_kwargs=True))

    def _on(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value


def check_mode(mode: str, compiled: bool = False) -> None:
    """Raises OptionError for an unknown mode, or for one of a network that is compiled, which keeps its addresses."""
    if mode not in MODES:
        raise OptionError(f"offload {mode!r}", todo=nearest(mode, MODES))
    if compiled:
        raise OptionError("offload of a compiled UNet", todo="leave out one of the two")


@contextmanager
def freeing(offload: Offload | None) -> Iterator[None]:
    """When it ends, nothing is on the device."""
    try:
        yield
    finally:
        if offload is not None:
            offload.free()


def offloaded(model: Model, place: torch.device, mode: str, mover: Mover | None = None) -> Offload:
    """A model whose networks come to `place` as they run; everything else of it is there."""
    model.device = place
    for name in ("scale_factor", "shift_factor"):
        if isinstance(value := getattr(model, name), Tensor):
            setattr(model, name, value.to(place))
    networks = {"unet": [model.unet], "vae": [model.vae], "text_encoder": model.texts}
    return Offload(stages_of(networks, ("unet",)), place, mode, mover)


def _own(layer: nn.Module) -> list[Tensor]:
    """The weights that a layer reads itself, as they are now: adapters may have exchanged them."""
    paths = next((paths for kind, paths in READ.items() if isinstance(layer, kind)), ())
    read = [layer, *(layer.get_submodule(path) for path in paths)]
    return [t for each in read for t in (*each.parameters(False), *each.buffers(False))]


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
