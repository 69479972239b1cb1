"""Fitted solvers: exact where the answer is known, the walk of the sampler, and the choice of levels."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import NoiseLevels, Stepper, drive, k_diffusion_function, schedule
from sigmagraft.samplers.calibrate_fit import Fit, Trajectories, ends, loss, typical, walk
from sigmagraft.samplers.calibrate_shape import Shape, Solver, solver_of
from sigmagraft.samplers.calibrate_steps import Deviations
from sigmagraft.samplers.calibration import Calibration, calibrated
from sigmagraft.samplers.exponential_multistep import Step
from sigmagraft.samplers.general import GENERAL, serving

VE, FLOW = NoiseLevels.discrete(), NoiseLevels.flow(3.0)
BOTH = pytest.mark.parametrize("levels", [VE, FLOW], ids=["ve", "flow"])


class Gaussian:
    """The denoiser of N(mean, variance): E[x0 | x] = mean + alpha v / (alpha^2 v + sigma^2) (x - alpha mean)."""

    def __init__(self, levels: NoiseLevels, mean: float = 0.5, variance: float = 0.3) -> None:
        self.levels, self.mean, self.variance = levels, mean, variance

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        alpha = self.levels.alpha(sigma)
        share = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        return self.mean + share * (x - alpha * self.mean)

    def end(self, x: Tensor, sigma: float) -> Tensor:
        """Where the ODE takes x: (x - alpha m) / sqrt(alpha^2 v + sigma^2) is constant along it."""
        alpha = self.levels.alpha(sigma)
        spread = math.sqrt(alpha**2 * self.variance + sigma**2)
        return self.mean + math.sqrt(self.variance) * (x - alpha * self.mean) / spread


def crooked(x: Tensor, sigma: float) -> Tensor:
    """No denoiser of anything, but smooth and not linear."""
    return torch.tanh(x / (1 + sigma) + 0.3 * torch.sin(x)) / (1 + 0.1 * sigma)


def started(levels: NoiseLevels, images: int = 4, seed: int = 0) -> tuple[Tensor, float]:
    draw = torch.Generator().manual_seed(seed)
    top = levels.sigma_max
    x = torch.randn(images, 1, 4, 4, generator=draw, dtype=torch.float64)
    return x * math.hypot(levels.alpha(top), top), top


@BOTH
def test_a_fit_to_a_gaussian_reaches_the_exact_solution(levels: NoiseLevels) -> None:
    model = Gaussian(levels)
    x, top = started(levels)
    sigmas = schedule("karras" if levels is VE else "beta", 3, levels)
    shape = Shape(levels, top, 3)
    one = Trajectories(model, x, model.end(x, top))
    fit = Fit(shape, shape.numbers(solver_of("euler", sigmas, levels)), [one])
    before = typical(ends([one], shape.solver(fit.numbers)))
    while fit.improve() and typical(ends([one], shape.solver(fit.numbers))) > 1e-7:
        pass
    other = started(levels, seed=1)[0]
    after = typical(ends([Trajectories(model, other, model.end(other, top))], shape.solver(fit.numbers)))
    assert before > 1e-2
    assert after < 1e-5


def test_every_round_lowers_the_loss_and_what_is_not_finite_counts_as_infinite() -> None:
    x, top = started(VE)
    target = drive("dpmpp_2m", crooked, x, schedule("karras", 200, VE), levels=VE)
    shape = Shape(VE, top, 4)
    one = Trajectories(crooked, x, target)
    fit = Fit(shape, shape.numbers(solver_of("euler", schedule("karras", 4, VE), VE)), [one])
    found = [loss(ends([one], shape.solver(fit.numbers)), 1e-4)]
    for _ in range(3):
        assert fit.improve()
        found.append(loss(ends([one], shape.solver(fit.numbers)), 1e-4))
    assert all(a > b for a, b in pairwise(found))
    assert one.errors(target * math.nan) == [math.inf] * 4


@BOTH
@pytest.mark.parametrize("number", range(len(GENERAL)), ids=lambda number: GENERAL[number].label)
def test_the_solver_of_a_sampler_walks_as_the_sampler_does(levels: NoiseLevels, number: int) -> None:
    way = GENERAL[number]
    if not way.serves(levels):
        return
    sigmas = way.sigmas(6, levels)
    x = started(levels)[0]
    solver = solver_of(way.sampler, sigmas, levels, way.options)
    ours = walk(Trajectories(crooked, x, x), solver).states[-1]
    theirs = drive(way.sampler, crooked, x, sigmas, levels=levels, options=way.options)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_sampler_of_two_evaluations_a_step_is_no_such_solver() -> None:
    with pytest.raises(OptionError, match="expected 3, one a step"):
        solver_of("midpoint_2s", schedule("karras", 3, VE), VE)


@BOTH
@pytest.mark.parametrize("memory", [1, 2, 4])
def test_numbers_and_solver_say_the_same(levels: NoiseLevels, memory: int) -> None:
    sigmas = schedule("normal", 5, levels)
    solver = solver_of("dpmpp_2m" if memory > 1 else "euler", sigmas, levels)
    shape = Shape(levels, sigmas[0], 5, memory)
    numbers = shape.numbers(solver)
    again = shape.solver(numbers)
    assert again is not None
    assert again.sigmas == pytest.approx(solver.sigmas)
    for mine, given in zip(again.rows, solver.rows, strict=True):
        assert mine.decay == pytest.approx(given.decay, abs=1e-12)
        kept = [*given.weights, *[0.0] * memory][: len(mine.weights)]
        assert mine.weights == pytest.approx(kept, abs=1e-12)
    assert len(shape.first_steps()) == len(numbers)
    numbers[0], at = -numbers[0] + 20, numbers[0]
    assert shape.solver(numbers) is None or numbers[0] < at  # levels that do not fall


def test_a_number_changes_no_step_before_the_one_it_is_said_to() -> None:
    sigmas = schedule("karras", 5, VE)
    shape = Shape(VE, sigmas[0], 5)
    numbers = shape.numbers(solver_of("dpmpp_2m", sigmas, VE))
    plain = shape.solver(numbers)
    for place, step in enumerate(shape.first_steps()):
        moved = list(numbers)
        moved[place] += 1e-3
        solver = shape.solver(moved)
        assert solver.rows[:step] == plain.rows[:step]
        assert solver.sigmas[: step + 1] == plain.sigmas[: step + 1]
        assert solver.rows[step] != plain.rows[step] or solver.sigmas[step + 1] != plain.sigmas[step + 1]


def test_the_levels_of_least_deviation_are_those_of_a_search_of_all() -> None:
    sigmas = schedule("karras", 9, VE)
    found = Deviations(VE, sigmas)
    see, finish = found.seeing()
    finish(drive("dpmpp_2m", crooked, started(VE)[0], sigmas, levels=VE, callback=see))
    paths = [(0, *inner, 9) for inner in combinations(range(1, 9), 3)]
    least = min(paths, key=lambda path: sum(found.cost[i, j].item() for i, j in pairwise(path)))
    assert found.best(4) == [sigmas[place] for place in least]
    assert found.images == 4


def test_the_deviation_of_a_constant_denoised_is_nothing() -> None:
    sigmas = schedule("beta", 6, FLOW)
    found = Deviations(FLOW, sigmas)
    see, finish = found.seeing()
    x = started(FLOW)[0]
    finish(drive("euler", lambda x, sigma: torch.ones_like(x), x, sigmas, levels=FLOW, callback=see))
    assert found.cost.max() < 1e-12


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    solver = solver_of("adams_pc", schedule("fitted", 5, VE), VE, {"order": 2})
    return Calibration(solver.sigmas, solver.rows)


def test_the_sampler_walks_its_solver_by_every_driver(fitted: Calibration) -> None:
    x, _ = started(VE)
    spec = calibrated(fitted)
    expected = walk(Trajectories(crooked, x, x), Solver(fitted.sigmas, fitted.rows)).states[-1]
    torch.testing.assert_close(drive(spec, crooked, x, fitted.sigmas, levels=VE), expected)
    stepper = Stepper(spec, fitted.sigmas, levels=VE)
    sample = stepper.begin(x.clone())
    for t, sigma in zip(stepper.timesteps, stepper.evaluated, strict=True):
        sample = stepper.step(crooked(sample, sigma), t, sample)
    torch.testing.assert_close(sample, expected)
    rounded = torch.tensor(fitted.sigmas, dtype=torch.float32)  # as a host keeps them
    hosted = k_diffusion_function(spec)(lambda x, s: crooked(x, s[0].item()), x, rounded, disable=True)
    torch.testing.assert_close(hosted, expected, rtol=1e-3, atol=1e-3)


def test_a_walk_that_begins_lower_goes_by_a_line_until_it_has_what_the_rows_need(fitted: Calibration) -> None:
    tail = fitted.sigmas[2:]
    x = started(VE)[0] * tail[0]
    end = drive(calibrated(fitted), crooked, x, tail, levels=VE)
    assert end.isfinite().all()
    alone = drive(calibrated(fitted), crooked, x, fitted.sigmas[-2:], levels=VE)
    torch.testing.assert_close(alone, crooked(x, fitted.sigmas[-2]))


def test_weights_of_nothing_ask_for_no_evaluations(fitted: Calibration) -> None:
    """A walk that begins lower goes by rows that need only what it has, however they are written."""
    rows = [Step(row.decay, row.weights[:1]) for row in fitted.rows]
    padded = [Step(row.decay, [*row.weights, *[0.0] * number]) for number, row in enumerate(rows)]
    ends = []
    for each in (rows, padded):
        spec = calibrated(Calibration(fitted.sigmas, tuple(each)))
        x = torch.ones(1, 4, 2, 2, dtype=torch.float64)
        walk = drive(
            spec, lambda x, sigma: x / (1 + sigma**2), x, fitted.sigmas[2:], levels=NoiseLevels.discrete()
        )
        ends.append(walk)
    assert torch.equal(*ends)
    by_hand = torch.ones(1, 4, 2, 2, dtype=torch.float64)
    for row, sigma in zip(rows[2:], fitted.sigmas[2:], strict=False):
        by_hand = by_hand * row.decay + row.weights[0] * by_hand / (1 + sigma**2)
    assert torch.allclose(ends[0], by_hand)


@pytest.mark.parametrize(
    "sigmas", [(14.0, 3.0, 1.0, 0.0), schedule("karras", 5, VE), schedule("karras", 9, VE)]
)
def test_other_levels_are_refused(fitted: Calibration, sigmas: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match=r"sampler calibrated.*its own 5"):
        drive(calibrated(fitted), crooked, started(VE)[0], sigmas, levels=VE)


@pytest.mark.parametrize(
    ("sigmas", "rows"),
    [
        ((1.0, 2.0, 0.0), (Step(0.5, [0.5]), Step(0.0, [1.0]))),
        ((2.0, 1.0), (Step(0.5, [0.5]),)),
        ((2.0, 1.0, 0.0), (Step(0.5, [0.5]),)),
        ((2.0, 1.0, 0.0), (Step(0.5, [0.5, 0.1]), Step(0.0, [1.0]))),
        ((2.0, 1.0, 0.0), (Step(0.5, []), Step(0.0, [1.0]))),
        ((2.0, 1.0, 0.0), (Step(math.nan, [0.5]), Step(0.0, [1.0]))),
    ],
)
def test_a_calibration_that_no_walk_could_follow_is_refused(sigmas: tuple, rows: tuple) -> None:
    with pytest.raises(OptionError):
        Calibration(sigmas, rows)


@BOTH
def test_general_ways_are_for_any_few_steps(levels: NoiseLevels) -> None:
    ways = list(serving(levels))
    assert len({way.label for way in GENERAL}) == len(GENERAL)
    assert any(way.label == "dpmpp_2m karras" for way in ways)
    for way in ways:
        assert way.sigmas(6, levels)[0] <= levels.sigma_max * 1.001
