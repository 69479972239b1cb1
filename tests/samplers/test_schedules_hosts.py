"""name@host gives the host's numbers: diffusers' and k-diffusion's run here, others' from their formula or print.

ComfyUI's, A1111's, Forge's, reForge's and RES4LYF's own functions were run beside ours when these were written.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from sigmagraft.samplers import NoiseLevels, schedule
from sigmagraft.samplers.beta_quantile import beta_quantile, incomplete_beta
from sigmagraft.samplers.gits_table import STEPS, row

diffusers = pytest.importorskip("diffusers")

TRAINED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SD = NoiseLevels.discrete()
FLOW = NoiseLevels.flow()
COUNTS = (1, 2, 4, 7, 10, 16, 30)


def theirs(name: str, steps: int, **config: Any) -> list[float]:
    """The sigmas of a scheduler of diffusers; of DDIM, which has none, those of its timesteps and 0."""
    scheduler = getattr(diffusers, f"{name}Scheduler")(**TRAINED, **config)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas.tolist()
    return [*(SD.sigmas[int(t)] for t in scheduler.timesteps), 0.0]


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize(
    ("name", "switch"),
    [
        ("karras@diffusers", "use_karras_sigmas"),
        ("exponential@diffusers", "use_exponential_sigmas"),
        ("lambda_uniform@diffusers", "use_lu_lambdas"),
        ("beta@diffusers", "use_beta_sigmas"),
    ],
)
def test_diffusers_conversions(name: str, switch: str, steps: int) -> None:
    expected = theirs("DPMSolverMultistep", steps, **{switch: True})
    assert schedule(name, steps, SD) == pytest.approx(expected, rel=2e-4)


LIKE = {"euler": "EulerDiscrete", "ddim": "DDIM", "dpm": "DPMSolverMultistep"}


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("like", LIKE)
def test_diffusers_spacings(spacing: str, like: str) -> None:
    for offset in (0, 1):
        options = {"trailing": {}, "linspace": {"like": like}}.get(
            spacing, {"like": like, "steps_offset": offset}
        )
        for steps in (*COUNTS[spacing == "linspace" :], 100, 333):  # their linspace of one step is timestep 0
            expected = theirs(LIKE[like], steps, timestep_spacing=spacing, steps_offset=offset)
            assert schedule(f"{spacing}@diffusers", steps, SD, **options) == pytest.approx(expected, rel=3e-4)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25, 50])
@pytest.mark.parametrize("name", ["LCM", "TCD"])
def test_lcm_timesteps(name: str, steps: int) -> None:
    assert schedule(name.lower(), steps, SD) == pytest.approx(theirs(name, steps))


@pytest.mark.parametrize("table", ["sd1", "sdxl"])
def test_align_your_steps_of_diffusers(table: str) -> None:
    """Its timesteps and its rounded sigmas both."""
    kind = {"sd1": "StableDiffusion", "sdxl": "StableDiffusionXL"}[table]
    published = diffusers.schedulers.AysSchedules
    ours = schedule("align_your_steps@diffusers", 10, SD, table=table)
    assert ours == pytest.approx([*(SD.sigmas[t] for t in published[f"{kind}Timesteps"]), 0.0])
    a1111 = schedule("align_your_steps@a1111", 11, SD, table=table)
    assert [*a1111[:10], 0.0] == published[f"{kind}Sigmas"]
    svd = schedule("align_your_steps", 10, NoiseLevels.edm(0.002, 700.0))
    assert svd == pytest.approx(published["StableDiffusionVideoSigmas"])


def flow_match(steps: int, mu: float | None = None, even: bool = True, **config: Any) -> list[float]:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**config, use_dynamic_shifting=mu is not None)
    times = np.linspace(1.0, 1 / steps, steps).tolist() if even else None
    scheduler.set_timesteps(None if even else steps, sigmas=times, mu=mu)
    return scheduler.sigmas.tolist()


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("shift", [1.0, 1.73, 3.0, 12.0])
def test_flow_shifts_of_diffusers(shift: float, steps: int) -> None:
    levels = NoiseLevels.flow(shift)
    assert schedule("flow_shift", steps, FLOW, shift=shift) == pytest.approx(flow_match(steps, shift=shift))
    default = flow_match(steps, even=False, shift=shift)
    assert schedule("flow_match@diffusers", steps, levels) == pytest.approx(default, rel=1e-4)
    if shift != 1.0 and steps > 1:
        assert schedule("normal", steps, levels) != pytest.approx(default, rel=1e-3)
    assert schedule("sd3", steps, FLOW) == schedule("flow_shift", steps, FLOW, shift=3)
    assert schedule("auraflow", steps, FLOW) == schedule("flow_shift", steps, FLOW, shift=1.73)


def function_of(path: str, name: str) -> Callable:
    """A function of diffusers whose module would import far more."""
    file = Path(diffusers.__file__).parent / path
    tree = ast.parse(file.read_text(encoding="utf-8"))
    body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(body=body, type_ignores=[]), str(file), "exec"), names)
    return names[name]


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("tokens", [256, 1000, 4096, 9000])
def test_flux_of_diffusers(tokens: int, steps: int) -> None:
    mu = function_of("pipelines/flux/pipeline_flux.py", "calculate_shift")(tokens)
    for time_shift in ("exponential", "linear"):
        for terminal in (None, 0.1) if steps > 1 else (None,):
            expected = flow_match(steps, mu, time_shift_type=time_shift, shift_terminal=terminal)
            options = {"tokens": tokens, "time_shift": time_shift, "terminal": terminal or 0}
            assert schedule("flux", steps, FLOW, **options) == pytest.approx(expected, rel=1e-5)
    mu = function_of("pipelines/flux2/pipeline_flux2.py", "compute_empirical_mu")(tokens, steps)
    assert schedule("flux2", steps, FLOW, tokens=tokens) == pytest.approx(flow_match(steps, mu), rel=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 10, 31, 64])
def test_linear_quadratic_of_mochi(steps: int) -> None:
    of_mochi = function_of("pipelines/mochi/pipeline_mochi.py", "linear_quadratic_schedule")
    assert schedule("linear_quadratic", steps, FLOW) == pytest.approx([*of_mochi(steps, 0.025), 0.0])
    if steps > 5:
        given = schedule("linear_quadratic", steps, FLOW, threshold=0.1, linear_steps=4)
        assert given == pytest.approx([*of_mochi(steps, 0.1, 4), 0.0])


@pytest.mark.parametrize("steps", [1, 2, 10, 30])
def test_vp_of_k_diffusion(k_diffusion, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(k_diffusion.sampling.torch, "linspace", partial(torch.linspace, dtype=torch.float64))
    expected = k_diffusion.sampling.get_sigmas_vp(steps).tolist()
    assert schedule("vp@k-diffusion", steps, NoiseLevels.edm(0.002, 700.0)) == pytest.approx(expected)
    if steps > 1:
        assert schedule("vp", steps, NoiseLevels.edm(expected[-2], expected[0])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("alpha", "beta"), [(0.6, 0.6), (0.5, 0.7), (0.05, 0.05), (2, 5), (50, 0.1), (50, 50)]
)
def test_beta_quantile_is_scipys(alpha: float, beta: float) -> None:
    ranks = np.concatenate([np.linspace(0, 1, 201), [1e-4, 1 - 1e-4]])
    ours = [beta_quantile(float(p), alpha, beta) for p in ranks]
    np.testing.assert_allclose(ours, scipy.stats.beta.ppf(ranks, alpha, beta), rtol=0, atol=1e-12)
    back = [incomplete_beta(x, alpha, beta) for x in np.linspace(0, 1, 41).tolist()]
    np.testing.assert_allclose(
        back, scipy.special.betainc(alpha, beta, np.linspace(0, 1, 41)), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("steps", [1, 2, 10, 20, 40, 60, 300])
@pytest.mark.parametrize(("name", "alpha", "beta"), [("beta", 0.6, 0.6), ("beta57", 0.5, 0.7)])
def test_beta_by_index_and_in_sigma(name: str, alpha: float, beta: float, steps: int) -> None:
    ranks = scipy.stats.beta.ppf(1 - np.arange(steps) / steps, alpha, beta)
    places = np.rint(ranks * 999).astype(int)
    kept = np.unique(places)[::-1]
    assert schedule(f"{name}@comfyui", steps, SD) == [*(SD.sigmas[place] for place in kept), 0.0]
    if len(kept) == steps:
        assert schedule(name, steps, SD) == schedule(f"{name}@comfyui", steps, SD)
    far = np.abs([SD.timestep(sigma) for sigma in schedule(name, steps, SD)[:-1]] - places).max()
    assert far <= 4 + steps / 20  # repeats move to their neighbours
    ends = scipy.stats.beta.ppf(np.linspace(1, 0, steps), 0.6, 0.6)
    in_sigma = SD.sigma_min + ends * (SD.sigma_max - SD.sigma_min)
    assert schedule("beta@a1111", steps, SD)[:-1] == pytest.approx(in_sigma.tolist())


@pytest.mark.parametrize("steps", COUNTS)
def test_kl_optimal_with_and_without_0(steps: int) -> None:
    high, low = (math.atan(sigma) for sigma in (SD.sigma_max, SD.sigma_min))
    if steps > 1:
        part = np.arange(steps) / (steps - 1)
        expected = np.tan(part * low + (1 - part) * high)
        assert schedule("kl_optimal@comfyui", steps, SD) == pytest.approx([*expected, 0.0])
    part = np.arange(steps + 1) / steps
    expected = np.tan(part * low + (1 - part) * high)
    assert schedule("kl_optimal@a1111", steps, SD) == pytest.approx(expected.tolist())


@pytest.mark.parametrize(("mu", "beta"), [(0.0, 0.5), (1.0, 0.3), (-2.0, 2.0)])
def test_laplace(mu: float, beta: float) -> None:
    law = scipy.stats.laplace(mu, beta)
    ends = law.cdf(np.log([SD.sigma_min, SD.sigma_max]))
    expected = np.exp(law.ppf(np.linspace(ends[1], ends[0], 30)))
    assert schedule("laplace", 30, SD, mu=mu, beta=beta)[:-1] == pytest.approx(expected.tolist(), rel=1e-9)
    x = np.linspace(0, 1, 30)
    curve = mu - beta * np.sign(0.5 - x) * np.log(1 - 2 * np.abs(0.5 - x) + 1e-5)
    kept = np.unique(np.exp(curve).clip(SD.sigma_min, SD.sigma_max))[::-1].tolist()
    assert schedule("laplace@comfyui", 30, SD, mu=mu, beta=beta) == pytest.approx(kept)
    assert schedule("laplace@reforge", 30, SD, mu=mu, beta=beta) == pytest.approx([*kept, 0.0])


@pytest.mark.parametrize("steps", [2, 3, 10, 25, 40])
def test_bong_tangent(steps: int) -> None:
    """Written out for the default pivots: both halves bend at int(0.6 (n + 2))."""
    pivot, slope = int((steps + 2) * 0.6), 8 / (steps + 2)
    curve = lambda first, last, at: np.arctan(slope * (at - np.arange(first, last)))  # noqa: E731
    upper = curve(0, pivot, pivot)
    lower = curve(pivot, steps + 2, pivot)
    upper = 0.5 + 0.5 * (upper - upper[-1]) / (upper[0] - upper[-1]) if pivot > 1 else np.ones(1)
    lower = 0.5 * (lower - lower[-1]) / (lower[0] - lower[-1])
    expected = np.concatenate([upper[:-1], lower]).tolist()
    assert schedule("bong_tangent@res4lyf", steps, FLOW) == pytest.approx(expected)
    assert schedule("bong_tangent", steps, NoiseLevels.flow(3.0)) == pytest.approx(expected)
    scaled = [SD.sigma_min + value * (SD.sigma_max - SD.sigma_min) for value in expected[:-1]]
    assert schedule("bong_tangent@sd.cpp", steps, SD) == pytest.approx([*scaled, 0.0])
    assert schedule("bong_tangent", steps, SD) == schedule("bong_tangent@sd.cpp", steps, SD)


def test_tan_and_cosine_and_smoothstep() -> None:
    ramp, span = np.arange(20), SD.sigma_max - SD.sigma_min
    share = (2 / np.pi * np.arctan(-0.4 * (ramp - 10)) + 1) / 2
    expected = SD.sigma_min + span * (share - share[-1]) / (share[0] - share[-1])
    assert schedule("tan", 20, SD)[:-1] == pytest.approx(expected.tolist())
    share = ramp / 19
    expected = SD.sigma_min + 0.5 * span * (1 - np.cos(np.pi * (1 - np.sqrt(share))))
    assert schedule("cosine@reforge", 20, SD)[:-1] == pytest.approx(expected.tolist())
    u = 1 - ramp / 20
    places = np.rint((3 * u**2 - 2 * u**3) * 999).astype(int)
    assert schedule("smoothstep@sd.cpp", 20, SD)[:-1] == [SD.sigmas[place] for place in places]


def test_turbo_of_forge_and_comfyui() -> None:
    assert [SD.timestep(s) for s in schedule("turbo@forge", 4, SD)[:-1]] == pytest.approx(
        [999, 749, 499, 249]
    )
    assert [SD.timestep(s) for s in schedule("sd_turbo@comfyui", 4, SD)[:-1]] == pytest.approx(
        [999, 899, 799, 699]
    )


def test_ddim_uniform_of_comfyui_goes_to_the_end_of_its_table() -> None:
    expected = [*(SD.sigmas[t] for t in range(1, 1000, 33)), 0.0]
    got = schedule("ddim_uniform@comfyui", 30, SD)
    assert sorted(got) == sorted(expected)
    assert len(got) == 32
    assert schedule("ddim_uniform", 30, SD) == got[1:]


def test_gits() -> None:
    """The published rows, in sigmas; each of all rows falls from the first to the last timestep."""
    published = [14.61464119, 5.85520077, 2.84484982, 1.67050016, 1.08895338, 0.74807048, 0.50118381]
    published += [0.32104823, 0.19894916, 0.09824532, 0.0]
    assert schedule("gits@comfyui", 10, SD) == pytest.approx(published, rel=3e-5)
    assert schedule("gits", 2, SD, coeff=0.8) == pytest.approx([14.61464119, 7.49001646, 0.0])
    assert schedule("gits", 20, SD, coeff=1.5)[1:4] == pytest.approx(
        [2.45070267, 1.41535246, 0.95350921], rel=1e-5
    )
    for hundredths in range(80, 155, 5):
        for steps in STEPS:
            numbers = row(hundredths / 100, steps)
            assert len(numbers) == steps + 1
            assert numbers == sorted(set(numbers), reverse=True)
            assert (numbers[0], numbers[-1]) == (100, 0)


def loglinear(table: list[float], count: int) -> list[float]:
    """Along a falling table, as NVIDIA's instructions for Align Your Steps have it."""
    places = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(table)), np.log(table[::-1]))
    return np.exp(places)[::-1].tolist()


@pytest.mark.parametrize("steps", [2, 5, 10, 17, 50])
def test_tables_between_their_entries(steps: int) -> None:
    """n + 1 sigmas of which the last becomes 0 (ComfyUI), or n and a 0 (A1111)."""
    times = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0]
    comfyui = loglinear([SD.sigmas[t] for t in times], steps + 1)
    assert schedule("align_your_steps@comfyui", steps, SD) == pytest.approx([*comfyui[:-1], 0.0])
    three = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
    assert schedule("align_your_steps@a1111", steps, SD) == pytest.approx([*loglinear(three, steps), 0.0])
    flux = [0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001]
    assert schedule("optimal_steps", steps, FLOW) == pytest.approx([*loglinear(flux, steps + 1)[:-1], 0.0])
    gits = [14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029]
    assert schedule("gits@forge", steps, SD) == pytest.approx([*loglinear(gits, steps), 0.0])


@pytest.mark.parametrize(("table", "length"), [("flux", 10), ("wan", 20), ("chroma", 40)])
def test_optimal_steps_at_its_own_number(table: str, length: int) -> None:
    sigmas = schedule("optimal_steps", length, FLOW, table=table)
    assert all(round(sigma, 4) == pytest.approx(sigma, abs=1e-12) for sigma in sigmas)
    assert schedule("align_your_steps_32@forge", 32, SD, table="sdxl")[29:] == pytest.approx(
        [0.05519369, 0.02877334, 0.015, 0.0]
    )


@pytest.mark.parametrize("levels", [FLOW, NoiseLevels.flow(3.0)])
def test_lambda_is_even_on_rectified_flow(levels: NoiseLevels) -> None:
    sigmas = schedule("lambda_uniform", 12, levels)
    gaps = np.diff([math.log((1 - sigma) / sigma) for sigma in sigmas[1:-1]])
    assert gaps == pytest.approx(gaps[0])
    assert sigmas[0] == 1.0


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [2, 8, 30])
def test_normal_and_sgm_uniform_of_comfyui_shift_the_last_time_twice(shift: float, steps: int) -> None:
    levels = NoiseLevels.flow(shift)
    bend = lambda t: shift * t / (1 + (shift - 1) * t)  # noqa: E731
    for name, times in (
        ("normal", np.linspace(1, bend(0.001), steps)),
        ("sgm_uniform", np.linspace(1, bend(0.001), steps + 1)[:-1]),
    ):
        got = schedule(f"{name}@comfyui", steps, levels)[:-1]
        assert got == pytest.approx(bend(times).tolist())
        assert (got == pytest.approx(schedule(name, steps, levels)[:-1])) == (shift == 1.0)
