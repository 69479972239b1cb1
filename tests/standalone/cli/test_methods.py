"""CFG++ and k-diffusion's functions on the command line, recorded in the picture and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import installed
from sigmagraft.standalone import output

from .conftest import Answer, Loaded

Run = Callable[..., Answer]
FOREIGN = "k_diffusion:dpmpp_2m_sde"


def is_installed() -> bool:
    try:
        return bool(installed.sampling())
    except OptionError:
        return False


needs_it = pytest.mark.skipif(not is_installed(), reason="k-diffusion is not installed")


@pytest.mark.parametrize(
    "words",
    [
        "--guidance cfg++ --cfg 0.8 --sampler euler_ancestral",
        "--guidance cfg++ --cfg-interval 20%-80%",
        "--cfg 3 --cfg-interval 0.2-5",
        "--guidance cfg++ --guidance pag:scale=2 --guidance freeu",
        "--guidance rescale:share=0.5",
        "--hires 2 --hires-steps 2 --hires-upscaler lanczos --hires-sampler heun",
        "--hires 256x192 --hires-strength 0.4 --guidance dynamic_threshold:mimic=4",
        "--refiner bundled --switch 0.5",
        pytest.param(
            f"--sampler {FOREIGN}:eta=0.5,solver_type=heun --cfg 2",
            marks=needs_it,
        ),
    ],
)
def test_the_picture_makes_itself_again(run: Run, loaded: Loaded, words: str) -> None:
    answer = run("a cat", *words.split(), "--steps", 3, "--seed", 5, "--out", "one.png")
    assert answer.code == 0, answer.err
    assert run("--from-image", "one.png", "--out", "two.png").code == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    first, second = loaded.calls
    for name in ("guidance", "cfg_interval", "sampler", "options", "hires", "refiner", "switch"):
        assert first.get(name) == second.get(name)


def test_another_guidance_does_not_inherit_the_pictures_scale(run: Run, loaded: Loaded) -> None:
    assert run("a cat", "--guidance", "cfg++", "--cfg", 0.8, "--steps", 1, "--out", "one.png").code == 0
    assert run("--from-image", "one.png", "--guidance", "cfg", "--out", "two.png").code == 0
    assert "cfg" not in loaded.calls[1]
    assert "CFG scale: 7" in output.read_text("two.png")


@needs_it
def test_what_the_picture_says(run: Run, loaded: Loaded) -> None:
    assert (
        run("a cat", "--sampler", "k-diffusion:sample_lms:order=3", "--steps", 2, "--out", "one.png").code
        == 0
    )
    found = json.loads(run("inspect", "one.png", "--json").out)["settings"]
    assert (found["sampler"], found["options"]) == ("k_diffusion:lms", {"order": 3})


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--guidance cfgpp", ["--guidance", "'cfg++'"]),
        ("--guidance cfg++ --cfg 7", ["cfg 7", "0 to 3"]),
        ("--cfg-interval 5-2", ["cfg_interval '5-2'", "the lower end first"]),
        pytest.param(
            "--sampler k_diffusion:dpmp_2m",
            ["no sampler 'dpmp_2m'", "'dpmpp_2m'"],
            marks=needs_it,
        ),
        pytest.param(
            "--sampler k_diffusion:lms:ordr=3",
            ["no option 'ordr'", "'order'"],
            marks=needs_it,
        ),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(
    run: Run, loaded: Loaded, words: str, parts: list[str]
) -> None:
    answer = run("a cat", *words.split())
    assert answer.code == 2
    assert loaded.options == {}
    for part in parts:
        assert part in answer.err


def test_without_k_diffusion(run: Run, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise OptionError(
            "k-diffusion is not installed", "k_diffusion", todo="pip install --no-deps k-diffusion"
        )

    monkeypatch.setattr(installed, "sampling", missing)
    answer = run("a cat", "--sampler", "k_diffusion:euler")
    assert answer.code == 2
    assert "k-diffusion is not installed; pip install" in answer.err
