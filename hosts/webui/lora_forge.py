"""Adapters in Forge, reForge and Forge Neo: patches of a clone of their UNet and text encoders, merged by the host."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...core.errors import FileError
from ...loras.fuse import Change, merged
from ..loras import UNET, Acting, Layout, is_ldm, split
from ..loras_moving import Moving
from ..loras_patch import patch
from .lora_place import place
from .lora_switch import Switch

TYPE = "sigmagraft"
"""Forge asks a function of this name for patches of this type."""


def adapter_base() -> type | None:
    """The host's class of patches; None in Forge, which has functions instead."""
    for name in ("backend.patcher.lora", "ldm_patched.modules.lora"):
        adapters = getattr(sys.modules.get(name), "weight_adapter", None)
        if adapters is not None:
            return adapters.WeightAdapterBase
    return None


class ForgeModel:
    """The adapters of one loaded model. The host's own objects are kept, and given back by `off`."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layout = _layout(model.forge_objects_original)
        self._own: tuple[Any, Any] | None = None  # (unet, clip) as the host's own LoRAs left them
        self._made: tuple[Any, Any] | None = None
        self._key: tuple[Any, ...] = ()
        self._switch: Switch | None = None

    def put(self, acting: Acting, name: str) -> None:
        """Exactly these adapters, beside what the host has put on; ``name`` is theirs alone."""
        unet, clip = self._base()
        self.off()
        if not acting or self.layout is None:
            return
        fixed, moving = split(acting)
        key = (name, id(unet), id(clip))
        if self._made is None or self._key != key:
            self._made, self._key = self._clones(unet, clip, fixed, name), key
        self._own = (unet, clip)
        self._set(*self._made)
        if moving:
            made = self._made[0]
            network = made.model.diffusion_model
            self._switch = Switch(network, Moving(moving), place, lambda path: _weight(made, path))

    def off(self) -> None:
        """The host's own objects again."""
        if self._switch is not None:
            self._switch.off()
            self._switch = None
        if self._own is not None:
            self._set(*self._base())
            self._own = None

    def _base(self) -> tuple[Any, Any]:
        """What the host's own LoRAs made, which may be what it was before ours came to it."""
        now = self.model.forge_objects_after_applying_lora
        unet, clip = now.unet, now.clip
        if self._own is not None and self._made is not None:
            unet = self._own[0] if unet is self._made[0] else unet
            clip = self._own[1] if clip is self._made[1] else clip
        return unet, clip

    def _set(self, unet: Any, clip: Any) -> None:
        for objects in (self.model.forge_objects, self.model.forge_objects_after_applying_lora):
            objects.unet, objects.clip = unet, clip

    def _clones(
        self, unet: Any, clip: Any, fixed: Mapping[str, Sequence[Change]], name: str
    ) -> tuple[Any, Any]:
        assert self.layout is not None
        unet, clip = unet.clone(), clip.clone()
        for patcher, ours in ((unet, True), (clip.patcher, False)):
            named = {self.layout.key(k): own for k, own in fixed.items() if k.startswith("unet.") is ours}
            if named:
                _patch(patcher, named, name)
        return unet, clip


def _layout(objects: Any) -> Layout | None:
    """The weights by name; None for a model that is not of the SD1, SD2 or SDXL kind."""
    state = _shapes(objects.unet.model)
    return Layout.of(state, _shapes(objects.clip.patcher.model)) if is_ldm(state) else None


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.named_parameters()}


def _patch(patcher: Any, changes: Mapping[str, Sequence[Change]], name: str) -> None:
    base = adapter_base()
    if base is not None:
        return patch(patcher, base, changes)
    _calculators()[TYPE] = _changed
    entries = {key: (TYPE, tuple(own)) for key, own in changes.items()}
    added = patcher.add_patches(filename=name, patches=entries)
    if lost := set(entries) - set(added):
        raise FileError(
            f"the host has no weight named {sorted(lost)[0]}", expected="a model of Stable Diffusion"
        )


def _changed(weight: Tensor, strength: float, changes: Sequence[Change]) -> Tensor:
    return merged(weight, [(change, own * strength) for change, own in changes])


def _calculators() -> dict[str, Any]:
    return sys.modules["backend.patcher.lora"].extra_weight_calculators


def leave() -> None:
    """Take our function out of Forge's table, where it is."""
    getattr(sys.modules.get("backend.patcher.lora"), "extra_weight_calculators", {}).pop(TYPE, None)


def _weight(patcher: Any, path: str) -> Tensor:
    """A weight of the UNet as the model's file has it, whatever is merged into it now."""
    key = UNET + path
    kept = getattr(patcher, "lora_loader", patcher).backup.get(key)
    if kept is not None:
        return getattr(kept, "weight", kept)
    return patcher.model.get_parameter(key).data
