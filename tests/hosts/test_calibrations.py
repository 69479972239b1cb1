"""Calibrations in a host's folder: which are found, that bad ones do no harm, and what the console is told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sigmagraft.hosts.calibrations import calibration_offers, files_in, told_of, warn_of_kind
from sigmagraft.samplers import SAMPLERS, NoiseLevels, schedule
from sigmagraft.samplers.calibrate_shape import solver_of
from sigmagraft.samplers.calibration import Calibration, calibrated
from sigmagraft.samplers.calibration_file import save_calibration

VE, RF = NoiseLevels.discrete(), NoiseLevels.flow(3.0)
FACTS = {"model": "/models/dreams.safetensors", "prediction": "eps", "guidance": 7.0, "size": [512, 768]}


def made(steps: int = 4, levels: NoiseLevels = VE, **facts: object) -> Calibration:
    solver = solver_of("dpmpp_2m", schedule("sgm_uniform", steps, levels), levels)
    return Calibration(solver.sigmas, solver.rows, {**FACTS, **facts})


def test_files_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for file in (one / "m-4.json", one / "sd15" / "m-6.JSON", two / "m-4.json", two / "notes.txt"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = files_in([one, two, tmp_path / "absent"])
    assert found == {"m-4.json": one / "m-4.json", "sd15/m-6.JSON": one / "sd15" / "m-6.JSON"}


def test_bad_files_are_told_once_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_calibration(made(), tmp_path / "good.json")
    whole = (tmp_path / "good.json").read_text()
    (tmp_path / "cut.json").write_text(whole[:100])
    (tmp_path / "edited.json").write_text(whole.replace('"decay": 0', '"decay": 1', 1))
    (tmp_path / "other.json").write_text('{"prompt": "a cat"}')
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.WARNING, "sigmagraft"):
        for _ in range(2):
            assert [offer.name for offer in calibration_offers([tmp_path])] == ["good.json"]
    assert all(caplog.text.count(f"{name}.json") == 1 for name in ("cut", "edited", "other", "dangling"))


def test_a_file_changed_since_is_read_again(tmp_path: Path) -> None:
    counts = []
    for steps in (4, 5):
        save_calibration(made(steps), tmp_path / "m.json")
        (offer,) = calibration_offers([tmp_path])
        counts.append(len(offer.spec.sigmas) - 1)
    assert counts == [4, 5]


def test_what_it_was_fitted_to_is_told_in_a_line() -> None:
    assert told_of(calibrated(made())) == "its own 4 steps, fitted to dreams.safetensors, cfg 7, 512x768"
    assert told_of(calibrated(Calibration(made().sigmas, made().rows))) == "its own 4 steps"
    assert told_of(SAMPLERS["tcd"]) == ""


@pytest.mark.parametrize(
    ("prediction", "levels", "said"),
    [
        ("eps", VE, ""),
        ("v", VE, ""),
        ("flow", RF, ""),
        ("eps", RF, "diffusion, this"),
        ("flow", VE, "flow, this"),
    ],
)
def test_another_kind_of_model_is_told_once(
    caplog: pytest.LogCaptureFixture, prediction: str, levels: NoiseLevels, said: str
) -> None:
    spec = calibrated(made(prediction=prediction), f"{prediction}-on-{levels.is_flow}.json")
    with caplog.at_level(logging.WARNING, "sigmagraft"):
        for _ in range(2):
            warn_of_kind(spec, levels)
    assert len(caplog.messages) == bool(said)
    assert said in caplog.text
