"""ControlNets' and their kin's residuals are diffusers', in every layout and family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sigmagraft.controlnet.model import ControlModel
from sigmagraft.controlnet.residual import ControlNetActing
from sigmagraft.controlnet.settings import Control
from sigmagraft.core.patch import Inputs, StepInfo
from sigmagraft.standalone.unet import UNetConfig

from .peers import FAMILIES, added, host_of, inputs_of, our_unet, saved, their_control, their_unet

TOLERANCE = 1e-4


def picture(seed: int = 0, size: int = 128) -> Image.Image:
    """Random pixels."""
    array = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(array)


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, np.float32) / 255.0).permute(2, 0, 1)[None]


def time_ids(family: str) -> dict[str, Any]:
    if family != "sdxl":
        return {}
    g = torch.Generator().manual_seed(9)
    return {"text_embeds": torch.randn(2, 32, generator=g), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)}


def vector(theirs: Any, told: dict[str, Any]) -> Tensor | None:
    if not told:
        return None
    embedded = theirs.add_time_proj(told["time_ids"].flatten()).reshape(2, -1)
    return torch.cat([told["text_embeds"], embedded], dim=1)


def info_of(inputs: Inputs, sigma: float = 10.0) -> StepInfo:
    return StepInfo(sigma, branches=("cond", "uncond"), inputs=inputs)


def assert_same(ours: dict, theirs: Any, scale: float = 1.0) -> None:
    down, middle = theirs
    for n, tensor in enumerate(down):
        torch.testing.assert_close(ours[("output", len(down) - 1 - n)], tensor * scale, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(ours[("middle", 0)], middle * scale, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_controlnet(family: str, tmp_path: Path) -> None:
    from diffusers import ControlNetModel

    control = their_control(ControlNetModel, family)
    unet = our_unet(their_unet(family))
    told = time_ids(family)
    inputs = inputs_of(family)
    inputs = Inputs(inputs.x, inputs.timesteps, inputs.context, vector(control, told))
    theirs = control(
        inputs.x, 601, inputs.context, pixels(picture()).repeat(2, 1, 1, 1), added_cond_kwargs=told, return_dict=False
    )
    model = ControlModel.load(saved(control, tmp_path / "control.safetensors"))
    acting = model.acting(Control(model=model, image=picture(), strength=0.7), host_of(unet))
    assert isinstance(acting, ControlNetActing)
    assert_same(acting.residuals(info_of(inputs)), theirs, 0.7)
    assert max(x.abs().max() for x in theirs[0]) > 1e-2
