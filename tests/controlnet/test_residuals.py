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

from .peers import FAMILIES, evaluate, filled, host_of, inputs_of, our_unet, saved, their_control, their_unet

TOLERANCE = 1e-4


def picture(seed: int = 0, size: int = 128) -> Image.Image:
    """Random pixels."""
    array = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(array)


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, np.float32) / 255.0).permute(2, 0, 1)[None]


def time_ids(family: str) -> dict[str, Any]:
    if "addition_embed_type" not in FAMILIES[family]:
        return {}
    g = torch.Generator().manual_seed(9)
    return {
        "text_embeds": torch.randn(2, 32, generator=g),
        "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2),
    }


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
        torch.testing.assert_close(
            ours[("output", len(down) - 1 - n)], tensor * scale, atol=TOLERANCE, rtol=TOLERANCE
        )
    torch.testing.assert_close(ours[("middle", 0)], middle * scale, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_controlnet(family: str, tmp_path: Path) -> None:
    from diffusers import ControlNetModel

    control = their_control(ControlNetModel, family)
    unet = our_unet(their_unet(family))
    told = time_ids(family)
    inputs = inputs_of(family)
    inputs = Inputs(inputs.x, inputs.timesteps, inputs.context, vector(control, told))
    theirs = control(
        inputs.x,
        601,
        inputs.context,
        pixels(picture()).repeat(2, 1, 1, 1),
        added_cond_kwargs=told,
        return_dict=False,
    )
    model = ControlModel.load(saved(control, tmp_path / "control.safetensors"))
    acting = model.acting(Control(model=model, image=picture(), strength=0.7), host_of(unet))
    assert isinstance(acting, ControlNetActing)
    assert_same(acting.residuals(info_of(inputs)), theirs, 0.7)
    assert max(x.abs().max() for x in theirs[0]) > 1e-2


@pytest.mark.parametrize("types", [("canny",), ("openpose", "depth", "repaint")])
def test_union(types: tuple[str, ...], tmp_path: Path) -> None:
    from diffusers import ControlNetUnionModel

    from sigmagraft.controlnet.union import TYPES

    control = their_control(
        ControlNetUnionModel,
        "union",
        conditioning_embedding_out_channels=(16, 32, 96, 256),
        num_control_type=8,
    )
    told, inputs = time_ids("union"), inputs_of("union")
    same = Inputs(inputs.x[:1].repeat(2, 1, 1, 1), inputs.timesteps, inputs.context[:1].repeat(2, 1, 1))
    told = {name: value[:1].repeat(2, 1) for name, value in told.items()}
    inputs = Inputs(same.x, same.timesteps, same.context, vector(control, told))
    pictures = [picture(seed) for seed in range(len(types))]
    indices = [TYPES[name] for name in types]
    mask = torch.zeros(2, 8)
    mask[:, indices] = 1.0
    theirs = control(
        inputs.x,
        601,
        inputs.context,
        [pixels(one).repeat(2, 1, 1, 1) for one in pictures],
        mask,
        indices,
        conditioning_scale=[0.6] * len(types),
        added_cond_kwargs=told,
        return_dict=False,
    )
    model = ControlModel.load(saved(control, tmp_path / "union.safetensors"))
    asked = Control(model=model, image=pictures, types=types, strength=0.6)
    assert_same(
        model.acting(asked, host_of(our_unet(their_unet("union")))).residuals(info_of(inputs)), theirs
    )


@pytest.mark.parametrize("simple", [False, True], ids=["scribble", "rgb"])
def test_sparsectrl(simple: bool, tmp_path: Path) -> None:
    from diffusers import SparseControlNetModel

    settings = {
        k: v for k, v in FAMILIES["sd1"].items() if k in ("block_out_channels", "cross_attention_dim")
    }
    control = their_control_sparse(SparseControlNetModel, settings, simple)
    frames = 4
    g = torch.Generator().manual_seed(5)
    x = torch.randn(2 * frames, 4, 16, 16, generator=g)
    context = torch.randn(2, 5, 48, generator=g).repeat_interleave(frames, 0)
    inputs = Inputs(x, torch.full((2 * frames,), 601.0), context)
    host = host_of(our_unet(their_unet("sd1")))
    hint = pixels(picture())
    if simple:
        hint = host.encode(hint * 2 - 1)
    shown = torch.zeros(2, hint.shape[1], frames, *hint.shape[2:])
    mask = torch.zeros(2, 1, frames, *hint.shape[2:])
    shown[:, :, 2], mask[:, :, 2] = hint, 1.0
    clips = x.unflatten(0, (2, frames)).transpose(1, 2)
    theirs = control(clips, 601, context, shown, conditioning_mask=mask, return_dict=False)
    model = ControlModel.load(saved(control, tmp_path / "sparse.safetensors"))
    assert model.file.kind == "sparsectrl"
    asked = Control(model=model, image=picture(), frames=[2], joint_norm=True)
    assert_same(model.acting(asked, host).residuals(info_of(inputs)), theirs)


def their_control_sparse(kind: Any, settings: dict[str, Any], simple: bool) -> Any:
    more = {
        "conditioning_channels": 4 if simple else 3,
        "use_simplified_condition_embedding": simple,
        "num_attention_heads": 8,
        "motion_num_attention_heads": 8,
        "motion_max_seq_length": 16,
    }
    return filled(kind(**settings, **more), 2)


T2I = [
    ("full_adapter", "sd1", 3, (32, 64, 128, 128), 8),
    ("full_adapter", "sd1", 1, (32, 64, 128, 128), 8),
    ("light_adapter", "sd1", 3, (32, 64, 128), 8),
    ("full_adapter_xl", "sdxl", 3, (64, 128, 192, 192), 16),
]


@pytest.mark.parametrize(("kind", "family", "channels", "widths", "factor"), T2I)
def test_t2i_adapter(
    kind: str, family: str, channels: int, widths: tuple[int, ...], factor: int, tmp_path: Path
) -> None:
    from diffusers import T2IAdapter

    adapter = filled(T2IAdapter(channels, list(widths), 4 if kind == "light_adapter" else 2, factor, kind), 4)
    theirs_unet = their_unet(family)
    unet, inputs, told = our_unet(theirs_unet), inputs_of(family), time_ids(family)
    inputs = Inputs(inputs.x, inputs.timesteps, inputs.context, vector(theirs_unet, told))
    hint = pixels(picture())
    features = adapter(hint.mean(dim=1, keepdim=True) if channels == 1 else hint)
    theirs = theirs_unet(
        inputs.x,
        601,
        inputs.context,
        down_intrablock_additional_residuals=[0.8 * f.repeat(2, 1, 1, 1) for f in features],
        added_cond_kwargs=told,
        return_dict=False,
    )[0]
    model = ControlModel.load(saved(adapter, tmp_path / "t2i.safetensors"))
    acting = model.acting(Control(model=model, image=picture(), strength=0.8), host_of(unet))
    info = info_of(inputs)
    torch.testing.assert_close(evaluate(unet, info, acting.patches()), theirs, atol=TOLERANCE, rtol=TOLERANCE)
    plain = evaluate(unet, info)
    assert (plain - theirs).abs().max() > 1e-2


def test_a_skip_and_its_residual_meet_where_diffusers_adds_them(tmp_path: Path) -> None:
    """The whole UNet under a ControlNet, not only the residuals."""
    from diffusers import ControlNetModel

    control, theirs_unet = their_control(ControlNetModel, "sd1"), their_unet("sd1")
    unet, inputs = our_unet(theirs_unet), inputs_of("sd1")
    down, middle = control(
        inputs.x, 601, inputs.context, pixels(picture()).repeat(2, 1, 1, 1), return_dict=False
    )
    theirs = theirs_unet(
        inputs.x,
        601,
        inputs.context,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        return_dict=False,
    )[0]
    model = ControlModel.load(saved(control, tmp_path / "control.safetensors"))
    acting = model.acting(Control(model=model, image=picture()), host_of(unet))
    ours = evaluate(unet, info_of(inputs), acting.patches())
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


def test_guess_mode_is_diffusers(tmp_path: Path) -> None:
    from diffusers import ControlNetModel

    control = their_control(ControlNetModel, "sd1")
    inputs = inputs_of("sd1", batch=4)
    theirs = control(
        inputs.x[:2],
        601,
        inputs.context[:2],
        pixels(picture()).repeat(2, 1, 1, 1),
        conditioning_scale=0.9,
        guess_mode=True,
        return_dict=False,
    )
    model = ControlModel.load(saved(control, tmp_path / "control.safetensors"))
    asked = Control(model=model, image=picture(), strength=0.9, mode="guess")
    found = model.acting(asked, host_of(our_unet(their_unet("sd1")))).residuals(info_of(inputs))
    assert_same({place: x[:2] for place, x in found.items()}, theirs)
    assert all(not x[2:].any() for x in found.values())


def test_the_ldm_layout_is_the_diffusers_one(tmp_path: Path) -> None:
    from diffusers import ControlNetModel

    from sigmagraft.controlnet.files import open_control

    path = saved(their_control(ControlNetModel, "sd2"), tmp_path / "diffusers.safetensors")
    model = ControlModel.load(path)
    state = {f"control_model.{name}": t for name, t in model.network(None).state_dict().items()}
    again = ControlModel.load(saved(state, tmp_path / "ldm.safetensors"))
    assert open_control(again.file.source).kind == "controlnet"
    for (name, a), (other, b) in zip(
        model.network(None).state_dict().items(), again.network(None).state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b)
