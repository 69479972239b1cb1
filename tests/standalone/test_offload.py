"""The runner's networks come to the device as they run, and no weight is read before it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.controlnet.layouts import control_table
from sigmagraft.controlnet.network import ControlNet
from sigmagraft.controlnet.union import UnionControlNet
from sigmagraft.core.errors import OptionError
from sigmagraft.core.keymap import inverse, rename, unet_table
from sigmagraft.standalone.cli import main
from sigmagraft.standalone.pipeline import Pipeline

from ..animate.files import random_motion
from ..controlnet.ip_small import image_encoder, random_adapter
from ..controlnet.ip_small import saved as save_tensors
from ..controlnet.peers import filled, saved
from ..pipelines.test_offload import Emptying, Waiting, order
from .small import UNET, small_model

CPU = torch.device("cpu")
DRAW: dict[str, Any] = {"size": (64, 64), "steps": 3, "seed": 1, "cfg": 4.0}
HINTS = (3, 16, 16, 32, 32, 48, 48, 64, 32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ControlNet, a Union, an IP-Adapter with its encoder, motion modules, a picture."""
    folder = tmp_path_factory.mktemp("offload")
    saved(filled(ControlNet(UNET, HINTS), 2), folder / "control.safetensors")
    union = filled(UnionControlNet(UNET, HINTS, 6), 3)
    table = unet_table(UNET.num_res_blocks, [True, True], True) | control_table(7, len(union.zero_convs))
    named, own = rename(union.state_dict(), inverse(table))
    saved({**named, **{name: union.state_dict()[name] for name in own}}, folder / "union.safetensors")
    save_tensors(random_adapter("ipadapter-plus_sd15", UNET), folder / "plus.safetensors")
    image_encoder().save_pretrained(folder / "image_encoder")
    random_motion(folder / "motion.safetensors", UNET, length=8)
    Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 20).convert("RGB").save(folder / "picture.png")
    return folder


def _bytes(*networks: Any) -> int:
    return sum(tensor.nbytes for network in networks for tensor in network.parameters())


def moved(mode: str) -> tuple[Pipeline, Waiting]:
    """A pipeline whose weights are NaN unless they were brought."""
    pipe, waiting = Pipeline(small_model()), Waiting()
    pipe.share(Emptying(CPU, mode, waiting))
    return pipe, waiting


modes = pytest.mark.parametrize("mode", ["model", "sequential"])


@modes
def test_the_order_of_moves(mode: str) -> None:
    expected = Pipeline(small_model())("a (red:1.2) cat", **DRAW).images[0]
    pipe, waiting = moved(mode)
    found = pipe("a (red:1.2) cat", **DRAW).images[0]
    assert order(waiting.said) == ["text_encoder", "unet", "vae"]
    assert waiting._brought == {}
    away = np.asarray(found, dtype=int) - np.asarray(expected)
    assert abs(away).max() <= 1
    waiting.said.clear()
    picture = Image.new("RGB", (64, 64), "red")
    pipe("a cat", image=picture, strength=0.7, **DRAW)
    assert order(waiting.said) == ["vae", "text_encoder", "unet", "vae"]


@modes
@pytest.mark.parametrize("name", ["control", "union"])
def test_controls_and_image_prompts(files: Path, mode: str, name: str) -> None:
    hint = f"{files / 'picture.png'}"
    model = files / f"{name}.safetensors"
    asked = {
        "control": [
            {"preprocess": "canny", "model": str(model), "image": hint},
            {"model": "reference", "image": hint},
        ],
        "ip_adapter": [f"{files / 'plus.safetensors'}:{hint}"],
    }
    plain = Pipeline(small_model())
    expected = plain("a cat", **DRAW, **asked)
    assert not torch.equal(expected.latents, plain("a cat", **DRAW).latents)
    pipe, waiting = moved(mode)
    found = pipe("a cat", **DRAW, **asked)
    assert torch.equal(found.latents, expected.latents)
    assert waiting._brought == {}
    came = order(waiting.said)
    assert came[:3] == ["image_encoder", "ip_adapter", "text_encoder"]
    assert {*came} == {"image_encoder", "ip_adapter", "text_encoder", "vae", "unet", "adapter"}
    if mode == "model":
        assert waiting.held["adapter"] == _bytes(pipe.model.unet, pipe.controls.open(model).own)
    waiting.said.clear()
    pipe("a cat", **DRAW)
    assert order(waiting.said) == ["text_encoder", "unet", "vae"]


@modes
def test_clips(files: Path, mode: str) -> None:
    plain = Pipeline(small_model())
    pipe, waiting = moved(mode)
    clips = []
    for each in (plain, pipe):
        each.load_motion(files / "motion.safetensors")
        clips.append(each.animate("a cat", **DRAW, frames=3))
    assert torch.equal(clips[0].latents, clips[1].latents)
    assert waiting._brought == {}
    assert {*order(waiting.said)} == {"text_encoder", "unet", "adapter", "vae"}


@modes
def test_a_refiner_takes_the_place_of_the_base(mode: str) -> None:
    plain, second = Pipeline(small_model()), Pipeline(small_model(seed=7))
    expected = plain("a cat", refiner=second, switch=0.6, **DRAW)
    pipe, waiting = moved(mode)
    found = pipe("a cat", refiner=second, switch=0.6, **DRAW)
    assert torch.equal(found.latents, expected.latents)
    assert waiting._brought == {}
    assert order(waiting.said) == ["text_encoder", "unet", "text_encoder_2", "unet_2", "vae"]
    if mode == "model":
        assert waiting.held["unet_2"] == waiting.held["unet"] == _bytes(pipe.model.unet)


def test_what_it_cannot_be_combined_with(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="compiled"):
        Pipeline.load(compile=True, offload="model")
    with pytest.raises(OptionError, match="sequential"):
        Pipeline.load(offload="sequentiel")
    assert main(["a cat", "--offload", "modl"]) == 2
    assert "model" in capsys.readouterr().err
