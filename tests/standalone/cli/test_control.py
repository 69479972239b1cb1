"""--control and the command preprocess as a user types them, and what pictures keep of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sigmagraft.controlnet.network import ControlNet
from sigmagraft.controlnet.preprocess import PREPROCESSORS, preprocess
from sigmagraft.standalone import metadata, output

from ...controlnet.peers import filled, saved
from ..small import UNET
from .conftest import Answer, Loaded
from .test_generate import QUICK, pixels

Run = Callable[..., Answer]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    network = filled(ControlNet(UNET, (3, 16, 16, 32, 32, 48, 48, 64, 32)), 2)
    return saved(network, tmp_path / "canny.safetensors")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = Image.new("RGB", (80, 64), "white")
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill="red")
    image.save(tmp_path / "house.png")
    return tmp_path / "house.png"


def test_a_control_changes_the_picture_and_the_picture_makes_itself_again(
    run: Run, loaded: Loaded, file: Path, picture: Path
) -> None:
    run("a house", "--seed", 1, "--out", "plain.png", *QUICK)
    text = f"canny:{file}:{picture}:strength=0.8:end=0.9"
    answer = run("a house", "--seed", 1, "--control", text, "--out", "control.png", *QUICK)
    assert (answer.code, answer.err) == (0, "")
    assert abs(pixels("control.png") - pixels("plain.png")).max() > 8
    assert metadata.from_text(output.read_text("control.png")).settings["control"] == [text]
    again = run("--from-image", "control.png", "--out", "again.png")
    assert (again.code, again.err) == (0, "")
    assert np.array_equal(pixels("again.png"), pixels("control.png"))


def test_controls_from_a_file(run: Run, loaded: Loaded, file: Path, picture: Path, tmp_path: Path) -> None:
    tables = [{"preprocess": "canny", "model": str(file), "image": str(picture), "strength": 0.8}]
    (tmp_path / "control.json").write_text(json.dumps(tables))
    first = run(
        "a house", "--seed", 1, "--control", f"@{tmp_path / 'control.json'}", "--out", "a.png", *QUICK
    )
    second = run(
        "a house", "--seed", 1, "--control", f"canny:{file}:{picture}:strength=0.8", "--out", "b.png", *QUICK
    )
    assert (first.code, second.code) == (0, 0)
    assert np.array_equal(pixels("a.png"), pixels("b.png"))
    assert metadata.from_text(output.read_text("a.png")).settings["control"] == tables
    assert run("--from-image", "a.png", "--out", "c.png").code == 0
    assert np.array_equal(pixels("c.png"), pixels("a.png"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cany:FILE:PICTURE", "did you mean 'canny'"),
        ("canny:none.safetensors:PICTURE", "no such file"),
        ("canny:PICTURE:PICTURE", "a PNG picture"),
        ("canny:FILE:PICTURE:strenght=1", "did you mean 'strength'"),
        ("@none.json", "no controls can be read"),
    ],
)
def test_mistakes_are_told_before_a_model_loads(
    run: Run, loaded: Loaded, file: Path, picture: Path, text: str, words: str
) -> None:
    given = text.replace("FILE", str(file)).replace("PICTURE", str(picture))
    answer = run("a house", "--control", given, *QUICK)
    assert answer.code == 2
    assert words in answer.err
    assert not loaded.options


def test_preprocess_makes_the_hint(run: Run, picture: Path) -> None:
    answer = run("preprocess", "canny", picture, "edges.png", "--option", "low=50", "--option", "high=90")
    assert (answer.code, answer.out.strip(), answer.err) == (0, "edges.png", "")
    expected = preprocess("canny", Image.open(picture), {"low": 50, "high": 90})
    assert np.array_equal(np.asarray(Image.open("edges.png")), np.asarray(expected))
    assert run("preprocess", "canny", picture, "small.png", "--size", "40x40", "--resize", "fill").code == 0
    assert Image.open("small.png").size == (40, 40)


def test_preprocess_tells_what_there_is(run: Run) -> None:
    listed = run("preprocess").out
    assert all(name in listed for name in PREPROCESSORS.names())
    told = json.loads(run("preprocess", "canny", "--json").out)
    assert [option["name"] for option in told[0]["options"]] == ["low", "high", "blur"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cany", "PICTURE", "o.png"), "did you mean 'canny'"),
        (("canny", "PICTURE"), "NAME IN OUT"),
        (("canny", "none.png", "o.png"), "no such picture"),
        (("canny", "PICTURE", "o.png", "--option", "lo=1"), "did you mean 'low'"),
        (("canny", "PICTURE", "o.xyz"), "cannot be written"),
        (("canny", "PICTURE", "o.png", "--resize", "crpo", "--size", "8"), "did you mean 'crop'"),
        (("canny", "PICTURE", "o.png", "more"), "unexpected"),
    ],
)
def test_mistakes_of_preprocess(run: Run, picture: Path, words: tuple[str, ...], told: str) -> None:
    answer = run("preprocess", *(str(picture) if word == "PICTURE" else word for word in words))
    assert answer.code == 2
    assert told in answer.err
