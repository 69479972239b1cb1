"""Statistics of a loaded model: measured, written by the command, drawn with, and refused where they do not fit."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers.dpm_v3 import dpm_solver_v3
from sigmagraft.samplers.statistics_file import load_statistics, save_statistics
from sigmagraft.standalone import cli, measure
from sigmagraft.standalone.cli import generate
from sigmagraft.standalone.fit_check import fingerprint
from sigmagraft.standalone.pipeline import Pipeline

from .small import small_model

DRAW = {"size": (64, 64), "steps": 3, "seed": 1}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture(scope="module")
def written(pipe: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen: list[tuple[int, int]] = []
    found = measure.measure(
        pipe,
        ["a cat"],
        count=3,
        batch=2,
        rows=8,
        cfg=5.0,
        size=(64, 64),
        progress=lambda *now: seen.append(now),
    )
    assert seen[-1] == (16, 16)
    assert seen == sorted(seen)
    path = tmp_path_factory.mktemp("statistics") / "small.v3.safetensors"
    save_statistics(found, path)
    return path


def test_measured_facts_are_written(written: Path, pipe: Pipeline) -> None:
    found = load_statistics(written)
    assert found.l.shape[1:] == (4, 1, 1)
    assert found.facts["images"] == 3
    assert (found.facts["guidance"], found.facts["size"]) == (5.0, [64, 64])
    assert found.facts["jacobian"] == "forward-mode"
    assert found.facts["fingerprint"] == pytest.approx(fingerprint(pipe.model))


def test_a_pipeline_draws_by_the_file_and_by_the_spec(written: Path, pipe: Pipeline) -> None:
    by_path = pipe("a cat", cfg=5.0, sampler=str(written), **DRAW)
    by_spec = pipe("a cat", cfg=5.0, sampler=dpm_solver_v3(load_statistics(written)), **DRAW)
    plain = pipe("a cat", cfg=5.0, sampler="dpmpp_2m", **DRAW)
    assert by_path.images[0].tobytes() == by_spec.images[0].tobytes() != plain.images[0].tobytes()
    assert by_path.settings["sampler"] == str(written)


def test_no_warning_where_they_fit_one_where_guidance_or_model_is_another(
    written: Path, pipe: Pipeline
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe("a cat", cfg=6.0, sampler=str(written), **DRAW)
    with pytest.warns(UserWarning, match="measured at cfg 5, this is 12"):
        pipe("a cat", cfg=12.0, sampler=str(written), **DRAW)
    with pytest.warns(UserWarning, match="measured on another model"):
        Pipeline(small_model(seed=1))("a cat", cfg=5.0, sampler=str(written), **DRAW)


def test_another_kind_of_model_and_cfg_plus_plus_are_refused(written: Path, pipe: Pipeline) -> None:
    with pytest.raises(OptionError, match="prediction eps, this one's is v"):
        Pipeline(small_model(prediction="v"))("a cat", cfg=5.0, sampler=str(written), **DRAW)
    with pytest.raises(OptionError, match=r"cfg\+\+.*use guidance cfg"):
        pipe("a cat", guidance="cfg++", sampler=str(written), **DRAW)


def test_a_fingerprint_survives_another_dtype_but_not_another_model() -> None:
    one = fingerprint(small_model())
    half = small_model()
    half.unet.bfloat16()
    assert fingerprint(half) == pytest.approx(one, rel=1e-3)
    assert fingerprint(small_model(seed=1)) != pytest.approx(one, rel=1e-3)


def test_the_command(
    tmp_path: Path, pipe: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "load_pipeline", lambda **options: pipe)
    prompts = tmp_path / "words.txt"
    prompts.write_text("a dog\na cat\n", encoding="utf-8")
    path = tmp_path / "mine.v3.safetensors"
    asked = ["--cfg", "1", "--count", "1", "--rows", "4", "--size", "64", "--prompts", str(prompts)]
    assert cli.main(["statistics", "--model", "m.safetensors", "-o", str(path), *asked]) == 0
    assert load_statistics(path).facts["guidance"] == 1.0
    drawn = ["--sampler", f"{path}:order=1", "--cfg", "1", "--steps", "2", "--size", "64"]
    assert cli.main(["a dog", *drawn, "--out", str(tmp_path / "dog.png")]) == 0
    assert (tmp_path / "dog.png").is_file()
    capsys.readouterr()
    assert cli.main(["statistics", "-o", str(tmp_path / "mine.safetensors")]) == 2
    assert "ends in .v3.safetensors" in capsys.readouterr().err
    assert cli.main(["a dog", "--sampler", str(tmp_path / "none.v3.safetensors")]) == 2
    assert "cannot read" in capsys.readouterr().err
