"""Solvers fitted to a model inside the double: the file's own walk, and what a bad file gets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.hosts.comfyui.calibration_nodes import NONE, CalibratedNode
from sigmagraft.hosts.comfyui.entry import graft
from sigmagraft.hosts.comfyui.levels import sampling_levels
from sigmagraft.samplers import NoiseLevels, drive
from sigmagraft.samplers.calibration import Calibration, calibrated
from sigmagraft.samplers.calibration_file import save_calibration

from ..test_calibrations import made
from . import double
from .test_walks import denoised, patcher

MODELS = {
    "eps": (double.Discrete(), NoiseLevels.discrete()),
    "flow": (double.Flow(3.0), NoiseLevels.flow(3.0)),
}


@pytest.fixture
def models(host: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's models/sigmagraft, and a second folder that its extra_model_paths.yaml names."""
    (tmp_path / "sigmagraft").mkdir()
    (tmp_path / "shared").mkdir()
    paths: Any = ModuleType("folder_paths")
    paths.models_dir = str(tmp_path)
    paths.folder_names_and_paths = {"sigmagraft": ([str(tmp_path / "shared")], set())}
    monkeypatch.setitem(sys.modules, "folder_paths", paths)
    return tmp_path / "sigmagraft"


def files() -> list[str]:
    return CalibratedNode.INPUT_TYPES()["required"]["file"][0]


def walked(file: str, sampling: Any, first: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(end inside the host, x it began with, sigmas)."""
    sampler, sigmas = CalibratedNode().make(file)
    noise, latent = (
        torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(3)),
        torch.zeros(2, 4, 6, 5),
    )
    sigmas = sigmas[first:]
    end = double.Guider(patcher(sampling)).sample(noise, latent, sampler, sigmas, 41)
    return end, sampling.noise_scaling(float(sigmas[0]), noise, latent), sigmas


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("first", [0, 2])
def test_the_walk_is_that_of_the_file(models: Path, kind: str, first: int) -> None:
    """All of it, and its end alone, as SplitSigmas gives it."""
    sampling, levels = MODELS[kind]
    found: Calibration = made(5, levels, prediction=kind)
    save_calibration(found, models / "m-5.json")
    end, x, sigmas = walked("m-5.json", sampling, first)
    asked = sigmas.tolist()
    levels = sampling_levels(sampling)
    assert torch.equal(end, drive(calibrated(found), denoised(sampling), x, asked, levels=levels))
    assert not torch.allclose(end, drive("euler", denoised(sampling), x, asked, levels=levels))


def test_the_dropdown_shows_what_is_in_the_folders(models: Path) -> None:
    assert files() == [NONE]
    save_calibration(made(), models / "m-4.json")
    save_calibration(made(), models.parent / "shared" / "s-4.json")
    (models / "notes.txt").touch()
    assert files() == ["m-4.json", "s-4.json"]


def test_a_bad_file_is_refused_before_anything_runs(models: Path) -> None:
    validate = CalibratedNode.VALIDATE_INPUTS
    (models / "bad.json").write_text("{")
    save_calibration(made(), models / "m-4.json")
    assert files() == ["bad.json", "m-4.json"]
    assert "cannot be read as JSON" in validate("bad.json")
    for absent in (NONE, "gone.json", "../secret.json"):
        assert "put a file that `sigmagraft calibrate` made into models/sigmagraft" in validate(absent)
    assert validate("m-4.json") is validate(None) is True
    with pytest.raises(FileError, match=r"bad\.json"):
        CalibratedNode().make("bad.json")


def test_a_new_fit_under_the_same_name_is_read(models: Path) -> None:
    path = models / "m.json"
    seen = []
    for steps in (4, 5):
        save_calibration(made(steps), path)
        os.utime(path, (steps, steps))
        seen.append((CalibratedNode.IS_CHANGED("m.json"), len(CalibratedNode().make("m.json")[1])))
    assert [count for _, count in seen] == [5, 6]
    assert seen[0][0] != seen[1][0]
    assert CalibratedNode.IS_CHANGED("gone.json") == CalibratedNode.IS_CHANGED() == 0


def test_sigmas_of_another_schedule_are_refused(models: Path) -> None:
    save_calibration(made(), models / "m-4.json")
    sampler, _ = CalibratedNode().make("m-4.json")
    guider = double.Guider(patcher(double.Discrete()))
    with pytest.raises(OptionError, match=r"m-4\.json.*its own 4"):
        guider.sample(
            torch.randn(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), sampler, torch.tensor([9.0, 3.0, 0.0]), 1
        )


@pytest.mark.usefixtures("host")
def test_a_host_without_such_folders_has_the_node_all_the_same() -> None:
    assert "SigmaGraftCalibratedSolver" in graft()[0]
    assert files() == [NONE]
