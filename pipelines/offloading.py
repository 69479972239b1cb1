"""Pipelines whose networks wait on the CPU and come to the device as they run, by diffusers' method names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..core.errors import OptionError
from ..standalone.memory import choose_device
from ..standalone.offload import Offload, offload_of, stages_of
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
        networks = self._networks()
        for offload in self._offloads():
            offload.drop(networks)

    def maybe_free_model_hooks(self) -> None:
        """Nothing is left on the device; every call ends so."""
        for offload in self._offloads():
            offload.end()

    @property
    def offload(self) -> Offload | None:
        """What moves the networks, the UNet first of all."""
        return next(iter(self._offloads()), None)

    @contextmanager
    def offloaded(self) -> Iterator[None]:
        """One call, after which nothing is on the device; components exchanged since the last one are moved too."""
        if (offload := self.offload) is not None:
            ours = (None, offload)
            stages = ({n: e for n, e in stage.items() if offload_of(e) in ours} for stage in self._stages())
            offload.watch(filter(None, stages))
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
        if place.type != "cpu":
            self.offload_to(place, mode)
            return
        self.remove_all_hooks()
        for network in self._networks():
            network.to("cpu")

    def offload_to(self, place: torch.device, mode: str, mover: Any = None) -> None:
        """Sets up the moving; `mover` as `Offload` takes it.

        Pipelines that have some networks in common have one Offload: of all of them only what runs is on the device.
        """
        before = [each for each in self._offloads() if (each.device, each.mode) == (place, mode)]
        self.remove_all_hooks()
        for network in self._networks():
            network.to("cpu")
        offload = before[0] if before and mover is None else Offload(place, mode, mover)
        offload.watch(self._stages())
        if (loras := getattr(self, "loras", None)) is not None:
            loras.before = offload.free

    def _stages(self) -> list[dict[str, nn.Module]]:
        return stages_of(_modules(self.components), TOGETHER)

    def _networks(self) -> list[nn.Module]:
        return [network for stage in self._stages() for network in stage.values()]

    def _offloads(self) -> list[Offload]:
        found = (offload_of(network) for network in self._networks())
        return list(dict.fromkeys(each for each in found if each is not None))


def _modules(components: dict[str, Any]) -> dict[str, list[nn.Module]]:
    """Networks by name; a pipeline may have several ControlNets."""
    listed = {name: part if isinstance(part, (list, tuple)) else [part] for name, part in components.items()}
    return {
        name: own for name, parts in listed.items() if (own := [p for p in parts if isinstance(p, nn.Module)])
    }
