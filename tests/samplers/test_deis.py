"""DEIS: its polynomial's variable is time (tab), sigma (rhoab) or log-SNR (logrho: test_multistep_diffusers.py)."""

from __future__ import annotations

import math

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, drive, schedule
from sigmagraft.samplers.deis import slope_step

integrate = pytest.importorskip("scipy.integrate")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_tab_integrates_a_polynomial_in_time(levels: NoiseLevels, count: int) -> None:
    """t of the process with noise rate beta t: 1 / alpha^2 = exp(beta t^2 / 2), sigma^2 = 1 / alpha^2 - 1 where x is
    scaled to variance exploding; the unit of t is no matter."""

    def curve(sigma: float) -> float:
        t = math.sqrt(2 * math.log(1 + sigma**2) / 19.9)
        return sum((1.0, -3.0, 4.0, 9.0)[n] * t**n for n in range(count))

    places = [0.6, 0.72, 0.85, 0.9][:count]
    step = slope_step(levels, 0.6, 0.1, places, "tab")
    expected, _ = integrate.quad(curve, 0.6, 0.1, epsabs=1e-13)
    got = sum(w * curve(at) for w, at in zip(step.weights, places, strict=True))
    assert got == pytest.approx(expected, rel=1e-10)
    assert step.decay == 1.0


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_rhoab_is_linear_multistep(k_diffusion, make_mixture, order: int) -> None:
    levels = NoiseLevels.discrete()
    denoise = make_mixture(levels)
    sigmas = schedule("karras", 13, levels)[:-1]
    x = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    expected = k_diffusion.sampling.sample_lms(
        lambda x, sigma: denoise(x, sigma[0].item()),
        x.clone(),
        torch.tensor(sigmas, dtype=torch.float64),
        disable=True,
        order=order,
    )
    got = drive("deis", denoise, x, sigmas, levels=levels, options={"deis_mode": "rhoab", "max_order": order})
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)  # theirs integrates to 1e-4
