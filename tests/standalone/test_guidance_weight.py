"""CFG++ and the guidance interval: the papers' formulas and ComfyUI's, step by step, on every sampler."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, NoiseLevels, SamplerSpec, drive, schedule
from sigmagraft.samplers.guidance_weight import Interval, plus_plus, within
from sigmagraft.standalone.guidance_weight import check_guidance

VE, FLOW = NoiseLevels.discrete(), NoiseLevels.flow(shift=3.0)
LEVELS = pytest.mark.parametrize("levels", [VE, FLOW], ids=["ve", "flow"])
SHAPE = (2, 4, 4, 4)
Predictor = Callable[[torch.Tensor, float], tuple[torch.Tensor, torch.Tensor]]


def draw(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def predictor(levels: NoiseLevels) -> Predictor:
    """(D_c, D_u): two Gaussians' denoisers."""

    def both(x: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = levels.alpha(sigma)
        answers = []
        for mean, deviation in ((0.8, 0.3), (-0.1, 1.0)):
            gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
            answers.append(mean + gain * (x - alpha * mean))
        return answers[0], answers[1]

    return both


def under(weight: Callable[[float], float], both: Predictor) -> Callable[[torch.Tensor, float], torch.Tensor]:
    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        cond, uncond = both(x, sigma)
        return uncond + weight(sigma) * (cond - uncond)

    return denoise


def comfyui(levels: NoiseLevels, both: Predictor, x, sigmas, scale: float, eta: float, noise) -> torch.Tensor:
    """ComfyUI's euler_ancestral_cfg_pp (eta 0: euler_cfg_pp): down to sigma_down along the unconditional noise."""
    for sigma, sigma_next in itertools.pairwise(sigmas):
        cond, uncond = both(x, sigma)
        guided = uncond + scale * (cond - uncond)
        if sigma_next == 0.0:
            return guided
        alpha, alpha_next = levels.alpha(sigma), levels.alpha(sigma_next)
        direction = (x - alpha * uncond) / sigma
        ratio_next = sigma_next / alpha_next
        # where alpha is 0 the ratio is infinite, and the step puts all its noise back
        share = (ratio_next * alpha / sigma) ** 2
        up = min(ratio_next, eta * math.sqrt(ratio_next**2 * (1 - share)))
        down = alpha_next * math.sqrt(ratio_next**2 - up**2)
        x = alpha_next * guided + down * direction + alpha_next * up * noise(sigma, sigma_next)
    return x


@LEVELS
@pytest.mark.parametrize(
    ("name", "eta"), [("euler", 0.0), ("ddim", 0.0), ("ddim", 0.7), ("ddim", 1.0), ("euler_ancestral", 1.0)]
)
@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize("scale", [0.0, 0.6, 1.0, 1.5])
def test_it_is_comfyuis_cfg_pp(levels: NoiseLevels, name: str, eta: float, steps: int, scale: float) -> None:
    if levels.is_flow and name == "euler_ancestral":
        pytest.skip("flow's ancestral rule is another; ddim with eta has theirs")
    both, sigmas = predictor(levels), schedule("normal", steps, levels)
    options = {"eta": eta} if eta else {}
    weight = plus_plus(scale, SAMPLERS[name], sigmas, levels, options)
    ends = []
    for walk in ("ours", "theirs"):
        seeds = iter(range(100, 200))

        def noise(sigma: float, sigma_next: float, seeds=seeds) -> torch.Tensor:
            return draw(next(seeds))

        x = draw(1) * sigmas[0]
        if walk == "ours":
            ends.append(
                drive(name, under(weight, both), x, sigmas, levels=levels, noise=noise, options=options)
            )
        else:
            ends.append(comfyui(levels, both, x, sigmas, scale, eta, noise))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_without_noise_the_weight_is_the_closed_form(steps: int) -> None:
    sigmas = schedule("karras", steps, VE)
    weight = plus_plus(0.8, SAMPLERS["dpmpp_2m"], sigmas, VE)
    for sigma, sigma_next in itertools.pairwise(sigmas):
        assert weight(sigma) == pytest.approx(0.8 / (1 - sigma_next / sigma), rel=1e-9)
        if sigma_next:  # a stage within the step
            assert weight(math.sqrt(sigma * sigma_next)) == weight(sigma)


@LEVELS
@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_with_every_sampler(spec: SamplerSpec, levels: NoiseLevels) -> None:
    """Weights are finite and at least the scale; where both predictions agree, guidance of any kind is none."""
    sigmas = schedule("normal", 5, levels)
    if spec.adaptive:
        with pytest.raises(OptionError, match=r"cfg\+\+ needs to know the steps"):
            plus_plus(0.6, spec, sigmas, levels)
        return
    if levels.is_flow and not spec.flow:
        pytest.skip("not for flow")
    weight = plus_plus(0.6, spec, sigmas, levels)
    weights = [weight(sigma) for sigma in sigmas[:-1]]
    assert all(0.6 * (1 - 1e-9) <= value < 20.0 for value in weights), weights
    assert weights[-1] == pytest.approx(0.6, rel=1e-6)

    def agreed(x: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        uncond = predictor(levels)(x, sigma)[1]
        return uncond, uncond

    x, more = draw(1) * sigmas[0], {"levels": levels, "noise": lambda a, b: draw(5)}
    plain = drive(spec, lambda x, sigma: agreed(x, sigma)[0], x, sigmas, **more)
    torch.testing.assert_close(drive(spec, under(weight, agreed), x, sigmas, **more), plain)


@LEVELS
def test_a_step_of_a_churned_walk_has_the_weight_of_its_own_decay(levels: NoiseLevels) -> None:
    """Churn raises sigma to sigma_hat first, so the step from there is longer."""
    sigmas, options = schedule("normal", 6, levels)[1:], {"s_churn": 1.5}
    weight = plus_plus(0.6, SAMPLERS["euler"], sigmas, levels, options)
    for sigma, sigma_next in itertools.pairwise(sigmas):
        hat = levels.churn(sigma, 1.5 / 5)
        decay = sigma_next / hat
        gain = levels.alpha(sigma_next) - levels.alpha(hat) * decay
        assert weight(hat) == pytest.approx(0.6 * levels.alpha(sigma_next) / gain, rel=1e-9)


@LEVELS
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("restart", {"restart_steps": 3, "restart_times": 2}),
        ("euler", {"s_churn": 16.0, "s_tmin": 0.1, "s_tmax": 0.6}),
        ("heun", {"s_churn": 16.0, "s_tmin": 0.1, "s_tmax": 0.6}),
    ],
)
def test_where_sigmas_rise_each_step_has_its_own_weight(
    levels: NoiseLevels, name: str, options: dict
) -> None:
    """A step's way is known from what it evaluates first and where it goes: w = scale alpha_next / gain."""
    sigmas, states, asked = schedule("karras", 40, levels)[1:], [], []

    def zero(x: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append(sigma)
        return torch.zeros_like(x)

    more = {"levels": levels, "noise": lambda a, b: draw(5), "options": options}
    drive(name, zero, draw(1) * sigmas[0], sigmas, callback=states.append, **more)
    hats = [state["sigma_hat"] for state in states]
    assert any(b > a for a, b in itertools.pairwise(hats)) or any(b > a for a, b in itertools.pairwise(asked))
    weight = plus_plus(0.6, SAMPLERS[name], sigmas, levels, options)
    ends = [state["sigma_next"] for state in states]
    if name == "restart":  # a step before a restart ends at the lowest level of the restart
        low = min(a for a, b in itertools.pairwise(asked) if b > 1.5 * a)
        ends = [low if end > state["sigma"] else end for state, end in zip(states, ends, strict=True)]
    for hat, end in zip(hats, ends, strict=True):
        gain = levels.alpha(end) - levels.alpha(hat) * end / hat
        assert weight(hat) == pytest.approx(0.6 * levels.alpha(end) / gain, rel=1e-6)
    assert all(math.isfinite(weight(sigma)) for sigma in asked)


@LEVELS
def test_two_steps_from_one_sigma_have_a_weight_each(levels: NoiseLevels) -> None:
    """A1111's rule restarts from a level of the walk itself, and goes down from there in other steps."""
    sigmas, states, given = schedule("normal", 30, levels), [], []
    weight = plus_plus(0.6, SAMPLERS["restart"], sigmas, levels)

    def zero(x: torch.Tensor, sigma: float) -> torch.Tensor:
        given.append((sigma, weight(sigma)))
        return torch.zeros_like(x)

    more = {"levels": levels, "noise": lambda a, b: draw(5), "callback": states.append}
    for _ in range(2):  # a second walk begins anew
        given.clear(), states.clear()
        drive("restart", zero, draw(1) * sigmas[0], sigmas, **more)
        begun = [(state["sigma_hat"], state["sigma_next"]) for state in states]
        twice = [sigma for sigma, _ in begun if sum(other == sigma for other, _ in begun) > 1]
        assert twice
        place = 0
        for (
            sigma,
            end,
        ) in begun:  # the evaluations that begin a step are those that the callback tells of, in order
            while given[place][0] != sigma or (place + 1 < len(given) and given[place + 1][0] == sigma):
                place += 1
            low = end if end < sigma else min(s for s, _ in given[place : place + 2])
            gain = levels.alpha(low) - levels.alpha(sigma) * low / sigma
            assert given[place][1] == pytest.approx(0.6 * levels.alpha(low) / gain, rel=1e-5)
            place += 1


def test_an_interval_in_sigma_and_in_steps() -> None:
    sigmas = [10.0, 8.0, 6.0, 4.0, 2.0, 0.0]
    for text, inside in (
        ("2-6", [6.0, 4.0, 2.0]),
        ("3.5:7", [6.0, 4.0]),
        ("20%-60%", [8.0, 6.0]),
        ("0%-100%", sigmas[:-1]),
        ("0%-5%", []),
    ):
        weight = within(lambda sigma: 7.0, Interval.read(text), sigmas)
        assert [sigma for sigma in sigmas[:-1] if weight(sigma) == 7.0] == inside
        assert {weight(sigma) for sigma in sigmas[:-1] if sigma not in inside} <= {1.0}


def test_shares_of_the_steps_hold_what_lies_between_their_sigmas() -> None:
    """Churn above the first sigma is the first step's; stages are of the step they lie in, its end is not."""
    sigmas = [10.0, 8.0, 6.0, 4.0, 2.0, 1.0]
    first, middle, last = (
        within(lambda sigma: 7.0, Interval.read(text), sigmas) for text in ("0%-20%", "40%-60%", "80%-100%")
    )
    assert [first(sigma) for sigma in (11.0, 10.0, 8.5, 8.0)] == [7.0, 7.0, 7.0, 1.0]
    assert [middle(sigma) for sigma in (11.0, 6.5, 6.0, 5.0, 4.0)] == [1.0, 1.0, 7.0, 7.0, 1.0]
    assert [last(sigma) for sigma in (2.5, 2.0, 1.5, 1.0)] == [1.0, 7.0, 7.0, 7.0]


@pytest.mark.parametrize("text", ["", "5", "5-2", "10%-5", "20%-120%", "a-b", "-1-4", "1..2-4"])
def test_bad_intervals(text: str) -> None:
    with pytest.raises(OptionError, match="cfg_interval"):
        check_guidance("cfg", 7.0, text)


def test_scales() -> None:
    assert check_guidance("cfg", None, None) == 7.0
    assert check_guidance("cfg++", None, None) == 0.6
    for guidance, cfg, message in (
        ("cfg++", 7.0, r"cfg 7.0 \(expected 0 to 3 with guidance cfg\+\+\); 0.6 pulls"),
        ("cfg++", -0.1, "cfg -0.1"),
        ("cfg", math.nan, "cfg nan"),
        ("cgf", 7.0, "guidance 'cgf'.*'cfg'"),
    ):
        with pytest.raises(OptionError, match=message):
            check_guidance(guidance, cfg, None)
