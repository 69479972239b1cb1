"""Adapters on a MODEL and a CLIP: patches that ComfyUI merges itself, and wrappers for what moves over the run."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...core.errors import OptionError
from ...loras import Strength
from ...loras.curve import Place, place_of
from ..loras import Acting, Layout, is_ldm, split
from ..loras_moving import Moving
from ..loras_patch import patch
from . import comfy

KEY = "sigmagraft_lora"


def layout_of(model: Any, clip: Any | None) -> Layout | None:
    """The weights of a MODEL and a CLIP by name; None for a model that is not of the SD1, SD2 or SDXL kind."""
    state = _shapes(model.model)
    if not is_ldm(state):
        return None
    return Layout.of(state, None if clip is None else _shapes(clip.patcher.model))


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def apply(model: Any, clip: Any | None, layout: Layout, acting: Acting) -> tuple[Any, Any | None]:
    """Clones of both with these adapters on them; those given stay as they are."""
    fixed, moving = split(acting)
    base = comfy("weight_adapter").WeightAdapterBase
    model, clip = model.clone(), None if clip is None else clip.clone()
    named = {key: (layout.key(key), own) for key, own in fixed.items()}
    patch(model, base, {name: own for key, (name, own) in named.items() if key.startswith("unet.")})
    if clip is not None:
        patch(
            clip.patcher,
            base,
            {name: own for key, (name, own) in named.items() if not key.startswith("unet.")},
        )
    if moving:
        move(model, Moving(moving))
    return model, clip


def move(model: Any, moving: Moving) -> None:
    """Have every evaluation of a MODEL made under these terms, and their memory freed when a walk is over."""
    wrappers = comfy("patcher_extension").WrappersMP

    def evaluate(executor: Any, x: Tensor, t: Tensor, *args: Any, **named: Any) -> Any:
        network = executor.class_obj
        with moving.on(network.diffusion_model, _place(t, args, named), lambda path: _weight(network, path)):
            return executor(x, t, *args, **named)

    def walk(executor: Any, *args: Any, **named: Any) -> Any:
        try:
            return executor(*args, **named)
        finally:
            moving.forget()

    model.add_wrapper_with_key(wrappers.APPLY_MODEL, KEY, evaluate)
    model.add_wrapper_with_key(wrappers.OUTER_SAMPLE, KEY, walk)


def _place(t: Tensor, args: tuple[Any, ...], named: dict[str, Any]) -> Place:
    """Where an evaluation stands; ``args`` are those of apply_model behind x and t."""
    options = named.get("transformer_options") or (args[3] if len(args) > 3 else {})
    sigma = float(t.flatten()[0])
    sigmas = options.get("sample_sigmas")
    return place_of(sigma, sigmas.tolist()) if sigmas is not None else Place(sigma)


def _weight(network: Any, path: str) -> Tensor:
    """A weight of the UNet as the model's file has it, whatever patches are merged into it now."""
    key = f"diffusion_model.{path}"
    weight, _, convert = comfy("model_patcher").get_key_weight(network, key)
    patcher = network.current_patcher
    kept = None if patcher is None else patcher.hook_backup.get(key) or patcher.backup.get(key)
    if kept is not None:
        weight = kept[0]
    return weight if convert is None else convert(weight, inplace=False)


def by_host(model: Any, clip: Any | None, path: str, strength: Strength) -> tuple[Any, Any | None, str]:
    """As ComfyUI's own loader does it, for models of other kinds. OptionError for what that cannot do."""
    if strength.blocks is not None or strength.curves:
        raise OptionError(
            "weights by block or over the run on a model that is not SD1, SD2 or SDXL",
            path,
            todo="disconnect blocks and schedule: ComfyUI's own loader takes one weight",
        )
    tensors = comfy("utils").load_torch_file(path, safe_load=True)
    made = comfy("sd").load_lora_for_models(model, clip, tensors, strength.unet, strength.text)
    kind = type(model.model).__name__
    return (
        *made,
        f"file       {path}\nloaded by  ComfyUI's own loader, as this model ({kind}) is not SD1, SD2 or SDXL",
    )
