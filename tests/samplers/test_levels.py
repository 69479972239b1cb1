"""Noise levels: inverse functions, scalings, and the identities that splitting noise must keep."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import NoiseLevels

LEVELS = {
    "sd": NoiseLevels.discrete(),
    "zero-snr": NoiseLevels.discrete(zero_snr=True),
    "cosine": NoiseLevels.discrete(beta_schedule="cosine"),
    "edm": NoiseLevels.edm(),
    "flow": NoiseLevels.flow(),
    "flow-3": NoiseLevels.flow(3.0),
}
every = pytest.mark.parametrize("levels", LEVELS.values(), ids=list(LEVELS))


def inside(levels: NoiseLevels) -> list[float]:
    low, high = math.log(levels.sigma_min), math.log(levels.sigma_max)
    return [math.exp(low + (high - low) * u) for u in (0.03, 0.2, 0.5, 0.77, 0.99)]


def test_stable_diffusion_levels_are_the_known_ones() -> None:
    assert LEVELS["sd"].sigma_min == pytest.approx(0.0291675, abs=1e-5)
    assert LEVELS["sd"].sigma_max == pytest.approx(14.614642)
    assert LEVELS["zero-snr"].sigma_max == pytest.approx(4518.7637)


@every
def test_timestep_time_and_log_snr_have_their_inverses(levels: NoiseLevels) -> None:
    for sigma in inside(levels):
        assert levels.sigma(levels.timestep(sigma)) == pytest.approx(sigma, rel=1e-9)
        assert levels.sigma_at(levels.time(sigma)) == pytest.approx(sigma, rel=1e-9)
        assert levels.sigma_of(levels.half_log_snr(sigma)) == pytest.approx(sigma, rel=1e-9)
        assert levels.half_log_snr(sigma) == pytest.approx(math.log(levels.alpha(sigma) / sigma), rel=1e-9)


@every
def test_table_rises_and_its_times_are_evenly_spaced(levels: NoiseLevels) -> None:
    table = levels.sigmas
    assert len(table) == 1000
    assert all(a < b for a, b in pairwise(table))
    times = [levels.time(sigma) for sigma in table]
    step = (times[-1] - times[0]) / 999
    assert times == pytest.approx([times[0] + i * step for i in range(1000)], abs=1e-6)


@every
def test_outside_the_table_stays_finite(levels: NoiseLevels) -> None:
    for sigma in (0.0, levels.sigma_min / 10, levels.sigma_max):
        assert math.isfinite(levels.timestep(sigma))
    assert levels.half_log_snr(0.0) == math.inf


@every
def test_scalings_undo_what_each_prediction_means(levels: NoiseLevels) -> None:
    x0, noise = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for sigma in inside(levels):
        x = levels.alpha(sigma) * x0 + sigma * noise
        keep, spread = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
        outputs = {"eps": noise, "x0": x0, "v": keep * noise - spread * x0, "flow": noise - x0}
        if hasattr(levels, "sigma_data"):
            data = levels.sigma_data
            skip, out, _ = levels.scalings("edm", sigma)
            assert (skip, out) == pytest.approx(
                (data**2 / (sigma**2 + data**2), sigma * data / math.sqrt(sigma**2 + data**2))
            )
            del outputs["v"]  # of unit data; these levels know another deviation
        for prediction in outputs.keys() & levels.predictions(sigma).keys():
            skip, out, c_in = levels.scalings(prediction, sigma)
            torch.testing.assert_close(skip * x + out * outputs[prediction], x0, rtol=1e-6, atol=1e-6)
            assert c_in == levels.scale_input(sigma)


def test_a_prediction_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OptionError, match=r"'flow' on DiscreteLevels.*eps or v or x0"):
        LEVELS["sd"].scalings("flow", 1.0)
    with pytest.raises(OptionError, match="expected flow"):
        LEVELS["flow"].scalings("eps", 0.5)


@every
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rule", ["sde", "posterior"])
def test_noisy_steps_keep_the_marginal(levels: NoiseLevels, rule: str, eta: float) -> None:
    """With the true x0 as denoised, alpha and the variance of the noise come out as those of sigma_next."""
    for sigma_next, sigma in zip(inside(levels), inside(levels)[1:], strict=False):
        decay, gain, std = getattr(levels, rule)(sigma, sigma_next, eta)
        assert decay * levels.alpha(sigma) + gain == pytest.approx(levels.alpha(sigma_next))
        assert math.hypot(decay * sigma, std) == pytest.approx(sigma_next)
        assert (std == 0.0) == (eta == 0.0)
        if eta == 0.0:
            assert (decay, gain) == pytest.approx(levels.exact(sigma, sigma_next))
    assert getattr(levels, rule)(sigma, 0.0, eta) == pytest.approx((0.0, 1.0, 0.0))


@every
def test_one_ancestral_step_is_the_ddpm_posterior(levels: NoiseLevels) -> None:
    """q(x_next | x, x0) of the forward process (arXiv:2006.11239 eq. 7), in terms of sigma / alpha."""
    sigma_next, sigma = inside(levels)[1:3]
    ratio, ratio_next = sigma / levels.alpha(sigma), sigma_next / levels.alpha(sigma_next)
    variance = ratio_next**2 * (ratio**2 - ratio_next**2) / ratio**2
    _, _, std = levels.posterior(sigma, sigma_next, 1.0)
    assert std == pytest.approx(levels.alpha(sigma_next) * math.sqrt(variance))


@every
def test_between_is_even_in_log_snr(levels: NoiseLevels) -> None:
    sigma_next, sigma = inside(levels)[1:3]
    middle = levels.between(sigma, sigma_next, 0.25)
    first, last = levels.half_log_snr(sigma), levels.half_log_snr(sigma_next)
    assert levels.half_log_snr(middle) == pytest.approx(0.75 * first + 0.25 * last)


@every
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ancestral_split_ends_at_the_right_level(levels: NoiseLevels, eta: float) -> None:
    """alpha and the total variance after stepping to sigma_down and renoising are those of sigma_next."""
    sigma_next, sigma = inside(levels)[1:3]
    down = levels.ancestral(sigma, sigma_next, eta)
    scale, std = levels.renoise(down, sigma_next)
    assert scale * levels.alpha(down) == pytest.approx(levels.alpha(sigma_next))
    assert (scale * down) ** 2 + std**2 == pytest.approx(sigma_next**2)
    assert (std == 0.0) == (eta == 0.0)
    assert levels.ancestral(sigma, 0.0, eta) == 0.0
    assert levels.renoise(0.0, 0.0) == (1.0, 0.0)


@every
def test_churn_multiplies_the_noise_to_signal_ratio(levels: NoiseLevels) -> None:
    for sigma in inside(levels)[:-1]:
        up = levels.churn(sigma, 0.25)
        assert up / levels.alpha(up) == pytest.approx(1.25 * sigma / levels.alpha(sigma))
        scale, std = levels.renoise(sigma, up)
        assert scale * levels.alpha(sigma) == pytest.approx(levels.alpha(up))
        assert math.hypot(scale * sigma, std) == pytest.approx(up)


def test_pure_noise_of_flow_has_no_infinities() -> None:
    flow = LEVELS["flow"]
    assert flow.half_log_snr(1.0) == -math.inf
    assert flow.exact(1.0, 0.9) == pytest.approx((0.9, 0.1))
    assert flow.renoise(1.0, 1.0) == (1.0, 0.0)
    for eta in (0.0, 0.5, 1.0):
        assert all(map(math.isfinite, flow.sde(1.0, 0.9, eta) + flow.posterior(1.0, 0.9, eta)))
    assert flow.between(1.0, 0.5, 0.5) == 0.75


@every
def test_exact_step_is_exact_for_a_constant_denoised(levels: NoiseLevels) -> None:
    sigma_next, sigma = inside(levels)[1:3]
    decay, gain = levels.exact(sigma, sigma_next)
    assert decay * levels.alpha(sigma) + gain == pytest.approx(levels.alpha(sigma_next))
    assert decay * sigma == pytest.approx(sigma_next)


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ([], "0 sigmas"),
        ([1.0], "1 sigmas"),
        ([3.0, 2.0, 2.0, 0.0], r"number 3 \(2\) repeats"),
        ([3.0, 1.0, 2.0], r"number 3 \(2\) rises above the one before \(1\)"),
        ([3.0, -1.0], "number 2 is -1"),
        ([math.nan, 1.0], "number 1 is nan"),
        ([math.inf, 1.0], "number 1 is inf"),
    ],
)
def test_bad_sigmas_are_refused_by_number(sigmas: list[float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LEVELS["sd"].check(sigmas)


def test_flow_ends_at_one() -> None:
    with pytest.raises(OptionError, match="above 1"):
        LEVELS["flow"].check([1.5, 0.5, 0.0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: NoiseLevels.flow(0.0),
        lambda: NoiseLevels.flow(math.nan),
        lambda: NoiseLevels.edm(1.0, 0.5),
        lambda: NoiseLevels.discrete([0.5, 0.6]),
        lambda: NoiseLevels.discrete([0.5]),
        lambda: NoiseLevels.discrete(beta_schedule="sine"),
    ],
)
def test_levels_that_cannot_be_are_refused(make) -> None:
    with pytest.raises(OptionError):
        make()


def test_zero_terminal_snr_of_steep_betas() -> None:
    """Rescaled linear betas fall below what stands for 0 elsewhere; the table still falls to its end."""
    levels = NoiseLevels.discrete(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, zero_snr=True)
    assert all(low < high for low, high in pairwise(levels.sigmas))
