"""The exponential Adams predictor-corrector: exact where theory says, of every order asked for; the fitted levels."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, drive, schedule
from sigmagraft.samplers.fitted_table import INFINITE, SD

integrate = pytest.importorskip("scipy.integrate")


@pytest.mark.parametrize("space", ["ratio", "log_snr"])
def test_a_line_is_solved_exactly(levels: NoiseLevels, space: str) -> None:
    """x / sigma grows by the integral of D d(alpha / sigma); the corrector mends the first step."""

    def line(sigma: float) -> float:
        ratio = sigma / levels.alpha(sigma)
        return 2.0 + 0.7 * (ratio if space == "ratio" else math.log(ratio))

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.full_like(x, line(sigma))

    def end(**options: object) -> float:
        x = torch.zeros(1, dtype=torch.float64)
        return drive(
            "adams_pc", denoise, x, [0.9, 0.7, 0.5, 0.2], levels=levels, options={"space": space, **options}
        ).item()

    first, last = levels.half_log_snr(0.9), levels.half_log_snr(0.2)
    grown, _ = integrate.quad(lambda at: math.exp(at) * line(levels.sigma_of(at)), first, last, epsabs=1e-13)
    assert end(order=2) == pytest.approx(0.2 * grown, rel=1e-9)
    assert abs(end(order=2, corrector=0) - 0.2 * grown) > 1e-3


def test_from_no_signal_a_constant_is_solved_exactly() -> None:
    flow = NoiseLevels.flow()
    noise = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = drive("adams_pc", lambda x, s: torch.full_like(x, 3.0), noise, [1.0, 0.8, 0.5, 0.25], levels=flow)
    torch.testing.assert_close(got, 0.75 * 3.0 + 0.25 * noise)


@pytest.mark.parametrize("table", [SD, INFINITE], ids=["sd", "infinite"])
def test_tables_are_whole(table: dict[int, tuple[float, ...]]) -> None:
    assert {2, 3, 4, 5, 6, 7, 8, 10, 12, 16} <= set(table)
    for steps, sigmas in table.items():
        assert len(sigmas) == steps - 1  # the model's own sigma_max comes first
        assert list(sigmas) == sorted(set(sigmas), reverse=True)


def test_fitted_levels_beat_the_common_schedules(make_mixture, levels: NoiseLevels) -> None:
    """Over 5, 8 and 12 steps together, on mixtures that are not among those they were fitted to."""
    noise = torch.randn(32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    top = levels.sigma_max
    error = dict.fromkeys(("fitted", "karras", "exponential", "normal", "simple"), 0.0)
    for seed, steps in itertools.product((5, 6), (5, 8, 12)):
        mixture = make_mixture(levels, size=48, components=12, seed=seed)

        def end(sampler: str, sigmas: list[float], mixture=mixture) -> torch.Tensor:
            x = noise * math.hypot(levels.alpha(top), top)
            return drive(sampler, mixture, x, sigmas, levels=levels)

        fine = end("dpmpp_2m", schedule("normal" if levels.is_flow else "exponential", 400, levels))
        for name in error:
            away = end("adams_pc", schedule(name, steps, levels)) - fine
            error[name] += math.log(away.square().mean(1).sqrt().median().item())
    assert min(error, key=lambda name: error[name]) == "fitted", error
