"""Controls in the runner: files, folders, texts and tables; the model afterwards is the model before."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from sigmagraft.controlnet.model import ControlModel
from sigmagraft.controlnet.network import ControlNet
from sigmagraft.controlnet.residual import ControlNetActing
from sigmagraft.controlnet.settings import Control
from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.standalone.control_text import from_file, portable, read_control, split
from sigmagraft.standalone.pipeline import Pipeline

from ..controlnet.peers import filled, saved
from .small import UNET, small_model

WORDS: dict[str, Any] = {"prompt": "a red circle", "steps": 3, "seed": 1, "cfg": 3.0, "sampler": "euler"}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(
        filled(ControlNet(UNET, (3, 16, 16, 32, 32, 48, 48, 64, 32)), 2), tmp_path / "canny.safetensors"
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill="red")
    image.save(tmp_path / "house.png")
    return tmp_path / "house.png"


def digest(pipe: Pipeline) -> str:
    weights = pipe.model.unet.state_dict().values()
    return hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in weights)).hexdigest()


def test_text_table_and_object_are_one(pipe: Pipeline, file: Path, picture: Path) -> None:
    text = f"canny:{file}:{picture}:strength=0.8:end=0.7:low=50"
    table = {
        "preprocess": "canny",
        "model": str(file),
        "image": str(picture),
        "strength": 0.8,
        "end": 0.7,
        "low": 50,
    }
    made = Control(
        model=ControlModel.load(file),
        image=Image.open(picture),
        preprocess="canny",
        strength=0.8,
        end=0.7,
        options={"low": 50},
    )
    plain = pipe(**WORDS)
    runs = [pipe(**WORDS, control=control) for control in (text, table, made, [made])]
    assert all(torch.equal(runs[0].latents, run.latents) for run in runs)
    assert not torch.equal(runs[0].latents, plain.latents)
    assert runs[0].settings["control"] == [text]
    assert runs[2].settings["control"][0]["strength"] == 0.8


def test_a_folder_in_diffusers_layout(pipe: Pipeline, file: Path, picture: Path) -> None:
    folder = file.parent / "controlnet"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    file.rename(folder / "diffusion_pytorch_model.safetensors")
    assert pipe(**WORDS, control=f"none:{folder}:{picture}").images


@pytest.mark.parametrize("sampler", ["euler", "tcd", pytest.param("dpm_adaptive", marks=pytest.mark.slow)])
def test_every_image_of_a_batch_is_the_image_alone(pipe: Pipeline, file: Path, sampler: str) -> None:
    pictures = [Image.effect_noise((64, 64), 40 + 60 * k).convert("RGB") for k in range(2)]
    words = WORDS | {"sampler": sampler}
    both = pipe(**words, batch=2, control=Control(model=str(file), image=pictures))
    for k, image in enumerate(pictures):
        alone = pipe(**words | {"seed": 1 + k}, control=Control(model=str(file), image=image))
        torch.testing.assert_close(both.latents[k : k + 1], alone.latents, atol=1e-3, rtol=1e-3)


def test_it_is_opened_once_and_let_go(
    pipe: Pipeline, file: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    load = ControlModel.load
    monkeypatch.setattr(ControlModel, "load", lambda *given: (opened.append("x"), load(*given))[1])
    for _ in range(2):
        pipe(**WORDS, control=[f"canny:{file}:{picture}", f"none:{file}:{picture}:strength=0.2"])
    assert len(opened) == 1
    pipe(**WORDS)
    assert not pipe.controls._opened
    pipe(**WORDS, control=f"canny:{file}:{picture}")
    pipe.controls.unload()
    assert not pipe.controls._opened


@pytest.mark.parametrize("control", ["strength=0", "start=1", "sigma_start=0.0001"])
def test_what_does_not_act_is_the_run_without_it(
    pipe: Pipeline, file: Path, picture: Path, control: str
) -> None:
    plain = pipe(**WORDS)
    assert torch.equal(pipe(**WORDS, control=f"canny:{file}:{picture}:{control}").latents, plain.latents)


@pytest.mark.parametrize("method", ["reference", "reference_adain", "reference_both"])
def test_reference_needs_no_file(pipe: Pipeline, picture: Path, method: str) -> None:
    plain, before = pipe(**WORDS), digest(pipe)
    found = pipe(**WORDS, control=f"{method}:{picture}:fidelity=0.2")
    assert not torch.equal(found.latents, plain.latents)
    assert torch.equal(pipe(**WORDS, control=f"{method}:{picture}:fidelity=0.2").latents, found.latents)
    assert torch.equal(pipe(**WORDS).latents, plain.latents)
    assert digest(pipe) == before


def test_the_picture_that_is_redrawn_is_the_hint(pipe: Pipeline, file: Path, picture: Path) -> None:
    image = Image.open(picture)
    own = pipe(**WORDS, image=image, strength=0.6, control=f"canny:{file}:{picture}")
    assert torch.equal(pipe(**WORDS, image=image, strength=0.6, control=f"canny:{file}").latents, own.latents)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    whole = pipe(**WORDS, image=image, mask=mask, control=f"inpaint:{file}")
    assert whole.images[0].size == (64, 64)
    near = pipe(**WORDS, image=image, mask=mask, only_masked=4, control=f"canny:{file}:{picture}")
    assert near.images[0].size == (64, 64)


class Broken(Exception):
    """Raised inside a hook."""


def test_an_exception_inside_a_hook_leaves_the_model_as_it_was(
    pipe: Pipeline, file: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, before = pipe(**WORDS), digest(pipe)

    def fail(*given: Any) -> Any:
        raise Broken

    with monkeypatch.context() as patched:
        patched.setattr(ControlNetActing, "outputs", fail)
        with pytest.raises(Broken):
            pipe(**WORDS, control=f"canny:{file}:{picture}")
    assert digest(pipe) == before
    assert torch.equal(pipe(**WORDS).latents, plain.latents)


def bad_file(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.safetensors"
    if kind == "broken":
        path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    elif kind == "model":
        saved({"input_blocks.0.0.weight": torch.zeros(4, 4)}, path)
    elif kind == "nan":
        network = filled(ControlNet(UNET, (3, 16, 16, 32, 32, 48, 48, 64, 32)), 2)
        network.middle_block_out[0].weight.data.fill_(float("nan"))
        saved(network, path)
    elif kind == "half":
        network = filled(ControlNet(UNET, (3, 16, 16, 32, 32, 48, 48, 64, 32)), 2)
        state = network.state_dict()
        del state["middle_block_out.0.weight"]
        saved(state, path)
    else:
        wider = ControlNet(
            type(UNET)(**{**vars(UNET), "context_dim": 96}), (3, 16, 16, 32, 32, 48, 48, 64, 32)
        )
        saved(filled(wider, 2), path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("broken", "no tensors|damaged"),
        ("model", "no control file"),
        ("nan", "NaN"),
        ("half", "lacks tensor"),
        ("family", "another family: context 96"),
    ],
)
def test_bad_files_leave_the_model_as_it_was(
    pipe: Pipeline, tmp_path: Path, picture: Path, kind: str, words: str
) -> None:
    plain, before = pipe(**WORDS), digest(pipe)
    with pytest.raises(FileError, match=words):
        pipe(**WORDS, control=f"canny:{bad_file(tmp_path, kind)}:{picture}")
    assert digest(pipe) == before
    assert torch.equal(pipe(**WORDS).latents, plain.latents)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cany:FILE:PICTURE", "did you mean 'canny'"),
        ("canny", "control 'canny'"),
        ("canny:FILE", "without a picture"),
        ("canny:FILE:none.png", "no such picture"),
        ("canny:FILE:PICTURE:strenght=1", "did you mean 'strength'"),
        ("canny:FILE:PICTURE:strength=much", "a number"),
        ("canny:FILE:PICTURE:strength=-1", "0 to 10"),
        ("canny:FILE:PICTURE:weights=1,2", "2 control weights"),
        ("canny:FILE:PICTURE:low=300", "low at most high"),
        ("canny:none.safetensors:PICTURE", "no such file"),
        ("canny:FILE:PICTURE+PICTURE", "2 control pictures for 1 images"),
    ],
)
def test_mistakes_are_told(pipe: Pipeline, file: Path, picture: Path, text: str, words: str) -> None:
    given = text.replace("FILE", str(file)).replace("PICTURE", str(picture))
    with pytest.raises((OptionError, FileError), match=words):
        pipe(**WORDS, control=given)


def test_texts() -> None:
    assert split("canny:a.safetensors:b.png:strength=0.8") == {
        "preprocess": "canny",
        "model": "a.safetensors",
        "image": "b.png",
        "strength": "0.8",
    }
    assert split(r"canny:C:\a.safetensors:D:\b.png")["image"] == r"D:\b.png"
    assert split("reference:b.png:fidelity=1") == {
        "preprocess": "reference",
        "image": "b.png",
        "fidelity": "1",
    }
    assert portable("canny:a:b+c:end=1", str.upper) == "CANNY:A:B+C:end=1"
    read = read_control({"model": "m", "keyframes": "0@1,0.5@0.2", "weights": "1,0.5", "interpolate": "true"})
    assert (read.keyframes, read.weights, read.interpolate) == ([(0.0, 1.0), (0.5, 0.2)], [1.0, 0.5], True)
    assert read_control({"model": "m", "preprocess": "canny+depth"}).types == ["canny", "depth"]


def test_files_of_controls(tmp_path: Path) -> None:
    tables = [{"preprocess": "canny", "model": "a", "strength": 0.5}]
    (tmp_path / "c.json").write_text(json.dumps({"control": tables}))
    assert from_file(tmp_path / "c.json") == tables
    (tmp_path / "d.json").write_text("[1]")
    with pytest.raises(FileError, match="no list of controls"):
        from_file(tmp_path / "d.json")
    (tmp_path / "c.toml").write_text('[[control]]\npreprocess = "canny"\nmodel = "a"\nstrength = 0.5\n')
    if sys.version_info >= (3, 11):
        assert from_file(tmp_path / "c.toml") == tables
    else:
        with pytest.raises(FileError, match=r"3\.11"):
            from_file(tmp_path / "c.toml")
