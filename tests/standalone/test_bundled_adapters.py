"""The bundled model's adapters are found by their names, and fit it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from sigmagraft import Pipeline
from sigmagraft.controlnet.settings import Control
from sigmagraft.core.errors import FileError
from sigmagraft.standalone import lora_source
from sigmagraft.standalone.bundled import ASSETS, bundled, names_of
from sigmagraft.standalone.control import locate_control
from sigmagraft.standalone.lora_source import Folders, locate_lora

LORAS = names_of("loras")
CONTROLS, MOTIONS, IMAGE_PROMPTS = map(names_of, ("controls", "motion", "ip_adapters"))


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.load("bundled")


@pytest.mark.parametrize("name", LORAS)
def test_every_lora_fits_the_model(pipe: Pipeline, name: str) -> None:
    report = pipe.load_lora_weights(name, adapter_name=name)
    assert not list(report.warnings())
    pipe.delete_adapters(name)


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_fits_the_model(pipe: Pipeline, name: str) -> None:
    hint = Image.new("RGB", (128, 128))
    ImageDraw.Draw(hint).ellipse((30, 40, 80, 90), outline="white")
    request = {"seed": 3, "steps": 2, "cfg": 1.0}
    plain = pipe("a red circle", **request).latents
    held = pipe("a red circle", control=[Control(model=name, image=hint)], **request).latents
    assert (held - plain).abs().max() > 0.1


@pytest.mark.parametrize("name", IMAGE_PROMPTS)
def test_every_image_prompt_fits_the_model(pipe: Pipeline, name: str) -> None:
    picture = Image.new("RGB", (128, 128), (214, 32, 38))
    request = {"seed": 3, "steps": 2, "cfg": 1.0}
    plain = pipe("", **request).latents
    seen = pipe("", ip_adapter=[{"model": name, "images": [picture]}], **request).latents
    assert (seen - plain).abs().max() > 0.1


@pytest.mark.parametrize("name", MOTIONS)
def test_every_motion_module_fits_the_model(pipe: Pipeline, name: str) -> None:
    file = pipe.load_motion(name)
    clip = pipe.animate("a red circle moving left", seed=3, steps=1, cfg=1.0)
    assert len(clip.frames) == file.config.length
    pipe.unload_motion()


def test_own_files_come_first(tmp_path: Path) -> None:
    own = tmp_path / f"{LORAS[0]}.safetensors"
    own.write_bytes(b"")
    assert locate_lora(LORAS[0], Folders([tmp_path])) == own
    assert locate_lora(LORAS[0]).parent == lora_source.BUNDLED
    assert locate_control(CONTROLS[0]).parent == ASSETS / "controls"


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_name_that_is_nearly_a_bundled_one_brings_it_to_mind(with_folder: bool, tmp_path: Path) -> None:
    folders = Folders([tmp_path] if with_folder else [])
    with pytest.raises(FileError, match=f"did you mean .*{LORAS[0]}"):
        locate_lora(LORAS[0].replace("_", "-").upper(), folders)


@pytest.mark.parametrize("kind", ["controls", "motion", "ip_adapters"])
def test_a_name_that_is_nearly_one_of_another_kind(kind: str) -> None:
    name = names_of(kind)[0]
    with pytest.raises(FileError, match=f"did you mean .*{name}"):
        bundled(kind, name[:-1])
    assert bundled(kind, f"owner/{name}") is None  # a hub id
    assert bundled(kind, "watercolour") is None


def test_a_name_like_none_is_told_where_names_come_from() -> None:
    with pytest.raises(FileError, match="give a path"):
        locate_lora("watercolour")


def test_four_steps_of_the_distilled_one_are_nearer_than_four_without(pipe: Pipeline) -> None:
    """Near what 20 steps draw of a plain ground: no word of the prompt is lost in them."""
    prompt, ends = "a large red circle on a blue background", []
    full = pipe(prompt, seed=3, steps=20, cfg=4.0, sampler="dpmpp_2m").latents
    ends.append(pipe(prompt, seed=3, steps=4, cfg=4.0, sampler="dpmpp_2m").latents)
    pipe.load_lora_weights("scenes_tcd", adapter_name="tcd")
    ends.append(pipe(prompt, seed=3, steps=4, cfg=1.0, sampler="tcd").latents)
    pipe.delete_adapters("tcd")
    away = [float(torch.as_tensor(end - full).square().mean()) for end in ends]
    assert away[1] < away[0] / 2
