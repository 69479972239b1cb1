"""What the lists of the four web UIs hold with us, after reloads, and without us."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sigmagraft.core.registry import fold
from sigmagraft.samplers import SAMPLERS, SCHEDULES

from .double import FAMILY, WebUI, ours

ROOT = Path(__file__).resolve().parents[3]


def state(host: WebUI) -> Any:
    """Everything of the host's that we may touch, by identity."""
    samplers, schedulers = host.sd_samplers, host.sd_schedulers
    return (
        [id(s) for s in samplers.all_samplers],
        {name: id(s) for name, s in samplers.all_samplers_map.items()},
        dict(samplers.samplers_map),
        [id(s) for s in schedulers.schedulers],
        [id(s) for s in getattr(schedulers, "all_schedulers", ())],
        {name: id(s) for name, s in schedulers.schedulers_map.items()},
        [option.label for option in host.grid.axis_options],
        list(host.shared.opts.data_labels),
        list(samplers.get_sampler_and_scheduler("Euler a", "Karras")),
    )


def test_every_sampler_that_the_host_lacks_is_listed_once(host: WebUI) -> None:
    names = [fold(word) for s in host.sd_samplers.all_samplers for word in (s.name, *s.aliases)]
    known = {SAMPLERS[name].name for name in names if name in SAMPLERS}
    assert known == set(SAMPLERS.names())
    labels = [s.name for s in host.sd_samplers.all_samplers]
    assert len(labels) == len(set(labels))
    assert set(FAMILY[host.name].samplers) < set(labels)
    assert labels[: len(FAMILY[host.name].samplers)] == list(FAMILY[host.name].samplers)


def test_what_the_host_has_stays_the_host_s(host: WebUI) -> None:
    for name in FAMILY[host.name].samplers:
        assert not hasattr(host.sd_samplers.all_samplers_map[name], "sigmagraft_offer")
    for name, label in FAMILY[host.name].schedulers.items():
        assert not hasattr(host.sd_schedulers.schedulers_map[name], "sigmagraft_offer")
        assert host.sd_schedulers.schedulers_map[label].name == name


def test_every_base_schedule_is_listed_once(host: WebUI) -> None:
    listed = [s.name for s in host.sd_schedulers.schedulers]
    assert len(listed) == len(set(listed))
    bases = {SCHEDULES[name].base for name in listed if name in SCHEDULES} | {"bong_tangent"}
    # a schedule "Turbo" would have the parser split the host's own sampler "Euler A Turbo"
    missing = {"turbo"} if host.name == "reforge" else set()
    assert {spec.base for spec in SCHEDULES} - bases == missing


def test_no_name_is_misread_by_the_parser(host: WebUI) -> None:
    for schedule in ("Automatic", "Karras"):
        for entry in host.sd_samplers.all_samplers:
            assert host.sd_samplers.get_sampler_and_scheduler(entry.name, schedule) == (entry.name, schedule)


def test_option_values_are_what_every_api_can_send(host: WebUI) -> None:
    for entry in ours(host):
        assert all(isinstance(value, str | bool | int | float) for value in entry.options.values())
        assert entry.options["scheduler"] in host.sd_schedulers.schedulers_map
        assert all(isinstance(alias, str) for alias in entry.aliases)


def test_a_walk_s_length_is_told_in_evaluations(host: WebUI) -> None:
    by_name = {entry.sigmagraft_offer.name: entry for entry in ours(host)}
    assert by_name["rk4_4s"].total_steps(10) == 40
    assert by_name["tcd"].total_steps(10) == 10


@pytest.mark.parametrize("name", FAMILY)
def test_reloads_leave_one_of_each_and_disabling_leaves_none(make: Callable[..., WebUI], name: str) -> None:
    host = make(name)
    before = state(host)
    host.load_extensions(ROOT)
    once = [s.name for s in host.sd_samplers.all_samplers], [s.name for s in host.sd_schedulers.schedulers]
    axes = [option.label for option in host.grid.axis_options]
    for _ in range(3):
        host.load_extensions(ROOT)
    assert once == (
        [s.name for s in host.sd_samplers.all_samplers],
        [s.name for s in host.sd_schedulers.schedulers],
    )
    assert axes == [option.label for option in host.grid.axis_options]
    assert len(axes) == len(set(axes)) > 20
    host.load_extensions()
    assert state(host) == before


def test_a_name_the_host_brings_later_is_the_host_s(make: Callable[..., WebUI]) -> None:
    host = make("neo")
    host.load_extensions(ROOT)
    assert host.sd_samplers.all_samplers_map["RK4"].sigmagraft_offer.name == "rk4_4s"
    theirs = host.sd_samplers_common.SamplerData("RK4", lambda model: None, ["rk4"], {})
    host.sd_samplers.all_samplers.insert(0, theirs)
    host.load_extensions(ROOT)
    assert host.sd_samplers.all_samplers_map["RK4"] is theirs
    assert [s.name for s in host.sd_samplers.all_samplers].count("RK4") == 1


def test_hidden_schedules_stay_hidden(make: Callable[..., WebUI]) -> None:
    host = make("neo")
    host.shared.opts.hide_schedulers = ["Tan"]
    host.load_extensions(ROOT)
    assert "tan" in [s.name for s in host.sd_schedulers.all_schedulers]
    assert "tan" not in [s.name for s in host.sd_schedulers.schedulers]
    assert "Tan" not in host.sd_schedulers.schedulers_map


def test_settings_leave_families_and_schedules_out(host: WebUI) -> None:
    families = host.shared.opts.data_labels["sigmagraft_hidden_families"].component_args()["choices"]
    gone = SAMPLERS["tcd"].family
    assert gone in families
    host.shared.opts.data["sigmagraft_hidden_families"] = [gone]
    host.shared.opts.data["sigmagraft_hidden_schedules"] = ["Tan"]
    host.load_extensions(ROOT)
    assert gone not in {entry.sigmagraft_offer.spec.family for entry in ours(host)}
    assert "tan" not in host.sd_schedulers.schedulers_map
    assert "rk4_4s" in {entry.sigmagraft_offer.name for entry in ours(host)}


def fail(*args: object) -> None:
    raise RuntimeError("broken")


def test_a_failure_of_ours_is_one_line_and_leaves_the_lists(
    make: Callable[..., WebUI], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = make("forge")
    before = state(host)
    monkeypatch.setattr("sigmagraft.hosts.webui.lists.sampler_data", fail)
    host.load_extensions(ROOT)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[SigmaGraft] could not start: RuntimeError: broken; ")
    assert host.scripts == []
    assert state(host) == before


def test_a_web_ui_too_old_for_us_is_told_in_one_line(
    make: Callable[..., WebUI], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = make("a1111")
    for name in [name for name in sys.modules if name.startswith("sigmagraft.hosts.webui")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "modules.rng")
    monkeypatch.delattr(sys.modules["modules"], "rng")
    host.load_extensions(ROOT)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[SigmaGraft] could not start: ")
    assert "rng" in line
    assert host.scripts == []


def test_axes_are_there_before_the_page_s_event(make: Callable[..., WebUI]) -> None:
    """With --nowebui the hosts lay out the plot before they tell of the page."""
    host = make("a1111")
    called: list[str] = []
    host.call = lambda event, *args: called.append(event)  # type: ignore[method-assign]
    host.load_extensions(ROOT)
    assert "before_ui" in called
    assert any(option.label == "[SigmaGraft] eta" for option in host.grid.axis_options)
