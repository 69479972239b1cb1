"""A small double of ComfyUI's ModelPatcher and its kin: patches in a list, merged when loaded, undone from a backup."""

from __future__ import annotations

import uuid
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Kept = namedtuple("Kept", ["weight", "inplace"])


class WeightAdapterBase:
    """What the hosts' own adapters derive from."""

    name: str

    def calculate_weight(self, *args: Any) -> Tensor:
        raise NotImplementedError


class HostLora(WeightAdapterBase):
    """The host's own: up @ down."""

    name = "lora"

    def __init__(self, loaded_keys: Any, weights: Any) -> None:
        self.loaded_keys, self.weights = loaded_keys, weights

    def calculate_weight(self, weight: Tensor, key: str, strength: float, *rest: Any) -> Tensor:
        up, down = self.weights
        weight += strength * (up @ down).reshape(weight.shape)
        return weight


def calculate_weight(patches: list[Any], weight: Tensor, key: str) -> Tensor:
    """Patches one after the other, each on what the ones before made."""
    for strength, patch, strength_model, offset, function, *_ in patches:
        assert strength_model == 1.0
        weight = patch.calculate_weight(
            weight, key, strength, strength_model, offset, function, torch.float32, None
        )
    return weight


def streamed(patches: list[Any]) -> list[Any]:
    """The patches with copies of their tensors, made as a host that streams weights makes them."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        if isinstance(value, WeightAdapterBase):
            return type(value)(value.loaded_keys, copied(value.weights))  # type: ignore[call-arg]
        if isinstance(value, (tuple, list)):
            return type(value)(copied(item) for item in value)
        return value

    return [(entry[0], copied(entry[1]), *entry[2:]) for entry in patches]


class ModelPatcher:
    """One of several views of a model: clones share its weights and what they were."""

    def __init__(self, model: nn.Module, backup: dict[str, Kept] | None = None) -> None:
        self.model, self.backup, self.hook_backup = model, {} if backup is None else backup, {}
        self.patches: dict[str, list[Any]] = {}
        self.model_options: dict[str, Any] = {}
        self.wrappers: dict[str, list[Callable[..., Any]]] = {}
        self.patches_uuid = uuid.uuid4()

    def clone(self) -> ModelPatcher:
        made = type(self)(self.model, self.backup)
        made.patches = {key: list(own) for key, own in self.patches.items()}
        made.wrappers = {kind: list(own) for kind, own in self.wrappers.items()}
        made.patches_uuid = self.patches_uuid
        return made

    def add_patches(self, patches: dict[str, Any], strength_patch: float = 1.0) -> list[str]:
        known = set(self.model.state_dict())
        added = [key for key in patches if key in known]
        for key in added:
            self.patches.setdefault(key, []).append((strength_patch, patches[key], 1.0, None, None))
        self.patches_uuid = uuid.uuid4()
        return added

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Callable[..., Any]) -> None:
        self.wrappers.setdefault(kind, []).append(wrapper)

    @torch.inference_mode()
    def load(self, stream: bool = False) -> None:
        self.unload()
        for key, patches in self.patches.items():
            parameter = self.model.get_parameter(key)
            self.backup[key] = Kept(parameter.data, False)
            weight = parameter.data.to(torch.float32, copy=True)
            parameter.data = calculate_weight(streamed(patches) if stream else patches, weight, key)

    def unload(self) -> None:
        for key, kept in self.backup.items():
            self.model.get_parameter(key).data = kept.weight
        self.backup.clear()
