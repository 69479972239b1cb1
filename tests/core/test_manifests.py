"""Every tensor of every base checkpoint and component is used, with an equal shape; every adapter is recognised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sigmagraft.core.errors import FileError
from sigmagraft.core.family import identify
from sigmagraft.core.fill import skeleton
from sigmagraft.core.kinds import adapter_kind, other_kind
from sigmagraft.core.parts import Parts, parts_of, shapes, unflatten
from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.unet import UNet, UNetConfig
from sigmagraft.standalone.vae import VAE, VAEConfig

from .manifests import COMPONENTS, MODELS, checkpoint, shapes_of

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "manifests"
PARTS = {
    "ldm/sd15": ("sd1", "base", 1),
    "ldm/sd15_inpaint": ("sd1", "inpaint", 1),
    "ldm/sd21": ("sd2", "base", 1),
    "ldm/sd2_depth": ("sd2", "depth", 1),
    "ldm/sdxl_base": ("sdxl", "base", 2),
    "ldm/sdxl_refiner": ("sdxl-refiner", "base", 1),
    "diffusers_sd15_unet": ("sd1", "base", 0),
    "diffusers_sd15_inpaint_unet": ("sd1", "inpaint", 0),
    "diffusers_sd21_unet": ("sd2", "base", 0),
    "diffusers_sd2_inpaint_unet": ("sd2", "inpaint", 0),
    "diffusers_sd2_depth_unet": ("sd2", "depth", 0),
    "diffusers_sdxl_base_unet": ("sdxl", "base", 0),
    "diffusers_sdxl_inpaint_unet": ("sdxl", "inpaint", 0),
    "diffusers_sdxl_refiner_unet": ("sdxl-refiner", "base", 0),
}
KINDS = {
    "animatediff_v2_motion_lora": "motion-lora",
    "animatediff_v3_sd15_adapter": "lora",
    "animatediff_": "motion-module",
    "control_lora": "control-lora",
    "controllllite": "lllite",
    "controlnet_union": "controlnet-union",
    "controlnet": "controlnet",
    "ipadapter": "ip-adapter",
    "lora": "lora",
    "sparsectrl": "sparsectrl",
    "t2iadapter_sd15_style": "t2i-style",
    "t2iadapter": "t2i-adapter",
    "textual_inversion": "embedding",
}
OTHERS = {
    "autoencoder_tiny": "taesd",
    "taesd": "taesd",
    "clip_vision": "clip-vision",
    "ddpm": "ddpm",
    "safety_checker": "safety-checker",
    "vae_approx": "vae-approx",
}


def networks(parts: Parts) -> list[tuple[torch.nn.Module, dict]]:
    with skeleton():
        found: list = [(UNet(UNetConfig.from_shapes(shapes(parts.unet))), parts.unet)] if parts.unet else []
        found += [(VAE(VAEConfig.from_shapes(shapes(parts.vae))), parts.vae)] if parts.vae else []
        return found + [(TextEncoder(TextConfig.from_shapes(shapes(t))), t) for t in parts.texts]


@pytest.mark.parametrize("file", MODELS + COMPONENTS)
def test_every_tensor_is_used_with_an_equal_shape(file: str) -> None:
    parts = parts_of(checkpoint(file))
    assert parts.names
    assert parts.unknown == []
    assert set(parts.ignored) <= {
        name for name in parts.ignored if name.endswith(("position_ids", "logit_scale"))
    }
    for network, tensors in networks(parts):
        assert shapes(tensors) == {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("file", PARTS)
def test_family_and_task(file: str) -> None:
    parts = parts_of(checkpoint(file))
    found = identify(shapes(parts.unet))
    assert (found.family.name, found.task, len(parts.texts)) == PARTS[file]


@pytest.mark.parametrize("file", MODELS)
def test_averaged_names_get_their_dots_back(file: str) -> None:
    for name in parts_of(checkpoint(file)).unet:
        assert unflatten("model_ema.diffusion_model" + name.replace(".", "")) == name


@pytest.mark.parametrize("file", sorted(set(shapes_of()) - set(MODELS) - set(COMPONENTS)))
def test_what_is_no_model_is_named(file: str) -> None:
    there = shapes_of()[file]
    kind = next((kind for start, kind in KINDS.items() if file.startswith(start)), None)
    if kind:
        assert adapter_kind(there).name == kind
        return
    other = next(kind for start, kind in OTHERS.items() if file.startswith(start))
    assert adapter_kind(there) is None
    assert other_kind(there).name == other


@pytest.mark.parametrize("file", MODELS + COMPONENTS)
def test_no_model_is_taken_for_an_adapter(file: str) -> None:
    assert adapter_kind(shapes_of()[file]) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_blocks.0.0.weight": (320, 8, 3, 3)}, "instruction"),
        ({"input_blocks.0.0.weight": (320, 7, 3, 3)}, "takes 7 channels"),
        ({"label_emb.weight": (1000, 1280)}, "class label"),
        ({"label_emb.0.0.weight": (1280, 2048)}, "image embedding"),
    ],
)
def test_unsupported_relatives_are_named(change: dict, words: str) -> None:
    unet = shapes(parts_of(checkpoint("ldm/sd21")).unet) | change
    with pytest.raises(FileError, match=words):
        identify(unet)


def test_the_stored_shapes_are_the_measured_ones() -> None:
    if not SHARED.is_dir():
        pytest.skip("the measured manifests are not beside this checkout")
    for name, tensors in shapes_of().items():
        measured = json.loads((SHARED / f"{name}.json").read_text())
        assert tensors == {key: tuple(value[0]) for key, value in measured.items()}
