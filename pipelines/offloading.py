"""Pipelines whose networks wait on the CPU and come to the device as they run, by diffusers' method names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..core.errors import OptionError
from ..standalone.memory import choose_device
from ..standalone.offload import Offload, stages_of
from .component import Component
from .device import best_device

TOGETHER = ("unet", "controlnet", "motion_adapter")  # they answer each other in every step


class Offloading:
    """For whatever has its networks in ``components``."""

    @property
    def components(self) -> dict[str, Any]:
        """Every component by name."""
        raise NotImplementedError

    def enable_model_cpu_offload(
        self, gpu_id: int | None = None, device: str | torch.device | None = None
    ) -> None:
        """Networks wait on the CPU; each is on the device (None: the best there is) while it runs, whole.

        Where that device is the CPU, nothing has to be moved. OptionError for a device that is not here.
        """
        self._offload("model", gpu_id, device)

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: str | torch.device | None = None
    ) -> None:
        """As enable_model_cpu_offload, one layer at a time: least memory, slowest."""
        self._offload("sequential", gpu_id, device)

    def remove_all_hooks(self) -> None:
        """Networks stay where they are again: on the CPU."""
        if (offload := self.offload) is not None:
            offload.remove()
        for part in self._parts():
            part.offload = None

    def maybe_free_model_hooks(self) -> None:
        """Nothing is left on the device; every call ends so."""
        if (offload := self.offload) is not None:
            offload.free()

    @property
    def offload(self) -> Offload | None:
        """What moves the networks; the same for every pipeline that shares them."""
        return next((part.offload for part in self._parts() if part.offload is not None), None)

    @contextmanager
    def offloaded(self) -> Iterator[None]:
        """One call, after which nothing is on the device."""
        try:
            yield
        finally:
            self.maybe_free_model_hooks()

    def _offload(self, mode: str, gpu_id: int | None, device: str | torch.device | None) -> None:
        place = best_device() if device is None else choose_device(device)
        if gpu_id is not None:
            if place.index not in (None, gpu_id):
                raise OptionError(f"gpu_id {gpu_id} with device {place}", expected="one of the two")
            place = choose_device(f"{place.type}:{gpu_id}")
        self.remove_all_hooks()
        networks = _modules(self.components)
        for own in networks.values():
            for network in own:
                network.to("cpu")
        if place.type == "cpu":
            return
        self.offload_to(place, mode)

    def offload_to(self, place: torch.device, mode: str, mover: Any = None) -> None:
        """Sets up the moving; `mover` as `Offload` takes it."""
        made = Offload(stages_of(_modules(self.components), TOGETHER), place, mode, mover)
        for part in self._parts():
            part.offload = made
        if (loras := getattr(self, "loras", None)) is not None:
            loras.before = made.free

    def _parts(self) -> list[Component]:
        return [
            part for own in _modules(self.components).values() for part in own if isinstance(part, Component)
        ]


def _modules(components: dict[str, Any]) -> dict[str, list[nn.Module]]:
    """Networks by name; a pipeline may have several ControlNets."""
    listed = {name: part if isinstance(part, (list, tuple)) else [part] for name, part in components.items()}
    return {
        name: own for name, parts in listed.items() if (own := [p for p in parts if isinstance(p, nn.Module)])
    }
