"""Every registered schedule keeps the contract; the formulas that no other test checks; bad input."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SCHEDULES, NoiseLevels, ScheduleSpec, schedule, sigmas_at
from sigmagraft.samplers.schedules import distinct

LEVELS = {
    "sd": NoiseLevels.discrete(),
    "zero-snr": NoiseLevels.discrete(zero_snr=True),
    "edm": NoiseLevels.edm(),
    "svd": NoiseLevels.edm(0.002, 700.0),
    "flow": NoiseLevels.flow(),
    "flow-3": NoiseLevels.flow(3.0),
}
SD = LEVELS["sd"]


STEPS = (1, 2, 3, 10, 11, 30, 64, 500, 1000)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=list(LEVELS))
@pytest.mark.parametrize("spec", SCHEDULES, ids=lambda spec: spec.name)
def test_contract(spec: ScheduleSpec, levels: NoiseLevels) -> None:
    """steps + 1 falling sigmas within the model's range, the last 0; where declared otherwise, as declared."""
    for steps in STEPS:
        if not spec.needs.serves(levels) or not spec.fewest <= steps <= spec.most:
            with pytest.raises(OptionError, match=r"cannot serve this model|steps"):
                schedule(spec.name, steps, levels)
            continue
        sigmas = schedule(spec.name, steps, levels)
        assert (len(sigmas) == steps + 1) or not spec.exact_steps
        assert all(a > b for a, b in pairwise(sigmas))
        assert (sigmas[-1] == 0.0) == spec.ends_at_zero
        last = sigmas[-2 if spec.ends_at_zero else -1]
        assert last > 0.0
        assert last >= levels.sigma_min * (1 - 1e-9) or spec.own_range
        assert sigmas[0] <= levels.sigma_max * (1.001 if spec.own_range else 1)


def test_a_declared_number_of_steps_is_never_far_off() -> None:
    """Who gives another number of steps than asked for gives nearly as many at the numbers people use."""
    for spec in SCHEDULES:
        if not spec.exact_steps and spec.needs.serves(SD):
            given = [len(schedule(spec.name, n, SD)) - 1 for n in range(2, 31)]
            assert max(abs(got - n) for n, got in enumerate(given, 2)) <= 1, spec.name


@pytest.mark.parametrize("ends_at_zero", [True, False])
def test_another_number_of_sigmas_than_declared_is_refused(ends_at_zero: bool) -> None:
    def three(n: int, levels: NoiseLevels) -> list[float]:
        return [3.0, 2.0, 1.0]

    given = 3 if ends_at_zero else 2
    exact, loose = (
        ScheduleSpec("mine", three, "Mine", ends_at_zero=ends_at_zero, exact_steps=exact)
        for exact in (True, False)
    )
    levels = NoiseLevels.discrete()
    assert schedule(exact, given, levels)[:3] == schedule(loose, 5, levels)[:3] == [3.0, 2.0, 1.0]
    with pytest.raises(OptionError, match=f"schedule mine: gives {given} steps .expected 5"):
        schedule(exact, 5, levels)
    with pytest.raises(OptionError, match="gives no sigmas"):
        schedule(ScheduleSpec("empty", lambda n, levels: [], "Empty"), 5, levels)


def test_every_schedule_serves_some_model() -> None:
    assert all(any(spec.needs.serves(levels) for levels in LEVELS.values()) for spec in SCHEDULES)


def test_names_of_hosts() -> None:
    """name@host is the schedule that says so; what stands under several hosts has one name of them."""
    for spec in SCHEDULES:
        assert spec.base in SCHEDULES
        for host in spec.hosts:
            assert SCHEDULES[f"{spec.base}@{host}"] is spec
    for alias, name in {
        "beta@diffusers": "beta@a1111",
        "Beta @ReForge".replace(" ", ""): "beta@comfyui",
        "kl_optimal@forge": "kl_optimal@a1111",
        "karras@k_diffusion": "karras",
        "ddim@a1111": "ddim_uniform@comfyui",
        "turbo@comfyui": "sd_turbo",
    }.items():
        assert SCHEDULES[alias].name == name


@pytest.mark.parametrize(
    ("name", "levels", "told"),
    [
        ("align_your_steps", "flow", r"align_your_steps: cannot serve.*discrete timesteps"),
        ("align_your_steps", "edm", r"cannot serve.*sigma 700"),
        ("gits", "edm", r"gits: cannot serve.*discrete"),
        ("optimal_steps", "sd", r"optimal_steps: cannot serve.*rectified-flow"),
        ("flux2", "zero-snr", r"flux2: cannot serve"),
        ("vp", "flow", r"vp: cannot serve"),
        ("vp@k-diffusion", "sd", r"sigma 152"),
    ],
)
def test_a_table_of_another_kind_of_model_is_refused(name: str, levels: str, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        schedule(name, 10, LEVELS[levels])


def test_options_that_lead_out_of_the_model_are_refused() -> None:
    with pytest.raises(OptionError, match=r"starts at sigma 700.*14\.6"):
        schedule("align_your_steps", 10, SD, table="svd")
    with pytest.raises(OptionError, match=r"table='sd1'.*svd"):
        schedule("align_your_steps", 10, LEVELS["svd"], table="sd1")
    with pytest.raises(OptionError, match=r"starts at sigma 20\b"):
        schedule("karras", 10, SD, sigma_max=20)
    with pytest.raises(OptionError, match="not above sigma_min"):
        schedule("exponential", 10, SD, sigma_max=1, sigma_min=2)
    with pytest.raises(OptionError, match=r"linear_steps 10.*below the 10 steps"):
        schedule("linear_quadratic", 10, SD, linear_steps=10)
    with pytest.raises(OptionError, match=r"steps 60.*original_steps to 60"):
        schedule("lcm", 60, SD)
    assert len(schedule("lcm", 60, SD, original_steps=100)) == 61


def test_a_range_within_the_models() -> None:
    for name in ("karras", "exponential", "polyexponential", "kl_optimal", "laplace"):
        sigmas = schedule(name, 6, SD, sigma_max=10, sigma_min=0.1)
        assert (sigmas[0], sigmas[-2]) == pytest.approx((10, 0.1))


@pytest.mark.parametrize("spec", SCHEDULES, ids=lambda spec: spec.name)
def test_option_ranges(spec: ScheduleSpec) -> None:
    levels = next(levels for levels in LEVELS.values() if spec.needs.serves(levels))
    for option in spec.options:
        for bad in (option.low - 1, option.high + 1, math.nan, "much"):
            with pytest.raises(OptionError, match=option.name):
                schedule(spec.name, 10, levels, **{option.name: bad})
    with pytest.raises(OptionError, match="no_such"):
        schedule(spec.name, 10, levels, no_such=1)


@pytest.mark.parametrize("spec", SCHEDULES, ids=lambda spec: spec.name)
def test_every_option_does_something(spec: ScheduleSpec) -> None:
    levels = next(levels for levels in LEVELS.values() if spec.needs.serves(levels))
    given = {"tokens": 1000} if spec.name == "flux" else {}  # else max_shift alone counts
    plain = schedule(spec.name, 10, levels, **given)
    for option in spec.options:
        ends = () if option.choices else (option.default + 2, option.low, option.high)
        values = option.choices or [type(option.default)((option.default + end) / 2) for end in ends]
        ways = [_try(spec, levels, given | {option.name: value}) for value in values]
        assert any(way not in (None, plain) for way in ways), option.name


def _try(spec: ScheduleSpec, levels: NoiseLevels, options: dict[str, Any]) -> list[float] | None:
    try:
        return schedule(spec.name, 10, levels, **options)
    except OptionError:
        return None


def test_sgm_uniform_is_even_in_timesteps_without_the_last() -> None:
    times = np.linspace(999, 0, 13)[:-1]
    expected = np.exp(np.interp(times, np.arange(1000), np.log(SD.sigmas)))
    assert schedule("sgm_uniform", 12, SD)[:-1] == pytest.approx(expected.tolist())


def test_simple_takes_the_table_from_the_top() -> None:
    assert schedule("simple", 7, SD)[:-1] == [SD.sigmas[-(1 + int(i * 1000 / 7))] for i in range(7)]


@pytest.mark.parametrize("steps", [3, 12])
def test_shift_bends_even_times(steps: int) -> None:
    """On rectified flow `normal` is even in t, and sigma = 3 t / (1 + 2 t)."""
    times = np.linspace(1, 0.001, steps)
    assert schedule("normal", steps, LEVELS["flow-3"])[:-1] == pytest.approx(
        (3 * times / (1 + 2 * times)).tolist()
    )


def test_your_own_sigmas() -> None:
    assert schedule([14.0, 3, 1], None, SD) == [14.0, 3.0, 1.0, 0.0]
    assert schedule((14.0, 3, 0), 2, SD) == [14.0, 3.0, 0.0]
    with pytest.raises(OptionError, match="steps 5"):
        schedule([14.0, 3, 0], 5, SD)
    with pytest.raises(OptionError, match="rises"):
        schedule([3.0, 14.0], None, SD)
    with pytest.raises(OptionError, match="1 sigmas"):
        schedule([], None, SD)


def test_your_own_timesteps() -> None:
    assert sigmas_at([999, 500, 24.5], SD) == [*map(SD.sigma, (999, 500, 24.5)), 0.0]
    flow = LEVELS["flow-3"]
    assert sigmas_at([1000, 250, 0], flow) == [1.0, 0.25, 0.0]
    assert sigmas_at([*map(LEVELS["edm"].timestep, (80, 1))], LEVELS["edm"]) == pytest.approx([80, 1, 0])
    with pytest.raises(OptionError, match=r"timestep 1200.*999 to 0"):
        sigmas_at([1200, 500], SD)
    with pytest.raises(OptionError, match=r"timestep -1"):
        sigmas_at([999, -1], SD)
    with pytest.raises(OptionError, match="rises"):
        sigmas_at([500, 999], SD)
    with pytest.raises(OptionError, match="timestep nan"):
        sigmas_at([math.nan], SD)


def test_places_become_distinct() -> None:
    assert distinct([9, 5, 1], 10) == [9, 5, 1]
    assert distinct([9, 9, 9, 2, 2, 0, 0], 10) == [9, 8, 7, 3, 2, 1, 0]
    assert distinct([0, 0, 0], 3) == [2, 1, 0]
    assert distinct([12, 1], 10) == [9, 1]
    with pytest.raises(OptionError, match="as many as the model has levels"):
        distinct([2, 1, 0], 2)


@pytest.mark.parametrize(
    "name", ["simple", "beta", "lcm", "turbo", "smoothstep", "leading", "gits", "ddim_uniform"]
)
def test_a_short_table(name: str) -> None:
    """A model of few timesteps: falling sigmas as far as it has levels, then an error that says how many."""
    levels = NoiseLevels.discrete(steps=20)
    options = {"original_steps": 20} if name == "lcm" else {}
    assert len(schedule(name, 20, levels, **options)) == 21
    if name not in ("gits",):
        with pytest.raises(OptionError, match=r"steps|level"):
            schedule(name, 21, levels, **options)


@pytest.mark.parametrize("steps", [0, -3, 10_000, None])
def test_steps_out_of_range(steps: int | None) -> None:
    with pytest.raises(OptionError, match=rf"steps {steps}.*1 to 1000"):
        schedule("karras", steps, SD)


def test_unknown_schedule_offers_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown schedule 'karas'.*'karras'"):
        schedule("karas", 10, SD)
