"""SEEDS: the ODE against k-diffusion, exactness, errors. Its noise is tested in test_exponential_steps.py."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import NoiseLevels, drive, schedule
from sigmagraft.samplers.exponential_steps import data_step


@pytest.mark.parametrize("r", [0.3, 0.5, 0.8])
def test_seeds_2_without_noise_is_k_diffusions_dpmpp_sde(k_diffusion, make_mixture, r: float) -> None:
    levels = NoiseLevels.discrete()
    denoise = make_mixture(levels)
    sigmas = schedule("karras", 9, levels)
    x = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    expected = k_diffusion.sampling.sample_dpmpp_sde(
        lambda x, sigma: denoise(x, sigma[0].item()),
        x.clone(),
        torch.tensor(sigmas, dtype=torch.float64),
        disable=True,
        eta=0.0,
        r=r,
        noise_sampler=lambda a, b: torch.zeros_like(x),
    )
    got = drive("seeds_2", denoise, x, sigmas, levels=levels, options={"eta": 0.0, "r": r})
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize(
    ("name", "options"),
    [("seeds_2", {"solver_type": "phi_2", "r": 0.3}), ("seeds_3", {"r_1": 0.2, "r_2": 0.9})],
)
def test_denoised_linear_in_lambda_is_solved_exactly(
    levels: NoiseLevels, name: str, options: dict, eta: float
) -> None:
    got = drive(
        name,
        lambda x, s: torch.full_like(x, 2.0 - 0.7 * levels.half_log_snr(s)),
        torch.ones(1, 1, dtype=torch.float64),
        [0.6, 0.35],
        levels=levels,
        noise=lambda a, b: torch.zeros(1, 1, dtype=torch.float64),
        options={**options, "eta": eta},
    )
    step = data_step(levels, 0.6, 0.35, [0.6, 0.35], eta)
    line = [2.0 - 0.7 * levels.half_log_snr(s) for s in (0.6, 0.35)]
    expected = step.decay + sum(w * d for w, d in zip(step.weights, line, strict=True))
    assert got.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("name", "draws"), [("seeds_2", 2), ("seeds_3", 3)])
def test_noise_of_the_ways_between_the_stages(levels: NoiseLevels, name: str, draws: int) -> None:
    """One draw for each part of a step, end to end."""
    asked: list[tuple[float, float]] = []

    def noise(sigma: float, sigma_next: float) -> torch.Tensor:
        asked.append((sigma, sigma_next))
        return torch.zeros(1, 6)

    drive(name, lambda x, s: x * 0.5, torch.ones(1, 6), [0.8, 0.5, 0.2], levels=levels, noise=noise)
    assert len(asked) == 2 * draws
    assert asked[0][0] == 0.8
    assert asked[-1][1] == 0.2
    assert all(first[1] == second[0] for first, second in pairwise(asked))


def test_stages_out_of_order_are_refused(levels: NoiseLevels) -> None:
    with pytest.raises(OptionError, match=r"r_1=0.7 is not below r_2=0.7"):
        drive(
            "seeds_3",
            lambda x, s: x,
            torch.ones(1, 6),
            [0.8, 0.5],
            levels=levels,
            options={"r_1": 0.7, "r_2": 0.7},
        )
