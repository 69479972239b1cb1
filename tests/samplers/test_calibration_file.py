"""Calibrations on disk: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sigmagraft.core.errors import FileError
from sigmagraft.samplers import NoiseLevels, Recording, drive, recorded, schedule
from sigmagraft.samplers.calibrate_shape import solver_of
from sigmagraft.samplers.calibration import CalibratedSpec, Calibration
from sigmagraft.samplers.calibration_file import load_calibration, save_calibration
from sigmagraft.samplers.foreign import find_method

from .test_calibrate import crooked, started

VE = NoiseLevels.discrete()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    solver = solver_of("dpmpp_2m", schedule("karras", 4, VE), VE)
    made = Calibration(solver.sigmas, solver.rows, {"model": "m", "guidance": 7.0, "size": [512, 512]})
    save_calibration(made, tmp_path / "m-4.json")
    return tmp_path / "m-4.json"


def test_what_is_written_is_read(path: Path) -> None:
    solver = solver_of("dpmpp_2m", schedule("karras", 4, VE), VE)
    found = load_calibration(path)
    assert (found.sigmas, found.rows) == (solver.sigmas, solver.rows)
    assert found.facts == {"model": "m", "guidance": 7.0, "size": [512, 512]}
    assert [file.name for file in path.parent.iterdir()] == ["m-4.json"]


def test_the_file_is_a_sampler_wherever_a_name_is(path: Path) -> None:
    spec = find_method(str(path))
    assert isinstance(spec, CalibratedSpec)
    assert spec.name == str(path)
    x = started(VE)[0]
    plain = drive("dpmpp_2m", crooked, x, spec.sigmas, levels=VE)
    assert drive(spec, crooked, x, spec.sigmas, levels=VE).sub(plain).abs().max() < 1e-9
    half = Recording()
    drive(recorded(str(path), half, stop=2), crooked, x, spec.sigmas, levels=VE)
    assert len(half.answers) == 2


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")


def test_a_file_changed_by_hand_is_refused(path: Path) -> None:
    edited(path, sigmas=[14.0, 3.0, 1.0, 0.5, 0.0])
    with pytest.raises(FileError, match=r"m-4\.json: its contents were changed"):
        find_method(str(path))


def test_another_version_is_refused_by_its_number(path: Path) -> None:
    edited(path, format=2, version="9.9")
    with pytest.raises(FileError, match=r"version 9\.9.*expected format 1"):
        load_calibration(path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"steps": 6}', "\x00\x01", "[" * 100_000])
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=r"this is no calibration.*sigmagraft calibrate"):
        load_calibration(path)


def test_a_missing_part_a_missing_file_and_a_huge_one_are_named(path: Path, tmp_path: Path) -> None:
    told = json.loads(path.read_text())
    del told["rows"]
    path.write_text(json.dumps(told))
    with pytest.raises(FileError, match="rows not in it"):
        load_calibration(path)
    with pytest.raises(FileError, match="cannot read"):
        load_calibration(tmp_path / "none.json")
    (tmp_path / "huge.json").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(FileError, match="too large"):
        load_calibration(tmp_path / "huge.json")


def test_a_folder_that_is_not_there_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot write"):
        save_calibration(load_calibration(path), tmp_path / "no" / "m.json")
