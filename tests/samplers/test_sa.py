"""SA-Solver: where it adds noise, what it evaluates, and its ODE."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, drive, schedule


def walk(name: str, levels: NoiseLevels, denoise, sigmas: list[float], **options):
    asked: list[float] = []
    noised: list[float] = []

    def evaluate(x: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append(sigma)
        return denoise(x, sigma)

    def noise(sigma: float, sigma_next: float) -> torch.Tensor:
        noised.append(sigma_next)
        return torch.ones(1, 6, dtype=torch.float64)

    x = torch.full((1, 6), sigmas[0], dtype=torch.float64)
    return drive(name, evaluate, x, sigmas, levels=levels, noise=noise, options=options), asked, noised


def test_noise_only_in_the_middle_of_the_training_times(levels: NoiseLevels, mixture) -> None:
    sigmas = schedule("normal", 20, levels)
    _, _, noised = walk("sa_solver", levels, mixture, sigmas, sde_start_percent=0.3, sde_end_percent=0.6)
    top, bottom = levels.time(levels.sigma_max), levels.time(levels.sigma_min)
    shares = [(top - levels.time(sigma)) / (top - bottom) for sigma in sigmas[1:-1]]
    assert noised == [s for s, share in zip(sigmas[1:-1], shares, strict=True) if 0.3 <= share <= 0.6]
    assert 4 <= len(noised) <= 7


def test_sa_ode_is_tau_0(levels: NoiseLevels, mixture) -> None:
    sigmas = schedule("karras", 10, levels)
    ode, _, _ = walk("sa_ode", levels, mixture, sigmas)
    quiet, _, noised = walk("sa_solver", levels, mixture, sigmas, eta=0.0)
    assert torch.equal(ode, quiet)
    assert not noised
    assert not torch.allclose(walk("sa_solver", levels, mixture, sigmas)[0], ode)


def test_pece_evaluates_the_corrected(levels: NoiseLevels, mixture) -> None:
    """Each level twice, the first and the last once: nothing is corrected there."""
    sigmas = schedule("karras", 6, levels)
    _, asked, _ = walk("sa_solver_pece", levels, mixture, sigmas, eta=0.0)
    once = [sigmas[0], *(s for sigma in sigmas[1:-1] for s in (sigma, sigma))]
    assert asked == once


def test_without_a_corrector_pece_is_pec(levels: NoiseLevels, mixture) -> None:
    sigmas = schedule("karras", 8, levels)
    ends = [
        walk(name, levels, mixture, sigmas, corrector_order=0)[0] for name in ("sa_solver", "sa_solver_pece")
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", ["sa_ode", "sa_solver_pece"])
def test_denoised_linear_in_lambda_is_solved_by_the_corrector(levels: NoiseLevels, name: str) -> None:
    """With two places it is exact from the first step on, so one step ends where four do."""
    ends = []
    for way in ([0.8, 0.2], [0.8, 0.6, 0.45, 0.3, 0.2]):
        options = {"predictor_order": 2, "corrector_order": 2} | ({} if name == "sa_ode" else {"eta": 0.0})
        # a step further, since only an evaluation at its end corrects a step
        sigmas = [*way, 0.2 - 1e-9]
        ends.append(
            walk(
                name, levels, lambda x, s: torch.full_like(x, 1.0 + levels.half_log_snr(s)), sigmas, **options
            )[0]
        )
    torch.testing.assert_close(*ends, rtol=1e-7, atol=1e-7)


def test_the_last_steps_go_by_as_many_places_as_there_are_steps_above_zero(levels: NoiseLevels) -> None:
    """Denoised is 1 at one level only: a step that does not go by it only shrinks x."""
    sigmas = [0.9, 0.7, 0.5, 0.35, 0.2, 0.0]
    shrunk = []
    for level in (2, 0):
        seen: list[torch.Tensor] = []

        def denoise(
            x: torch.Tensor, sigma: float, at: float = sigmas[level], seen: list = seen
        ) -> torch.Tensor:
            seen.append(x)
            return torch.full_like(x, float(sigma == at))

        walk("sa_ode", levels, denoise, sigmas, corrector_order=0)
        shrunk.append(
            [
                torch.allclose(b, a * t / s)
                for a, b, s, t in zip(seen, seen[1:], sigmas, sigmas[1:-1], strict=False)
            ]
        )
    assert shrunk == [[True, True, False, True], [False, False, True, True]]
