"""The arguments of a pipeline's call: names and defaults as a table, read into one object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from ..core.errors import OptionError, nearest

START = {"prompt": None}
IMAGE = {"image": None}
MASK = {"image": None, "mask_image": None, "masked_image_latents": None}
DEPTH = {"image": None, "depth_map": None}
SIZE = {"height": None, "width": None}
MAP = {"original_image": None, "map": None}
CROP = {"padding_mask_crop": None}
RUN = {
    "num_inference_steps": 50,
    "timesteps": None,
    "sigmas": None,
    "guidance_scale": 7.5,
    "negative_prompt": None,
    "num_images_per_prompt": 1,
    "eta": 0.0,
    "generator": None,
    "latents": None,
    "prompt_embeds": None,
    "negative_prompt_embeds": None,
    "ip_adapter_image": None,
    "ip_adapter_image_embeds": None,
    "output_type": "pil",
    "return_dict": True,
    "cross_attention_kwargs": None,
    "guidance_rescale": 0.0,
    "clip_skip": None,
    "callback_on_step_end": None,
    "callback_on_step_end_tensor_inputs": ("latents",),
}
XL = {
    "prompt_2": None,
    "negative_prompt_2": None,
    "pooled_prompt_embeds": None,
    "negative_pooled_prompt_embeds": None,
    "original_size": None,
    "crops_coords_top_left": (0, 0),
    "target_size": None,
    "negative_original_size": None,
    "negative_crops_coords_top_left": (0, 0),
    "negative_target_size": None,
    "denoising_end": None,
}
XL_IMAGE = {"denoising_start": None, "aesthetic_score": 6.0, "negative_aesthetic_score": 2.5}


def read(
    table: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], owner: str
) -> SimpleNamespace:
    """Every argument of `table` with its value. OptionError for one that is not there or is given twice."""
    if len(args) > len(table):
        raise OptionError(f"{len(args)} arguments", owner, f"at most {len(table)}")
    placed = dict(zip(table, args, strict=False))
    for name in kwargs:
        if name not in table:
            raise OptionError(f"unknown argument {name!r}", owner, todo=nearest(name, table))
        if name in placed:
            raise OptionError(f"two values for {name!r}", owner)
    return SimpleNamespace(**{**table, **placed, **kwargs})


def calls(owner: type, table: Mapping[str, Any], run: Callable[[Any, SimpleNamespace], Any]) -> None:
    """Give `owner` a `__call__` with these arguments, which hands them to `run` in one object."""

    def call(self: Any, *args: Any, **given: Any) -> Any:
        return run(self, read(table, args, given, owner.__name__))

    call.__signature__ = _signature(table)  # type: ignore[attr-defined]
    call.__doc__ = run.__doc__
    owner.__call__ = call  # type: ignore[operator]


def _signature(table: Mapping[str, Any]) -> inspect.Signature:
    """What help() and notebooks show of a call with these arguments."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [inspect.Parameter("self", kind), *(inspect.Parameter(n, kind, default=v) for n, v in table.items())]
    )
