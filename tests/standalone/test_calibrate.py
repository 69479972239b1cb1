"""A loaded model calibrated: fitted, kept, gone on with, drawn with, and refused where it does not fit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.samplers import NonFiniteError
from sigmagraft.samplers.calibration import Calibration, calibrated
from sigmagraft.samplers.calibration_file import load_calibration, save_calibration
from sigmagraft.standalone import calibrate as module
from sigmagraft.standalone import cli
from sigmagraft.standalone.calibrate import Sizes, calibrate
from sigmagraft.standalone.calibrate_prompts import PROMPTS, SCENES, prompts_for
from sigmagraft.standalone.cli import generate
from sigmagraft.standalone.compare import Comparison, Entry
from sigmagraft.standalone.pipeline import Pipeline
from sigmagraft.standalone.ways import Way

from .small import small_model

FEW = Sizes(count=4, held_out=2, batch=4, teacher=10, rounds=2)
ASKED: dict[str, Any] = {"steps": 3, "cfg": 4.0, "size": (32, 32), "sizes": FEW}
DRAW: dict[str, Any] = {"size": (32, 32), "seed": 1, "cfg": 4.0}


@pytest.fixture(scope="module", autouse=True)
def _one_round_of_trial() -> Iterator[None]:
    """So that two rounds are enough to see both, on some images and on all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIAL_ROUNDS", 1)
        yield


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture(scope="module")
def made(pipe: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Calibration, Path]:
    folder = tmp_path_factory.mktemp("made")
    found = calibrate(pipe, folder=folder, **ASKED)
    save_calibration(found, folder / "small-3.json")
    return found, folder / "small-3.json"


def test_it_beats_the_general_samplers_on_what_was_held_out(made: tuple[Calibration, Path]) -> None:
    found, path = made
    error = found.facts["error"]
    assert error["held_out"] < error["general"]
    assert found.steps == 3
    assert (found.facts["guidance"], found.facts["size"]) == (4.0, [32, 32])
    assert found.facts["walked"] == {"prompts": 24, "images": 4, "held_out": 2}
    assert load_calibration(path).facts == found.facts


@pytest.mark.parametrize(
    "info", [{"prediction": "v"}, {"prediction": "flow", "shift": 3.0}], ids=["v", "flow"]
)
def test_v_and_flow_models_are_fitted_as_well(info: dict[str, Any]) -> None:
    found = calibrate(Pipeline(small_model(**info)), **{**ASKED, "steps": 2})
    assert found.facts["error"]["held_out"] < found.facts["error"]["general"]


def test_a_stopped_one_goes_on_to_the_same_solver(
    pipe: Pipeline, made: tuple[Calibration, Path], tmp_path: Path
) -> None:
    whole = 0

    def stop(done: int, total: int) -> None:
        nonlocal whole
        whole = done
        if done > 4 * FEW.teacher + 60:  # in the middle of the fit
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(pipe, folder=tmp_path, progress=stop, **ASKED)
    (kept,) = tmp_path.iterdir()
    assert kept.name.endswith(".walks.safetensors")
    again = calibrate(pipe, folder=tmp_path, **ASKED)
    assert again.sigmas == pytest.approx(made[0].sigmas, rel=1e-4)
    for one, other in zip(again.rows, made[0].rows, strict=True):
        assert one.weights == pytest.approx(other.weights, abs=1e-3)


def test_walks_are_kept_for_another_number_of_steps(pipe: Pipeline, made: tuple[Calibration, Path]) -> None:
    told: list[int] = []
    calibrate(
        pipe, folder=made[1].parent, progress=lambda done, total: told.append(done), **{**ASKED, "steps": 2}
    )
    teacher = (FEW.count + FEW.held_out) * FEW.teacher
    assert FEW.count * FEW.teacher in told  # counted at once, not walked
    assert not any(FEW.count * (FEW.teacher - 1) < done < FEW.count * FEW.teacher for done in told)
    assert max(told) > teacher


def test_walks_of_another_making_are_refused(pipe: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        calibrate(pipe, folder=tmp_path, progress=_stop_late, **ASKED)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes().replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(FileError, match="remove it to begin anew"):
        calibrate(pipe, folder=tmp_path, **ASKED)


def _stop_late(done: int, total: int) -> None:
    if done > (FEW.count + FEW.held_out) * FEW.teacher + 8:
        raise KeyboardInterrupt


def test_a_fit_that_gains_nothing_is_refused(
    pipe: Pipeline, made: tuple[Calibration, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GAIN", 1e-6)
    with pytest.raises(OptionError, match=r"no better than .* on what was held out.*--prompts"):
        calibrate(pipe, folder=made[1].parent, **ASKED)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 1}, r"steps 1 \(expected 2 to 20\)"),
        ({"prompts": ["a", "b", "a", "b"]}, "2 prompts.*4 or more"),
        ({"guidance": "cfg++"}, "cfg"),
        ({"cgf": 3.0}, "unknown setting 'cgf'"),
        ({"size": (33, 32)}, "size 33x32"),
    ],
)
def test_what_cannot_be_fitted_is_refused(pipe: Pipeline, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        calibrate(pipe, **{**ASKED, **changed})


def test_a_model_that_answers_nan_is_named(tmp_path: Path) -> None:
    broken = small_model()
    with torch.no_grad():
        next(broken.unet.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="NaN"):
        calibrate(Pipeline(broken), folder=tmp_path, **ASKED)
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_draws_by_the_file_and_by_the_spec(pipe: Pipeline, made: tuple[Calibration, Path]) -> None:
    found, path = made
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_path = pipe("a cat", sampler=str(path), **DRAW)
        by_spec = pipe("a cat", sampler=calibrated(found), steps=3, **DRAW)
    assert by_path.images[0].tobytes() == by_spec.images[0].tobytes()
    assert by_path.settings["sampler"] == str(path)
    assert by_path.settings["steps"] == 3
    again = {name: value for name, value in by_path.settings.items() if name not in ("model", "batch")}
    assert pipe(**again).images[0].tobytes() == by_path.images[0].tobytes()


def test_its_schedule_is_its_own(pipe: Pipeline, made: tuple[Calibration, Path]) -> None:
    path = str(made[1])
    for wrong in ({"steps": 8}, {"schedule": "karras"}, {"sigmas": [5.0, 1.0, 0.0]}):
        with pytest.raises(OptionError, match="its own 3 steps"):
            pipe("a cat", sampler=path, **wrong, **DRAW)


def test_part_of_a_walk_redraws_a_picture(pipe: Pipeline, made: tuple[Calibration, Path]) -> None:
    image = pipe("a cat", sampler=str(made[1]), **DRAW).images[0]
    drawn = pipe("a dog", sampler=str(made[1]), image=image, strength=0.7, **DRAW)
    assert drawn.images[0].size == (32, 32)


def test_another_model_guidance_or_size_is_warned_of_and_another_kind_refused(
    pipe: Pipeline, made: tuple[Calibration, Path]
) -> None:
    path = str(made[1])
    with pytest.warns(UserWarning, match="fitted at cfg 4, this is 9"):
        pipe("a cat", sampler=path, **{**DRAW, "cfg": 9.0})
    with pytest.warns(UserWarning, match="fitted at 32x32, this is 32x64"):
        pipe("a cat", sampler=path, **{**DRAW, "size": (32, 64)})
    with pytest.warns(UserWarning, match="fitted on another model"):
        Pipeline(small_model(seed=1))("a cat", sampler=path, **DRAW)
    with pytest.raises(OptionError, match="prediction eps, this one's is v"):
        Pipeline(small_model(prediction="v"))("a cat", sampler=path, **DRAW)
    with pytest.raises(OptionError, match=r"fitted under cfg, not cfg\+\+"):
        pipe("a cat", sampler=path, guidance="cfg++", size=(32, 32))


def test_a_comparison_shows_it_beside_the_others(pipe: Pipeline, made: tuple[Calibration, Path]) -> None:
    way = Way(str(made[1]))
    compared = Comparison(
        pipe, "a cat", {"cfg": 4.0, "size": (32, 32), "seed": 3}, Entry(Way("dpmpp_2m", "karras"), "r", 12)
    )
    assert [compared.steps_for(way, n) for n in (2, 3, 10)] == [None, 3, 3]
    entry = compared.entry(way, 3, "3 evaluations")
    assert (entry.evaluations, entry.error) == (3, "")
    assert way.name.endswith("small-3.json own")


def test_the_command(
    tmp_path: Path, pipe: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "load_pipeline", lambda **options: pipe)
    path = tmp_path / "mine.json"
    few = [
        "--count",
        "4",
        "--held-out",
        "4",
        "--teacher",
        "10",
        "--rounds",
        "1",
        "--size",
        "64",
        "--cfg",
        "4",
    ]
    words = tmp_path / "words.txt"
    words.write_text("a dog\na cat\na bird\na fish\n", encoding="utf-8")
    asked = ["calibrate", "--model", "m.safetensors", "--steps", "2", "-o", str(path), *few]
    assert cli.main([*asked, "--prompts", str(words)]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(path)
    assert "minutes" in told.err
    assert "held out" in told.err
    assert load_calibration(path).facts["walked"]["prompts"] == 4
    drawn = [
        "a dog",
        "--sampler",
        str(path),
        "--cfg",
        "4",
        "--size",
        "64",
        "--out",
        str(tmp_path / "dog.png"),
    ]
    assert cli.main(drawn) == 0
    again = ["--from-image", str(tmp_path / "dog.png"), "--out", str(tmp_path / "two.png")]
    assert cli.main([*again, "--model", "m.safetensors"]) == 0
    assert (tmp_path / "dog.png").is_file()
    capsys.readouterr()
    assert cli.main(["calibrate", "--model", "m.safetensors"]) == 2
    assert "--steps" in capsys.readouterr().err
    assert cli.main([*asked[:5], "-o", "mine.txt"]) == 2
    assert "ends in .json" in capsys.readouterr().err
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sigmas": [1.0, 0.0]}))
    assert cli.main(drawn) == 2
    assert "contents were changed" in capsys.readouterr().err


def test_the_command_fits_with_adapters_on(
    tmp_path: Path, pipe: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def fitted(pipe: Pipeline, prompts: list[str], **settings: Any) -> Calibration:
        seen.update(settings)
        raise OptionError("seen")

    monkeypatch.setattr(generate, "load_pipeline", lambda **options: pipe)
    monkeypatch.setattr(module, "calibrate", fitted)
    (tmp_path / "ink.safetensors").write_bytes(b"")
    given = f"{tmp_path / 'ink.safetensors'}:0.5"
    asked = ["calibrate", "--model", "m.safetensors", "--steps", "2", "--resolution", "64", "--lora", given]
    assert cli.main([*asked, "-o", str(tmp_path / "m.json")]) == 2
    assert (seen["loras"], seen["size"], seen["steps"]) == ([given], (64, 64), 2)
    assert "seen" in capsys.readouterr().err


def test_the_bundled_model_walks_scenes_by_whatever_name_it_is_loaded() -> None:
    assert prompts_for("bundled") == prompts_for("/a/folder/scenes.safetensors") == SCENES
    assert prompts_for("dreams.safetensors") == PROMPTS
