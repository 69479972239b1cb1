"""docs/samplers.md is current: what samplers declare exactly, and the figures of a few as measured anew."""

from __future__ import annotations

import dataclasses

import pytest

from sigmagraft.samplers import SAMPLERS, SamplerSpec

pytest.importorskip("scipy.integrate")

from sigmagraft.benchmarks import sampler_figures, sampler_table

WRITE = "python -m benchmarks.sampler_table --new"
TEXT = sampler_table.FILE.read_text(encoding="utf-8")
KNOWN = sampler_table.read(TEXT)
# one of each kind that a few seconds allow
ANEW = (
    "euler",
    "dpmpp_2m",
    "dpmpp_3m_sde",
    "lms",
    "uni_pc",
    "restart",
    "res_3s",
    "ddpm",
    "lcm",
    "dpm_adaptive",
)


def test_every_sampler_is_listed_with_what_it_declares() -> None:
    assert list(KNOWN) != []
    assert set(KNOWN) == set(SAMPLERS.names()), f"run {WRITE}"
    assert sampler_table.render(KNOWN) == TEXT, f"run {WRITE}"


@pytest.mark.parametrize("name", ANEW)
def test_figures_are_the_measured_ones(name: str) -> None:
    """Written with two digits, which are half a unit of the second wrong at most: 5 percent."""
    anew, written = sampler_figures.figures(SAMPLERS[name]), KNOWN[name]
    for found, told in zip(anew.orders, written.orders, strict=True):
        assert (found is None) == (told is None)
        assert found is None or found == pytest.approx(told, abs=0.06)
    for found, told in zip(anew.errors, written.errors, strict=True):
        assert (found is None) == (told is None)
        assert found is None or found == pytest.approx(told, rel=0.06)


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_measured_orders_are_the_declared_ones(spec: SamplerSpec) -> None:
    for process, found in zip(sampler_figures.LEVELS, KNOWN[spec.name].orders, strict=True):
        assert (found is not None) == sampler_figures.measurable(spec, process)
        assert found is None or found >= spec.order - 0.25
    assert all(value is None or 0.0 < value < 100.0 for value in KNOWN[spec.name].errors)


def test_what_is_stale_is_seen() -> None:
    """A declared fact that changed, and a document without a sampler."""
    spec = SAMPLERS["euler"]
    figures = KNOWN["euler"]
    row = sampler_table.row(spec, figures)
    for changed in (
        {"order": 3},
        {"paper": "arXiv:0"},
        {"aliases": ("other",)},
        {"default_schedule": "karras"},
    ):
        assert sampler_table.row(dataclasses.replace(spec, **changed), figures) != row
    without = "\n".join(line for line in TEXT.splitlines() if not line.startswith("| `euler` "))
    assert set(sampler_table.read(without)) == set(KNOWN) - {"euler"}


def test_an_order_that_is_not_reached_shows() -> None:
    """Euler's step under another name has order 1 whatever it declares."""
    pretender = dataclasses.replace(SAMPLERS["ddim"], name="pretender", order=2)
    assert sampler_figures.order(pretender, "ve") == pytest.approx(1.0, abs=0.1)
