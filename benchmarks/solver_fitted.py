"""Solvers fitted to a model beside the best of all general ones, on starts that no fit has seen.

    python -m benchmarks.solver_fitted [--process ve flow] [--steps 4 5 6 8 10] [--mixtures 4] [--images 16]
    python -m benchmarks.solver_fitted --bundled scenes-5.json scenes-6.json [--prompts 50] [--finalists 4]

On each mixture a solver is fitted to 32 walks and measured on others. The general ones are every peer of diffusers and
k-diffusion with its schedules, and every registered sampler on the common schedules, the best of them chosen in
hindsight. On the bundled model all are screened on a few prompts and the finalists measured on all of them.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.solver_peers import Peer, peers
from benchmarks.solvers import Case, affordable, all_ours, mixtures
from sigmagraft.samplers import NoiseLevels, drive
from sigmagraft.samplers.calibrate_fit import Fit, Trajectories, ends, typical
from sigmagraft.samplers.calibrate_shape import Shape, Solver, solver_of
from sigmagraft.samplers.calibration import Calibration, calibrated
from sigmagraft.samplers.general import serving

ROUNDS, STARTS = 10, 3


def start(levels: NoiseLevels, noise: Tensor, sigma: float) -> Tensor:
    """x at this level, before anything is known."""
    return noise * (levels.alpha(sigma) ** 2 + sigma**2) ** 0.5


def fitted(levels: NoiseLevels, case: Case, steps: int) -> Solver:
    """A solver fitted to a case's walks, from the general way that does best on them."""
    begun = []
    for way in serving(levels):
        sigmas = way.sigmas(steps, levels)
        one = Trajectories(case.denoise, start(levels, case.noise, sigmas[0]), case.end)
        solver = solver_of(way.sampler, sigmas, levels, way.options)
        shape = Shape(levels, sigmas[0], steps)
        numbers = shape.numbers(solver)
        found = shape.solver(numbers)
        begun += [(typical(ends([one], found)), way.label, shape, numbers, one)] if found else []
    made = []
    for _, _, shape, numbers, one in sorted(begun, key=lambda item: item[:2])[:STARTS]:
        fit = Fit(shape, numbers, [one])
        for _ in range(ROUNDS):
            if not fit.improve():
                break
        solver = shape.solver(fit.numbers)
        assert solver is not None  # only such numbers are kept
        made.append((typical(ends([one], solver)), solver))
    return min(made, key=lambda item: item[0])[1]


def errors(levels: NoiseLevels, case: Case, solver: Solver) -> list[float]:
    """Of every image of the case."""
    spec = calibrated(Calibration(solver.sigmas, solver.rows))
    x = start(levels, case.noise, solver.sigmas[0])
    return case.errors(drive(spec, case.denoise, x, solver.sigmas, levels=levels))


def of_mixtures(levels: NoiseLevels, args: argparse.Namespace) -> None:
    """Prints a line for each number of steps: medians over all images of all mixtures."""
    cases = mixtures(levels, args)
    seen = mixtures(levels, argparse.Namespace(mixtures=args.mixtures, images=32), seed=900)
    general = [*peers(levels, 3.0), *all_ours(levels)]
    print(f"{len(general)} general ones, {sum(len(case.noise) for case in cases)} images")
    print(f"{'NFE':>4} {'general':>9} {'fitted':>9} {'ratio':>6}  best general")
    counts = {peer.label: affordable(peer, args.steps) for peer in general}
    for budget in args.steps:
        best, label = min(
            (statistics.median(_errors(peer, cases, counts[peer.label][budget])), peer.label)
            for peer in general
            if budget in counts[peer.label]
        )
        found = [
            e
            for one, case in zip(seen, cases, strict=True)
            for e in errors(levels, case, fitted(levels, one, budget))
        ]
        mine = statistics.median(found)
        print(f"{budget:4} {best:9.5f} {mine:9.5f} {mine / best:6.2f}  {label}", flush=True)


def _errors(peer: Peer, cases: Iterable[Case], steps: int) -> list[float]:
    return [
        e if e == e else float("inf")
        for case in cases
        for e in case.errors(peer.walk(case.denoise, case.noise, steps))
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--process", nargs="+", choices=["ve", "flow"], default=["ve", "flow"])
    parser.add_argument("--steps", nargs="+", type=int, default=[4, 5, 6, 8, 10])
    parser.add_argument("--mixtures", type=int, default=4)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--bundled", nargs="*", metavar="FILE", help="calibrations of the bundled model")
    parser.add_argument("--model", default="bundled", help="the model that they are of")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--fine", type=int, default=500, help="steps of the reference")
    parser.add_argument("--cache", type=Path, default=Path("solver_fitted"), help="folder of what was walked")
    parser.add_argument("--finalists", type=int, default=4)
    parser.add_argument("--ours-only", action="store_true", help="no peers: `general` ways of ours alone")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    logging.getLogger("diffusers").setLevel(logging.CRITICAL)
    torch.set_grad_enabled(False)
    if args.bundled is not None:
        from benchmarks.solver_fitted_bundled import of_bundled

        return of_bundled(args)
    for name in args.process:
        levels = NoiseLevels.discrete() if name == "ve" else NoiseLevels.flow(3.0)
        print(f"\nmixtures, {name}")
        of_mixtures(levels, args)


if __name__ == "__main__":
    main()
