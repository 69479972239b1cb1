"""Published repositories by their own JSON files and tensor names: every size, prediction and scale is theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sigmagraft.core.family import identify
from sigmagraft.core.fill import skeleton
from sigmagraft.core.parts import Parts, parts_of, shapes
from sigmagraft.standalone.knowledge import latent_scale, model_info
from sigmagraft.standalone.prediction import SD2_BIAS
from sigmagraft.standalone.sizes import network_sizes
from sigmagraft.standalone.source import Source
from sigmagraft.standalone.text import TextEncoder
from sigmagraft.standalone.unet import UNet
from sigmagraft.standalone.vae import VAE

from ..core.manifests import checkpoint, configs

CPU = torch.device("cpu")
# repository -> (UNet, VAE, text encoders; family, task, prediction, latent scale, training size)
PUBLISHED: dict[str, tuple[list[str], tuple[Any, ...]]] = {
    "runwayml/stable-diffusion-v1-5": (
        ["sd15_unet", "sd15_vae", "sd15_text_encoder"],
        ("sd1", "base", "eps", 0.18215, 512),
    ),
    "runwayml/stable-diffusion-inpainting": (
        ["sd15_inpaint_unet", "sd15_vae_oldattn", "sd15_text_encoder"],
        ("sd1", "inpaint", "eps", 0.18215, 512),
    ),
    "stabilityai/stable-diffusion-2-1": (
        ["sd21_unet", "sd21_vae", "sd21_text_encoder"],
        ("sd2", "base", "v", 0.18215, 768),
    ),
    "stabilityai/stable-diffusion-2-inpainting": (
        ["sd2_inpaint_unet", "sd21_vae", "sd21_text_encoder"],
        ("sd2", "inpaint", "eps", 0.18215, 512),
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": (
        ["sdxl_base_unet", "sdxl_base_vae", "sdxl_text_encoder", "sdxl_text_encoder_2"],
        ("sdxl", "base", "eps", 0.13025, 1024),
    ),
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": (
        ["sdxl_inpaint_unet", "sdxl_base_vae", "sdxl_text_encoder", "sdxl_text_encoder_2"],
        ("sdxl", "inpaint", "eps", 0.13025, 1024),
    ),
    "stabilityai/stable-diffusion-xl-refiner-1.0": (
        ["sdxl_refiner_unet", "sdxl_base_vae", "sdxl_text_encoder_2"],
        ("sdxl-refiner", "base", "eps", 0.13025, 1024),
    ),
}


def source(repository: str) -> Source:
    """The repository as a folder would be read; its tensors have shapes and no data."""
    parts = Parts()
    for name in PUBLISHED[repository][0]:
        found = parts_of(checkpoint(f"diffusers_{name}"))
        parts.unet, parts.vae = parts.unet or found.unet, parts.vae or found.vae
        parts.texts += found.texts
        parts.openclip += found.openclip
    said = configs()[repository]
    names = ("unet", "vae", "text_encoder", "text_encoder_2")
    known = {name: said[f"{name}/config.json"] for name in names if f"{name}/config.json" in said}
    known["scheduler"] = said.get("scheduler/scheduler_config.json", {})
    return Source(repository, parts, configs=known)


@pytest.mark.parametrize("repository", PUBLISHED)
def test_what_is_known_of_it(repository: str) -> None:
    found = source(repository)
    identity = identify(shapes(found.parts.unet))
    info = model_info(found, identity, None, None)
    scale, moved = latent_scale(found, identity, info, CPU)
    assert (info.family, info.task, info.prediction, scale, info.native_size) == PUBLISHED[repository][1]
    assert moved == 0


@pytest.mark.parametrize("repository", PUBLISHED)
def test_the_configs_say_what_the_shapes_say(repository: str) -> None:
    """Heads and activations leave no shapes: what is guessed without a config is what the config says."""
    found = source(repository)
    told = network_sizes(found)
    found.configs = {}
    assert network_sizes(found)[1:] == told[1:]
    guessed, unet = network_sizes(found)[0], told[0]
    widths = [
        unet.model_channels * m
        for m, depth in zip(unet.channel_mult, unet.transformer_depth, strict=True)
        if depth
    ]
    assert [unet.heads(width) for width in widths] == [guessed.heads(width) for width in widths]


@pytest.mark.parametrize("repository", PUBLISHED)
def test_every_tensor_has_its_place(repository: str) -> None:
    found = source(repository)
    unet, vae, texts = network_sizes(found)
    with skeleton():
        networks = [UNet(unet), VAE(vae), *(TextEncoder(text) for text in texts)]
    for network, tensors in zip(
        networks, [found.parts.unet, found.parts.vae, *found.parts.texts], strict=True
    ):
        assert shapes(tensors) == {name: tuple(value.shape) for name, value in network.state_dict().items()}


def test_the_base_variant_of_sd21_differs_only_in_its_scheduler() -> None:
    found = source("stabilityai/stable-diffusion-2-1")
    found.configs["scheduler"] = {"_class_name": "PNDMScheduler", "prediction_type": "epsilon"}
    found.configs["unet"] = {**found.configs["unet"], "sample_size": 64}
    info = model_info(found, identify(shapes(found.parts.unet)), None, None)
    assert (info.prediction, info.native_size) == ("eps", 512)
    assert SD2_BIAS in found.parts.unet


def test_the_refiner_folder_has_only_its_second_text_encoder(tmp_path: Path) -> None:
    from .files import write_folder

    folder = write_folder(tmp_path / "f")
    (folder / "text_encoder").rename(folder / "text_encoder_2")
    index = json.loads((folder / "model_index.json").read_text())
    index["text_encoder_2"] = index.pop("text_encoder")
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "text_encoder_2" / "config.json").write_text('{"hidden_act": "gelu"}')
    from sigmagraft.standalone.load import load_model

    assert load_model(folder).texts[0].config.act == "gelu"
