"""DPM-Solver steps against each other: the two processes, steps given and steps chosen, a start from alpha 0."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from sigmagraft.samplers import SAMPLERS, NoiseLevels, drive, schedule

NAMES = [
    spec.name
    for spec in SAMPLERS
    if spec.name.startswith(("dpmpp_", "dpm_solver_", "dpm_fast")) and spec.flow
]
FLOW = NoiseLevels.flow(shift=3.0)


def start(sigma: float) -> torch.Tensor:
    return torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * sigma


def noise_of(x: torch.Tensor):
    generator = torch.Generator().manual_seed(7)
    return lambda sigma, sigma_next: torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_flow_is_variance_exploding_in_x_over_alpha(make_mixture, name: str, noisy: bool) -> None:
    """z = x / alpha has level sigma / alpha and the same half-log-SNR: the walks are one, noise included."""
    spec = SAMPLERS[name]
    if noisy and (spec.noise_option is None or name in ("dpm_fast", "dpmpp_2s_ancestral")):
        pytest.skip("no noise, or that of flow's own ancestral step")
    options = {spec.noise_option: float(noisy)} if spec.noise_option else {}
    flow = make_mixture(FLOW)
    sigmas = [0.98, 0.9, 0.7, 0.5, 0.35, 0.2, 0.1, 0.03]
    ratios = [sigma / (1 - sigma) for sigma in sigmas]

    def exploded(z: torch.Tensor, ratio: float) -> torch.Tensor:
        sigma = ratio / (1 + ratio)
        return flow(z * (1 - sigma), sigma)

    x = start(1.0)
    got = drive(name, flow, x, sigmas, levels=FLOW, noise=noise_of(x), options=options)
    ve = NoiseLevels.edm(0.01, 100.0)
    z = drive(name, exploded, x / 0.02, ratios, levels=ve, noise=noise_of(x), options=options)
    torch.testing.assert_close(got, z * 0.97, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("family", ["dpmpp", "dpm_solver"])
def test_given_and_chosen_levels(mixture, levels: NoiseLevels, order: int, eta: float, family: str) -> None:
    """`_2s` and `_3s` are `_singlestep` on sigmas with the levels inside their steps put between."""
    spec = SAMPLERS[f"{family}_{order}s"]
    if eta and spec.noise_option is None:
        pytest.skip("deterministic")
    options = {"solver_type": "heun"} | ({"eta": eta} if spec.noise_option else {})
    sigmas = schedule("karras", 5, levels)[:-1]
    sigmas[0] = min(sigmas[0], 0.98) if levels.is_flow else sigmas[0]
    fine = [
        a if part == 0 else levels.between(a, b, part / order)
        for a, b in pairwise(sigmas)
        for part in range(order)
    ]
    x = start(sigmas[0])
    chosen = drive(spec, mixture, x, sigmas, levels=levels, noise=noise_of(x), options=options)
    asked: list[float] = []

    def recorded(at: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append(sigma)
        return mixture(at, sigma)

    options |= {"solver_order": order, "lower_order_final": 0}
    walk = [*fine, sigmas[-1]]
    given = drive(
        f"{family}_singlestep", recorded, x, walk, levels=levels, noise=noise_of(x), options=options
    )
    assert asked == fine
    torch.testing.assert_close(given, chosen, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "kind", "power"),
    [
        ("dpmpp_2s", "midpoint", 1),
        ("dpmpp_2s", "heun", 1),
        ("dpm_solver_2s", "heun", 1),
        ("dpmpp_3s", "heun", 2),
    ],
)
def test_a_step_from_alpha_0_keeps_its_order(name: str, kind: str, power: int) -> None:
    """denoised = q^power, q = alpha / sigma: x_next = sigma_next (x / sigma + q_next^(power + 1) / (power + 1))."""
    x = start(1.0)

    def denoise(at: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.full_like(at, ((1 - sigma) / sigma) ** power)

    got = drive(name, denoise, x, [1.0, 0.4], levels=FLOW, options={"solver_type": kind})
    torch.testing.assert_close(got, 0.4 * (x + 1.5 ** (power + 1) / (power + 1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_walk_from_alpha_0_converges(make_mixture, name: str) -> None:
    spec, mixture, x = SAMPLERS[name], make_mixture(FLOW), start(1.0)
    options = {spec.noise_option: 0.0} if spec.noise_option else {}
    exact = drive("rk4_4s", mixture, x, [1 - i / 400 for i in range(361)], levels=FLOW)
    errors = []
    for steps in (30, 60):
        sigmas = [1 - 0.9 * i / steps for i in range(steps + 1)]
        errors.append((drive(name, mixture, x, sigmas, levels=FLOW, options=options) - exact).norm().item())
    assert errors[1] < 0.45 * errors[0], errors
