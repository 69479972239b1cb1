"""Restart: its plan from the paper and A1111's rule, its walk from k-diffusion's pieces, its cost."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, ImageNoise, NoiseLevels, Stepper, drive, restart, schedule
from sigmagraft.samplers.restart_plan import Segment, automatic, plan, thin

VE, FLOW = NoiseLevels.discrete(), NoiseLevels.flow()
SHAPE = (2, 6)


def white(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *sigmas: torch.randn(SHAPE, dtype=torch.float64, generator=generator)


def nearest(sigmas: list[float], value: float) -> int:
    return min(range(len(sigmas)), key=lambda i: abs(sigmas[i] - value))


@pytest.mark.parametrize(("steps", "inside", "times"), [(20, 9, 1), (35, 9, 1), (36, 9, 2), (50, 12, 2)])
def test_a1111s_rule_walked_by_k_diffusions_heun(
    k_diffusion, make_mixture, steps: int, inside: int, times: int
) -> None:
    """Karras steps down to about 0.1, back to about 2 with noise of variance max^2 - min^2, Karras steps down again."""
    kd, denoise = k_diffusion.sampling, make_mixture(VE)
    main = kd.get_sigmas_karras(steps - inside * times, VE.sigma_min, VE.sigma_max).double().tolist()
    low, high = nearest(main[:-1], 0.1), nearest(main, 2.0)
    inner = kd.get_sigmas_karras(inside + 1, main[low], main[high]).double().tolist()[:-1]
    noise = white(2)

    def heun(x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
        model = lambda x, sigma: denoise(x, sigma[0].item())  # noqa: E731
        return kd.sample_heun(model, x, torch.tensor(sigmas, dtype=x.dtype), disable=True)

    x = main[0] * white(1)()
    expected = heun(x, main[: low + 1])
    for _ in range(times):
        expected = expected + math.sqrt(main[high] ** 2 - main[low] ** 2) * noise()
        expected = heun(expected, inner)
    expected = heun(expected, main[low:])
    sigmas = schedule("karras", steps, VE)
    got = drive("restart", denoise, x, sigmas, levels=VE, noise=white(2))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 19])
def test_short_walks_are_the_method_alone(mixture, levels: NoiseLevels, steps: int) -> None:
    sigmas = schedule("karras", steps, levels)
    x = sigmas[0] * white(1)()
    ends = [drive(name, mixture, x, sigmas, levels=levels) for name in ("restart", "heun")]
    assert torch.equal(*ends)


def test_no_noise_means_no_restarts(mixture, levels: NoiseLevels) -> None:
    sigmas = schedule("karras", 30, levels)
    x = sigmas[0] * white(1)()
    quiet = drive("restart", mixture, x, sigmas, levels=levels, options={"s_noise": 0.0})
    assert torch.equal(quiet, drive("heun", mixture, x, sigmas, levels=levels))


@pytest.mark.parametrize("name", ["karras", "normal", "exponential"])
@pytest.mark.parametrize("steps", [20, 36, 61])
def test_a_plan_has_the_steps_of_the_schedule(levels: NoiseLevels, name: str, steps: int) -> None:
    sigmas = schedule(name, steps, levels)
    walks = plan(sigmas, automatic(steps), levels, by_rule=True)
    assert len(walks) == 2 + automatic(steps)[0].times
    assert sum(len(walk) - 1 for walk in walks) == steps
    assert (walks[0][0], walks[-1][-1]) == (sigmas[0], 0.0)
    assert all(a > b for walk in walks for a, b in pairwise(walk))
    for before, after in pairwise(
        walks
    ):  # each begins where the last ended, or above with the noise that takes
        assert after[0] >= before[-1]
        assert before[-1] == walks[0][-1]


def test_several_segments_of_the_users_own() -> None:
    """The upper end as given, the lower one on the walk; in the order in which the walk comes by them."""
    sigmas = schedule("karras", 40, VE)
    segments = [Segment(3, 2, 0.1, 1.5), Segment(4, 1, 1.0, 10.0)]
    walks = plan(sigmas, segments, VE)
    main = thin(sigmas, 30)
    low, lower = main[nearest(main, 1.0)], main[nearest(main[:-1], 0.1)]
    ends = [(round(walk[0], 9), walk[-1], len(walk) - 1) for walk in walks]
    assert ends[1:4] == [(10.0, low, 4), (round(low, 9), lower, ends[2][2]), (1.5, lower, 3)]
    assert ends[4] == ends[3]
    assert (walks[0][0], walks[0][-1], walks[5][0], walks[5][-1]) == (main[0], low, lower, 0.0)
    for a, b, c in zip(walks[1], walks[1][1:], walks[1][2:], strict=False):  # even in sigma^(1/7)
        assert a ** (1 / 7) + c ** (1 / 7) == pytest.approx(2 * b ** (1 / 7))


def test_on_rectified_flow_levels_are_meant_as_ratios() -> None:
    """sigma / alpha 0.1 and 2 are sigma 1/11 and 2/3."""
    walks = plan(schedule("normal", 60, FLOW), [Segment(5, 1, 0.1, 2.0)], FLOW)
    assert walks[1][0] == pytest.approx(2 / 3)
    assert walks[1][-1] == pytest.approx(1 / 11, abs=0.01)


def test_a_restart_outside_the_walk_is_left_out_by_the_rule_only() -> None:
    sigmas, segment = [1.5, 0.8, 0.4, 0.2, 0.15, 0.05, 0.0], Segment(2, 1, 1.4, 2.0)
    assert plan(sigmas, [segment], VE, by_rule=True) == [sigmas]
    for outside in (segment, Segment(2, 1, 0.1, 2.0), Segment(2, 1, 0.001, 0.002)):
        with pytest.raises(
            OptionError, match=rf"t_min {outside.t_min:g} to t_max {outside.t_max:g}.*at most 1.5"
        ):
            plan(sigmas, [outside], VE)
    assert len(plan([3.0, *sigmas], [Segment(2, 1, 0.1, 2.0)], VE)) == 3


@pytest.mark.parametrize(
    ("segment", "told"),
    [
        ((0, 1, 0.1, 2.0), "steps 0"),
        ((3, 0, 0.1, 2.0), "times 0"),
        ((3, 1.5, 0.1, 2.0), "times 1.5"),
        ((True, 1, 0.1, 2.0), "steps True"),
        ((3, 1, 0.0, 2.0), "t_min 0, t_max 2"),
        ((3, 1, 2.0, 0.1), "t_min 2, t_max 0.1"),
        ((3, 1, 0.1, math.inf), "t_max inf"),
        ((3, 1, 0.1), "3 values"),
    ],
)
def test_segments_that_cannot_be_walked(segment: tuple, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        restart("heun", [segment])


@pytest.mark.parametrize(
    "given", [{"t_min": 0.0}, {"t_max": 0.0}, {"t_min": 3.0}, {"restart_steps": 3, "t_max": 0.05}]
)
@pytest.mark.parametrize("steps", [10, 30])
def test_options_that_cannot_be_walked(mixture, levels: NoiseLevels, given: dict, steps: int) -> None:
    sigmas = schedule("karras", steps, levels)
    with pytest.raises(OptionError, match=r"t_m(in|ax)"):
        drive(
            "restart", mixture, sigmas[0] * white(1)(), sigmas, levels=levels, noise=white(2), options=given
        )


def test_thin_keeps_the_schedules_shape(levels: NoiseLevels) -> None:
    for name in ("karras", "normal"):
        sigmas = schedule(name, 12, levels)
        assert thin(sigmas, 12) == pytest.approx(sigmas)
        assert (thin(sigmas, 7)[0], thin(sigmas, 7)[-1]) == (sigmas[0], 0.0)
        assert thin(sigmas, 7)[-2] == pytest.approx(sigmas[-2])
    karras = schedule("karras", 30, levels)
    assert thin(karras, 11) == pytest.approx(schedule("karras", 11, levels))
    assert thin(karras[:-3], 11)[-1] == pytest.approx(karras[-4])


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "lms", "pndm", "plms", "heunpp2"])
@pytest.mark.parametrize("segments", [None, ((3, 2, 0.2, 1.5), (4, 1, 0.8, 3.0))], ids=["rule", "own"])
def test_around_any_method_it_costs_what_it_declares(make_mixture, name: str, segments) -> None:
    levels, asked = NoiseLevels.discrete(), []
    denoise = make_mixture(levels)

    def counted(x: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append(sigma)
        return denoise(x, sigma)

    spec = restart(name, segments)
    sigmas = schedule("karras", 40, levels)[:-1]
    end = drive(spec, counted, sigmas[0] * white(1)(), sigmas, levels=levels, noise=white(2))
    assert end.isfinite().all()
    assert len(asked) == spec.cost(39)
    assert any(b > a * 1.5 for a, b in pairwise(asked))


def test_history_does_not_cross_a_restart(make_mixture) -> None:
    """The walk of a multistep method is its walks, each begun anew."""
    denoise, segment = make_mixture(VE), Segment(4, 2, 0.3, 2.0)
    sigmas, noise = schedule("karras", 20, VE), white(2)
    x = sigmas[0] * white(1)()
    got = drive(restart("dpmpp_2m", [segment]), denoise, x, sigmas, levels=VE, noise=white(2))
    at = sigmas[0]
    for walk in plan(sigmas, [segment], VE):
        if walk[0] > at:
            x = x + math.sqrt(walk[0] ** 2 - at**2) * noise()
        x, at = drive("dpmpp_2m", denoise, x, walk, levels=VE), walk[-1]
    torch.testing.assert_close(got, x, rtol=1e-12, atol=1e-12)


def test_the_inner_methods_options_are_there(make_mixture) -> None:
    denoise, sigmas = make_mixture(VE), schedule("karras", 24, VE)
    spec = restart("lms")
    ends = [
        drive(
            spec, denoise, sigmas[0] * white(1)(), sigmas, levels=VE, noise=white(2), options={"order": order}
        )
        for order in (1, 4)
    ]
    assert not torch.allclose(*ends)


def test_options_of_the_registered_one(make_mixture) -> None:
    sigmas, options = (
        schedule("karras", 12, VE),
        {"restart_steps": 3, "restart_times": 2, "t_min": 0.2, "t_max": 3.0},
    )
    ends = [
        drive(
            spec, make_mixture(VE), sigmas[0] * white(1)(), sigmas, levels=VE, noise=white(2), options=given
        )
        for spec, given in (("restart", options), (restart("heun", [(3, 2, 0.2, 3.0)]), {}))
    ]
    assert torch.equal(*ends)


def test_step_by_step_and_what_a_callback_is_told(mixture, levels: NoiseLevels) -> None:
    sigmas, seen = schedule("karras", 24, levels), []
    noise = ImageNoise([1, 2], (6,), dtype=torch.float64)
    x = noise.next() * sigmas[0]
    expected = drive("restart", mixture, x, sigmas, levels=levels, noise=noise, callback=seen.append)
    assert [state["i"] for state in seen] == list(range(24))
    assert all(state["sigma"] == state["sigma_hat"] for state in seen)
    noise = ImageNoise([1, 2], (6,), dtype=torch.float64)
    sample = noise.next() * sigmas[0]
    stepper = Stepper("restart", sigmas, levels=levels, noise=noise)
    for t, sigma in zip(stepper.timesteps, stepper.evaluated, strict=True):
        sample = stepper.step(mixture(sample, sigma), t, sample)
    assert torch.equal(sample, expected)


@pytest.mark.parametrize("name", ["euler_ancestral", "lcm", "restart"])
def test_only_around_what_is_deterministic(name: str) -> None:
    with pytest.raises(OptionError, match=f"restart around {name}.*deterministic"):
        restart(name)


def test_too_few_steps_for_the_restarts() -> None:
    with pytest.raises(OptionError, match=r"12 steps with restarts that take 12.*fewer restarts"):
        plan(schedule("karras", 12, VE), [Segment(6, 2, 0.1, 2.0)], VE)


def test_it_names_itself_after_the_method() -> None:
    spec = restart("dpmpp_2m")
    assert (spec.name, spec.label, spec.order) == ("restart_dpmpp_2m", "Restart DPM++ 2M", 2)
    assert "restart_dpmpp_2m" not in SAMPLERS
