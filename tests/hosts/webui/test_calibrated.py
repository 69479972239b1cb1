"""Solvers fitted to a model in the web UIs: files in a folder are samplers that walk levels of their own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.hosts.levels import levels_from_table
from sigmagraft.samplers import ImageNoise, NoiseLevels, drive
from sigmagraft.samplers.calibration import calibrated
from sigmagraft.samplers.calibration_file import save_calibration

from ..test_calibrations import made
from .conftest import ROOT
from .double import FAMILY, TABLE, WebUI, ours
from .test_lists import state

FILE = "dreams 6 Karras.json"  # whose stem a host would read as a sampler and a schedule
SHAPE, SEEDS = (4, 8, 8), [3, 4]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/sigmagraft, where the web UI's modules.paths has it, with a file of six steps."""
    paths: Any = ModuleType("modules.paths")
    paths.models_path = str(tmp_path)
    monkeypatch.setitem(sys.modules, "modules.paths", paths)
    (tmp_path / "sigmagraft").mkdir()
    save_calibration(made(6), tmp_path / "sigmagraft" / FILE)
    return tmp_path / "sigmagraft"


def listed(host: WebUI) -> list[str]:
    return [entry.name for entry in ours(host) if entry.sigmagraft_offer.spec.sigmas]


@pytest.mark.parametrize("kind", FAMILY)
def test_it_walks_its_own_levels_whatever_schedule_is_chosen(
    make: Callable[..., WebUI], folder: Path, kind: str
) -> None:
    host = make(kind)
    host.load_extensions(ROOT)
    spec = calibrated(made(6))
    images = ImageNoise(SEEDS, SHAPE)
    sigmas = torch.tensor(spec.sigmas).tolist()
    levels = levels_from_table(TABLE.tolist())
    alone = drive(spec, lambda x, s: x / (1 + s**2), images.next() * sigmas[0], sigmas, levels=levels)
    for scheduler in ("Automatic", "Karras", "Tan"):
        found = host.generate(FILE, SEEDS, 6, scheduler=scheduler)
        assert torch.allclose(found.samples, alone, rtol=1e-5, atol=1e-6)
        assert (found.sampler.total, found.sampler.model_wrap_cfg.step) == (6, 6)


def test_rectified_flow(make: Callable[..., WebUI], folder: Path) -> None:
    save_calibration(made(5, NoiseLevels.flow(3.0), prediction="flow"), folder / "sd3.json")
    host = make("neo", flow=True)
    host.load_extensions(ROOT)
    assert torch.isfinite(host.generate("sd3.json", SEEDS, 5).samples).all()
    with pytest.raises(OptionError, match="above 1"):
        host.generate(FILE, SEEDS, 6)


def test_no_parser_misreads_its_name(make: Callable[..., WebUI], folder: Path) -> None:
    host = make("reforge")
    host.load_extensions(ROOT)
    for schedule in ("Automatic", "Karras"):
        assert host.sd_samplers.get_sampler_and_scheduler(FILE, schedule) == (FILE, schedule)
    assert host.sd_samplers.samplers_map[FILE.lower()] == FILE


def test_another_number_of_steps_is_refused_with_the_file_s(make: Callable[..., WebUI], folder: Path) -> None:
    host = make("forge")
    host.load_extensions(ROOT)
    for steps in (5, 12):
        with pytest.raises(OptionError, match=rf"dreams 6 Karras\.json: {steps} steps .*its own 6 steps"):
            host.generate(FILE, SEEDS, steps)


def test_options_and_restarts_it_does_not_have_are_refused(make: Callable[..., WebUI], folder: Path) -> None:
    host = make("a1111")
    host.load_extensions(ROOT)
    for words, args in {"eta": ("eta=1",), "restart around": ("", "", "", "2, 1, 0.2, 1.5")}.items():
        with pytest.raises(OptionError, match=words):
            host.generate(FILE, SEEDS, 6, args)


@pytest.mark.parametrize("kind", FAMILY)
def test_a_reload_follows_the_folder(make: Callable[..., WebUI], folder: Path, kind: str) -> None:
    host = make(kind)
    before = state(host)
    host.load_extensions(ROOT)
    assert listed(host) == [FILE]
    save_calibration(made(4), folder / "new.json")
    save_calibration(made(5), folder / FILE)
    host.load_extensions(ROOT)
    assert listed(host) == [FILE, "new.json"]
    assert torch.isfinite(host.generate(FILE, SEEDS, 5).samples).all()
    (folder / FILE).unlink()
    host.load_extensions(ROOT)
    assert listed(host) == ["new.json"]
    host.load_extensions()
    assert state(host) == before


def test_bad_files_leave_the_rest(
    make: Callable[..., WebUI], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "cut.json").write_text((folder / FILE).read_text()[:80])
    host = make("neo")
    with caplog.at_level(logging.WARNING, "sigmagraft"):
        host.load_extensions(ROOT)
    assert listed(host) == [FILE]
    assert caplog.text.count("cut.json") == 1
    assert len(list(ours(host))) > 50


def test_they_can_be_hidden_as_a_family_and_say_what_they_were_fitted_to(
    make: Callable[..., WebUI], folder: Path
) -> None:
    host = make("neo")
    host.load_extensions(ROOT)
    family = calibrated(made()).family
    assert family in host.shared.opts.data_labels["sigmagraft_hidden_families"].component_args()["choices"]
    from sigmagraft.hosts.webui.describe import described
    from sigmagraft.hosts.webui.lists import offer_of

    assert "fitted to dreams.safetensors, cfg 7" in described(offer_of(FILE), None)
    host.shared.opts.data["sigmagraft_hidden_families"] = [family]
    host.load_extensions(ROOT)
    assert listed(host) == []
