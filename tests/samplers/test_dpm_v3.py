"""DPM-Solver-v3: its limits are the solvers it generalises, its order holds for any statistics, its own are good."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from math import log2
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.samplers import NoiseLevels, Stepper, drive, schedule
from sigmagraft.samplers.dpm_v3 import dpm_solver_v3
from sigmagraft.samplers.dpm_v3_integrals import newton_weights, span
from sigmagraft.samplers.foreign import find_method
from sigmagraft.samplers.model_statistics import ModelStatistics, chebyshev_slopes, polynomial
from sigmagraft.samplers.replay import Recording, recorded, resume
from sigmagraft.samplers.statistics_estimate import Estimator
from sigmagraft.samplers.statistics_file import KEY, load_statistics, save_statistics

integrate = pytest.importorskip("scipy.integrate")

PLAIN = {"corrector": "none"}
LAMBDAS = (-3.0, -1.0, 0.5, 2.0, 4.0)


def arbitrary(size: int = 6) -> ModelStatistics:
    """Of no model: the order must not depend on what the tables say."""
    draw = torch.Generator().manual_seed(0)
    l, s, b = (torch.rand(5, size, generator=draw, dtype=torch.float64) for _ in range(3))  # noqa: E741
    return ModelStatistics(LAMBDAS, 0.1 + 0.8 * l, -s, b - 0.5)


def falling(levels: NoiseLevels, steps: int, low: float = 0.2) -> list[float]:
    high = 0.85 if levels.is_flow else 4.0
    return [(high ** (1 / 3) + i / steps * (low ** (1 / 3) - high ** (1 / 3))) ** 3 for i in range(steps + 1)]


def noise(levels: NoiseLevels) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return falling(levels, 1)[0] * torch.randn(4, 6, dtype=torch.float64, generator=draw)


LIMITS = [
    (1.0, 0.0, "dpmpp_3m", {"solver_order": 1}, 1),
    (1.0, 0.0, "dpmpp_2m", {"solver_type": "heun"}, 2),
    (1.0, 0.0, "dpmpp_3m", {"solver_type": "heun", "curvature": "exact"}, 3),
    (0.0, -1.0, "dpm_solver_2m", {"solver_type": "heun"}, 2),
    (0.0, -1.0, "dpm_solver_3m", {"solver_type": "heun", "curvature": "exact"}, 3),
]


@pytest.mark.parametrize(("l", "s", "name", "options", "order"), LIMITS)
def test_constant_statistics_are_the_solvers_it_generalises(
    l: float,  # noqa: E741
    s: float,
    name: str,
    options: dict,
    order: int,
    levels: NoiseLevels,
    mixture,
) -> None:
    spec, sigmas = dpm_solver_v3(ModelStatistics.constant(l, s)), falling(levels, 18)
    if l == 1.0:
        sigmas += [0.0]
    ours = drive(spec, mixture, noise(levels), sigmas, levels=levels, options={"order": order, **PLAIN})
    theirs = drive(name, mixture, noise(levels), sigmas, levels=levels, options=options)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


ORDERS = [
    ({"order": 1}, 1),
    ({"order": 2}, 2),
    ({"order": 2, **PLAIN}, 2),
    ({"order": 3}, 3),
    ({"order": 3, **PLAIN}, 3),
    ({"order": 3, "p_pseudo": 1, **PLAIN}, 2),
]


@pytest.mark.parametrize(("options", "order"), ORDERS)
def test_order_whatever_the_statistics(options: dict, order: int, levels: NoiseLevels, mixture) -> None:
    """From a start of finer steps, in which a multistep method gathers its history."""
    x, sigmas = noise(levels), falling(levels, 1)

    def slope(sigma: float, flat):
        at = torch.from_numpy(flat).view_as(x)
        return ((at - mixture(at, sigma)) / sigma).flatten().numpy()

    exact = integrate.solve_ivp(
        slope, sigmas, x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-13
    ).y[:, -1]
    errors = []
    for steps in (40, 80, 160):
        path = falling(levels, steps)
        gap = path[0] - path[1]
        path[1:1] = [path[0] - gap * steps**-1.5, path[0] - gap * steps**-0.6]
        end = drive(dpm_solver_v3(arbitrary()), mixture, x, path, levels=levels, options=options)
        errors.append((end.flatten() - torch.from_numpy(exact)).norm().item())
    found = [log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert found[-1] == pytest.approx(order, abs=0.45), (found, errors)


def test_integrals_are_those_of_the_definition() -> None:
    """Against scipy's adaptive quadrature, nested, of one place."""
    table, first, last = arbitrary(1), -1.2, 0.9

    def at(value: float) -> list[float]:
        return [one.item() for one in table.at(torch.tensor([value], dtype=torch.float64))]

    def primitive(which: int, end: float) -> float:
        return integrate.quad(lambda v: at(v)[which], first, end)[0]

    def drift(end: float) -> float:
        return integrate.quad(
            lambda v: torch.tensor(-primitive(1, v)).exp().item() * at(v)[2], first, end, epsabs=1e-7
        )[0]

    found = span(table, first, last, 2)
    assert found.L.item() == pytest.approx(primitive(0, last), abs=1e-9)
    assert found.S.item() == pytest.approx(primitive(1, last), abs=1e-9)
    assert found.B.item() == pytest.approx(drift(last), abs=1e-6)
    u = (last - first) / 2
    places = [first + u * (1 + y) for y in (-(0.6**0.5), 0.0, 0.6**0.5)]
    weights = [u * w for w in (5 / 9, 8 / 9, 5 / 9)]
    grow = [torch.tensor(primitive(0, v) + primitive(1, v)).exp().item() for v in places]
    rough = sum(w * e * (v - first) / (2 * u) for w, e, v in zip(weights, grow, places, strict=True))
    assert found.moments[1].item() == pytest.approx(rough, rel=0.01)


def test_newton_weights_integrate_polynomials() -> None:
    moments = [torch.tensor(1 / (k + 1), dtype=torch.float64) for k in range(3)]  # E = 1
    nodes = [0.0, -0.7, 1.0]
    weights = newton_weights(nodes, moments, False)
    for power in range(3):
        total = sum(w * node**power for w, node in zip(weights, nodes, strict=True))
        assert float(total) == pytest.approx(1 / (power + 1))


def test_polynomials_and_their_slopes() -> None:
    places = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)
    fit = polynomial((-1.0, 0.0, 1.0, 2.0), torch.tensor([-1.0, 0.0, 1.0, 8.0], dtype=torch.float64), 3)
    torch.testing.assert_close(fit(places), places**3)
    torch.testing.assert_close(fit(places, derived=True), 3 * places**2)
    assert chebyshev_slopes(0, places).tolist() == [[0.0]] * 3


class Gaussian:
    """Data N(m, v) in each channel: D = m + g (x - alpha m), g = alpha v / (alpha^2 v + sigma^2)."""

    def __init__(self, levels: NoiseLevels) -> None:
        self.levels = levels
        self.mean = torch.tensor([0.5, -1.0]).double().reshape(2, 1, 1)
        self.variance = torch.tensor([0.3, 1.2]).double().reshape(2, 1, 1)

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        alpha = self.levels.alpha(sigma)
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        return self.mean + gain * (x - alpha * self.mean)


def estimated(
    denoise, levels: NoiseLevels, shape: tuple[int, ...], batches: int = 2, **how
) -> ModelStatistics:
    estimator = Estimator(levels, **how)
    draw = torch.Generator().manual_seed(5)
    for _ in range(batches):
        start = torch.randn(8, *shape, generator=draw, dtype=torch.float64) * levels.sigma_max
        estimator.add(denoise, start)
    return estimator.result({"model": "closed form"})


def test_the_estimate_on_gaussian_data_is_the_closed_form(levels: NoiseLevels) -> None:
    """J = v / (v + e^-2 lambda), so l = 1 - J; F = m (1 - J) then, of which b' must say all: s F + b = F'."""
    data = Gaussian(levels)
    found = estimated(data, levels, (2, 3, 3))
    at = torch.linspace(-2.0, 3.0, 7, dtype=torch.float64)
    l, s, b = found.at(at)  # noqa: E741
    noise_part = torch.exp(-2 * at).reshape(-1, 1, 1, 1)
    exact = noise_part / (data.variance + noise_part)
    torch.testing.assert_close(l, exact, rtol=2e-3, atol=2e-3)
    force = data.mean * exact
    torch.testing.assert_close(s * force + b, -2 * exact * (1 - exact) * data.mean, rtol=0.02, atol=5e-3)
    assert found.facts["jacobian"] == "forward-mode"


def test_gaussian_data_are_solved_in_one_step(levels: NoiseLevels) -> None:
    """The linear part and the drift are then exact: the scheme is what the paper says it is."""
    data = Gaussian(levels)
    spec = dpm_solver_v3(estimated(data, levels, (2, 3, 3)))
    x, sigmas = noise(levels)[:, :2].reshape(4, 2, 1, 1), [falling(levels, 1)[0], 0.2]
    one, many = (
        drive(name, data, x, path, levels=levels)
        for name, path in ((spec, sigmas), ("dpmpp_2m", falling(levels, 400)))
    )
    plain = drive("dpmpp_2m", data, x, sigmas, levels=levels)
    assert (one - many).norm() < 0.02 * (plain - many).norm()


def test_differences_stand_in_where_forward_mode_fails(levels: NoiseLevels) -> None:
    data = Gaussian(levels)

    class Hard(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

    found = estimated(lambda x, sigma: data(Hard.apply(x), sigma), levels, (2, 3, 3), rows=16, degree=8)
    assert found.facts["jacobian"] == "finite differences"
    easy = estimated(data, levels, (2, 3, 3), rows=16, degree=8)
    torch.testing.assert_close(found.l, easy.l, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("steps", [5, 8, 10])
@pytest.mark.parametrize("name", ["normal", "karras"])
def test_nearer_to_the_solution_than_plain_multistep(name: str, steps: int, latents) -> None:
    """On a mixture whose denoiser is known, at equal evaluations on the same schedule."""
    levels, mixture, statistics, x, end = latents
    if levels.is_flow and name == "karras":
        pytest.skip("begins at sigma 0.9999: an unfit schedule for flow, and all fail alike")
    sigmas = schedule(name, steps, levels)

    def error(sampler) -> float:
        return float(
            (drive(sampler, mixture, x, sigmas, levels=levels) - end).flatten(1).norm(dim=1).median()
        )

    ours = error(dpm_solver_v3(statistics))
    assert ours < 0.5 * error("dpmpp_2m")
    assert ours < 0.5 * error("dpmpp_3m")


@pytest.fixture(scope="module", params=["ve", "flow"])
def latents(request: pytest.FixtureRequest):
    mixture_module = pytest.importorskip("sigmagraft.benchmarks.mixture")
    levels = NoiseLevels.discrete() if request.param == "ve" else NoiseLevels.flow(shift=3.0)
    mixture = mixture_module.Mixture(levels, seed=0)
    statistics = estimated(mixture, levels, mixture_module.SHAPE, batches=3)
    x = mixture.noise(4, 7) * levels.sigma_max
    return levels, mixture, statistics, x, mixture.end(x, levels.sigma_max)


def test_a_stepper_gives_what_drive_gives(levels: NoiseLevels, mixture) -> None:
    spec, sigmas = dpm_solver_v3(arbitrary()), [*falling(levels, 6), 0.0]
    stepper = Stepper(spec, sigmas, levels=levels)
    x = noise(levels)
    for sigma, t in zip(stepper.evaluated, stepper.timesteps, strict=True):
        x = stepper.step(mixture(x, sigma), t, x)
    assert torch.equal(x, drive(spec, mixture, noise(levels), sigmas, levels=levels))


def test_a_walk_leaves_tensors_alone_and_keeps_images_apart(levels: NoiseLevels, mixture) -> None:
    spec, sigmas, x = dpm_solver_v3(arbitrary()), [*falling(levels, 6), 0.0], noise(levels)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watched(at: torch.Tensor, sigma: float) -> torch.Tensor:
        answer = mixture(at, sigma)
        seen.extend([(at, at.clone()), (answer, answer.clone())])
        return answer

    end = drive(spec, watched, x, sigmas, levels=levels)
    assert all(torch.equal(kept, before) for kept, before in seen)
    assert len(seen) == 2 * 7
    alone = drive(spec, mixture, x[2:3], sigmas, levels=levels)
    torch.testing.assert_close(end[2:3], alone)


def test_half_and_none_correct_less(levels: NoiseLevels, mixture) -> None:
    ends = [
        drive(
            dpm_solver_v3(arbitrary()), mixture, noise(levels), falling(levels, 8), levels=levels, options=o
        )
        for o in ({}, {"corrector": "half"}, PLAIN)
    ]
    assert not torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[1], ends[2])


@pytest.mark.parametrize(("guidance", "as_if"), [(1.0, "full"), (7.0, "none")])
def test_under_strong_guidance_nothing_is_corrected_unasked(
    guidance: float, as_if: str, levels: NoiseLevels, mixture
) -> None:
    spec = dpm_solver_v3(replace(arbitrary(), facts={"guidance": guidance}))
    unasked, asked = (
        drive(spec, mixture, noise(levels), falling(levels, 8), levels=levels, options=options)
        for options in ({}, {"corrector": as_if})
    )
    assert torch.equal(unasked, asked)


def written(folder: Path) -> Path:
    path = folder / "m.v3.safetensors"
    tables = [torch.full((2, 4, 1, 1), value, dtype=torch.float64) for value in (0.5, -1.0, 0.25)]
    save_statistics(ModelStatistics((-1.0, 2.0), *tables, facts={"guidance": 7.0}), path)
    return path


def test_a_file_gives_the_statistics_back_and_is_a_sampler(tmp_path: Path, levels: NoiseLevels) -> None:
    path = written(tmp_path)
    found = load_statistics(path)
    assert found.lambdas == (-1.0, 2.0)
    assert found.facts["guidance"] == 7.0
    assert found.s.unique().tolist() == [-1.0]
    spec = find_method(str(path))
    assert spec.name == str(path)
    x = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    end = drive(spec, Gaussian4(levels), x, [0.8, 0.4, 0.0], levels=levels)
    assert end.dtype == torch.float32


def test_a_stopped_walk_of_a_file_goes_on_by_its_path(tmp_path: Path, levels: NoiseLevels) -> None:
    path, sigmas = str(written(tmp_path)), [0.8, 0.6, 0.4, 0.2]
    x = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    recording, state = Recording(), tmp_path / "half.safetensors"
    drive(recorded(path, recording, stop=2), Gaussian4(levels), x, sigmas, levels=levels)
    recording.save(state)
    end = resume(Recording.load(state), Gaussian4(levels), levels=levels)
    assert torch.equal(end, drive(find_method(path), Gaussian4(levels), x, sigmas, levels=levels))


def Gaussian4(levels: NoiseLevels):
    return lambda x, sigma: x * (levels.alpha(sigma) / (levels.alpha(sigma) ** 2 + sigma**2))


def test_files_that_are_broken_or_something_else_say_so(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole, tensors = path.read_bytes(), load_file(path)
    with pytest.raises(FileError, match=r"no\.v3.*cannot read"):
        find_method(str(tmp_path / "no.v3.safetensors"))
    cut = tmp_path / "cut.v3.safetensors"
    for length in (0, 4, 40, len(whole) - 8):
        cut.write_bytes(whole[:length])
        with pytest.raises(FileError):
            load_statistics(cut)
    other = tmp_path / "other.v3.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(FileError, match="no statistics"):
        load_statistics(other)
    for changed, said in (
        ({"l": tensors["l"] * float("nan")}, "finite"),
        ({"lambdas": tensors["lambdas"].flip(0)}, "rising"),
        ({"b": tensors["b"][:1].clone()}, "shape"),
    ):
        save_file({**tensors, **changed}, other, {KEY: json.dumps({"format": 1})})
        with pytest.raises(FileError, match=said):
            load_statistics(other)
    for text, said in (("{", "damaged"), (json.dumps({"format": 9, "version": "7"}), "version 7")):
        save_file(tensors, other, {KEY: text})
        with pytest.raises(FileError, match=said):
            load_statistics(other)


def test_latents_that_the_tables_do_not_fit_are_refused(levels: NoiseLevels) -> None:
    table = torch.full((1, 4, 8, 8), 0.5, dtype=torch.float64)
    spec = dpm_solver_v3(ModelStatistics((0.0,), table, table, table))
    with pytest.raises(OptionError, match=r"for latents \(4, 8, 8\)"):
        drive(spec, lambda x, s: x, torch.zeros(1, 4, 4, 8), [0.5, 0.2], levels=levels)
    with pytest.raises(OptionError, match="no image"):
        Estimator(levels).result()
    with pytest.raises(OptionError, match="degree"):
        Estimator(levels, rows=4, degree=4)
