"""--stop-at, --save-state and `resume` as a user runs them; the noise options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sigmagraft.samplers import NOISE_TYPES, Recording
from sigmagraft.standalone import metadata, output

from .conftest import Answer, Loaded

Run = Callable[..., Answer]
WAY = ("a red circle", "--seed", 7, "--steps", 5, "--sampler", "dpmpp_2m_sde", "--size", "64")


def pixels(path: str) -> bytes:
    with Image.open(path.strip()) as image:
        return image.tobytes()


def settings(path: str) -> dict:
    return metadata.from_text(output.read_text(path.strip())).settings


def test_stopped_and_gone_on_with(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    whole = run(*WAY, "--out", "whole.png").out
    half = run(*WAY, "--stop-at", 3, "--save-state", "half.safetensors", "--out", "half.png")
    assert (half.code, half.out, half.err) == (0, "half.safetensors\n", "")
    assert not (tmp_path / "half.png").exists()
    resumed = run("resume", "half.safetensors", "--out", "resumed.png")
    assert (resumed.code, resumed.err) == (0, "")
    assert pixels(resumed.out) == pixels(whole)
    assert settings(resumed.out) == settings(whole)


def test_several_prompts_and_stops(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    way = ("--prompt-file", "prompts.txt", "--batch", 2, "--seed", 3, "--steps", 4, "--sampler", "euler_a")
    whole = run(*way, "--out", "whole.png").out.split()
    run(*way, "--stop-at", 1, "--save-state", "half.safetensors")
    again = run("resume", "half.safetensors", "--stop-at", 2, "--save-state", "half.safetensors", "--json")
    assert json.loads(again.out) == {"images": [], "grid": None, "state": "half.safetensors"}
    resumed = run("resume", "half.safetensors", "--out", "resumed.png").out.split()
    assert [pixels(path) for path in resumed] == [pixels(path) for path in whole]
    assert [settings(path)["prompt"] for path in resumed] == ["a cat", "a dog"]


def test_a_picture_redrawn(run: Run, loaded: Loaded, photo: Path, mask: Path) -> None:
    way = ("--image", photo, "--mask", mask, "--strength", 0.8, "--seed", 1, "--steps", 5, "--resize-mask")
    whole = run("inpaint", "a", *way, "--out", "whole.png").out
    run("inpaint", "a", *way, "--stop-at", 2, "--save-state", "half.safetensors")
    resumed = run("resume", "half.safetensors", "--out", "resumed.png").out
    assert pixels(resumed) == pixels(whole)
    Image.new("RGB", (64, 64), "green").save(photo)
    changed = run("resume", "half.safetensors")
    assert changed.code == 2
    assert "not the recorded one" in changed.err


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("a", "--stop-at", 3), "--stop-at alone (expected --save-state FILE with it)"),
        (("a", "--save-state", "x"), "--save-state alone (expected --stop-at N with it)"),
        ((*WAY, "--stop-at", 5, "--save-state", "x.st"), "stop at step 5 (expected 1 to 4 of 5 steps)"),
        (("a", "--stop-at", 3, "--save-state", "x.st", "--count", 2), "give --batch 2"),
        ((*WAY, "--stop-at", 3, "--save-state", "model.safetensors"), "exists and is no stopped run"),
        (("resume", "model.safetensors"), "model.safetensors: this is no saved state"),
        (("resume", "missing.safetensors"), "missing.safetensors: cannot read"),
        (("resume", "python.safetensors"), "no run of the command line"),
        (("resume",), "FILE"),
    ],
)
def test_mistakes(
    run: Run, loaded: Loaded, checkpoint: Path, tmp_path: Path, words: tuple, match: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(checkpoint.read_bytes())
    recording = Recording()
    loaded.pipe("a", steps=3, seed=0, recording=recording, stop_at=1)
    recording.save(tmp_path / "python.safetensors")
    answer = run(*words)
    assert answer.code == 2
    assert match in answer.err
    assert (tmp_path / "model.safetensors").read_bytes() == checkpoint.read_bytes()


def test_noise_options_reach_the_picture_and_come_back(run: Run, loaded: Loaded) -> None:
    way = ("a", "--steps", 3, "--seed", 1, "--sampler", "euler_a", "--out", "a.png")
    asked = ("--noise", "nv", "--step-noise", "cpu", "--noise-type", "fractal:alpha=0.5")
    path = run(*way, *asked).out
    assert (settings(path)["step_noise"], settings(path)["noise_type"]) == ("cpu", "fractal:alpha=0.5")
    assert pixels(run("--from-image", path.strip(), "--out", "b.png").out) == pixels(path)
    plain = run(*way, "--noise", "nv").out
    assert pixels(plain) != pixels(path)
    assert not settings(plain).keys() & {"step_noise", "noise_type"}
    other = run("--from-image", path.strip(), "--sampler", "dpmpp_2m", "--out", "c.png")
    assert other.code == 0


def test_the_types_of_noise_are_listed(run: Run) -> None:
    table, listed = run("noises").out, json.loads(run("noises", "--json").out)
    assert [row["name"] for row in listed] == NOISE_TYPES.names()
    for row, spec in zip(listed, NOISE_TYPES, strict=True):
        assert f"{spec.name} " in table
        assert row["doc"]
        assert [option["name"] for option in row["options"]] == [option.name for option in spec.options]
        assert all(f"{spec.name}:{option.name}={option.default}" in table for option in spec.options)


def test_one_type_of_noise(run: Run) -> None:
    spec = NOISE_TYPES["fractal"]
    about = run("noises", spec.label).out
    assert about.split("options:")[1].count("fractal:") == len(spec.options)
    assert not any(
        f"{other.name}:" in about or f"\n{other.name} " in about for other in NOISE_TYPES if other != spec
    )
    assert [row["name"] for row in json.loads(run("noises", "fractal", "--json").out)] == ["fractal"]
    unknown = run("noises", "fractl")
    assert unknown.code == 2
    assert "'fractal'" in unknown.err


def test_a_picture_is_no_saved_state(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    answer = run("resume", tmp_path / "picture.png")
    assert answer.code == 2
    assert "picture.png: this is no saved state" in answer.err


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--noise-type", "pinkk", "--sampler", "euler_a"), "'pink'"),
        (("--noise-type", "pink"), "adds no noise to its steps"),
        (("--step-noise", "gpu", "--sampler", "euler_a"), "--step-noise: 'gpu' is unknown"),
    ],
)
def test_bad_noise(run: Run, loaded: Loaded, words: tuple, match: str) -> None:
    answer = run("a", *words)
    assert answer.code == 2
    assert match in answer.err
    assert loaded.calls == []
