"""Error against model evaluations: our samplers beside every one of diffusers and k-diffusion, on a known end point.

    python -m benchmarks.solvers [--process ve flow] [--budgets 5 8 10 15 20] [--mixtures 4] [--images 8] [--all]
    python -m benchmarks.solvers --bundled        # the bundled model's own 500-step walk as the reference

The error is the RMS distance to the end of the probability-flow ODE, relative to its RMS, median over images. At each
budget a sampler takes as many steps as it can afford. "theirs" is the best of all peers, chosen in hindsight; "ours" is
one choice made beforehand, adams_pc with the schedule `fitted`; --all also shows the best of all of ours in hindsight.
Solvers fitted to one model are measured by benchmarks.solver_fitted.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from benchmarks.mixture import Mixture
from benchmarks.solver_peers import Denoise, Peer, peers
from sigmagraft.core.errors import SigmaGraftError
from sigmagraft.samplers import SAMPLERS, SCHEDULES, NoiseLevels, SamplerSpec, drive, schedule

CHOICE = ("adams_pc", "fitted")
SHIFTS = (1.0, 3.0, 5.0)
FEW = ("fitted", "karras", "exponential", "normal", "sgm_uniform", "beta", "kl_optimal")


@dataclass(frozen=True)
class Case:
    """A denoiser, unit noise to begin from, and where the ODE ends."""

    denoise: Denoise
    noise: Tensor
    end: Tensor

    def errors(self, found: Tensor) -> list[float]:
        """Of every image."""
        away = (found.double() - self.end).square().flatten(1).mean(1).sqrt()
        return (away / self.end.square().flatten(1).mean(1).sqrt()).tolist()


class Count:
    """A denoiser that knows how often it was called; without one, it answers what is cheap."""

    def __init__(self, denoise: Denoise | None = None) -> None:
        self.denoise, self.calls = denoise, 0

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.calls += 1
        return self.denoise(x, sigma) if self.denoise else x * 0.5


def ours(levels: NoiseLevels, spec: SamplerSpec, name: str) -> Peer:
    """One of our samplers on one of our schedules, without noise."""
    options = {spec.noise_option: 0.0} if spec.noise_option else {}

    def walk(denoise: Denoise, noise: Tensor, n: int) -> Tensor:
        sigmas = schedule(name, n, levels)
        x = noise * math.hypot(levels.alpha(sigmas[0]), sigmas[0])
        return drive(spec, denoise, x, sigmas, levels=levels, options=options)

    return Peer(f"{spec.name} {name}", walk)


def all_ours(levels: NoiseLevels) -> Iterator[Peer]:
    """Every deterministic one of ours on the common schedules."""
    for spec, name in product(SAMPLERS, FEW):
        fits = spec.order and not spec.adaptive and (spec.noise_option or not spec.stochastic)
        if fits and SCHEDULES[name].needs.serves(levels):
            yield ours(levels, spec, name)


def affordable(peer: Peer, budgets: list[int]) -> dict[int, int]:
    """For each budget the most steps whose evaluations it covers; budgets that cover none are left out."""
    steps: dict[int, int] = {}
    tiny = torch.ones(1, 4, 2, 2, dtype=torch.float64)
    for n in range(1, max(budgets) + 1):
        count = Count()
        try:
            peer.walk(count, tiny, n)
        except (SigmaGraftError, ValueError, IndexError, RuntimeError, TypeError, UnboundLocalError):
            continue  # too few steps for this one
        steps |= {budget: n for budget in budgets if count.calls <= budget}
        if count.calls > max(budgets):
            break
    return steps


def measure(peer: Peer, cases: list[Case], budgets: list[int]) -> dict[int, float]:
    """Median error at each budget."""
    found = {}
    for budget, n in affordable(peer, budgets).items():
        errors = [e for case in cases for e in case.errors(peer.walk(case.denoise, case.noise, n))]
        found[budget] = statistics.median(errors)
    return found


def best(rows: dict[str, dict[int, float]], budget: int) -> tuple[float, str]:
    """(error, label) of the smallest finite error."""
    here = [(row[budget], label) for label, row in rows.items() if math.isfinite(row.get(budget, math.nan))]
    return min(here)


def report(
    title: str, levels: NoiseLevels, theirs: list[Peer], cases: list[Case], args: argparse.Namespace
) -> None:
    """Prints a table, one line a budget."""
    budgets = args.budgets
    rows = {peer.label: measure(peer, cases, budgets) for peer in theirs}
    sampler, name = CHOICE
    chosen = measure(ours(levels, SAMPLERS[sampler], name), cases, budgets)
    print(f"\n{title}: {len(rows)} peers, {sum(len(case.noise) for case in cases)} images")
    print(f"{'NFE':>4} {'theirs':>9} {'ours':>9} {'ratio':>6}  best of theirs")
    for budget in budgets:
        mark, label = best(rows, budget)
        print(f"{budget:4} {mark:9.5f} {chosen[budget]:9.5f} {chosen[budget] / mark:6.2f}  {label}")
    if args.all:
        mine = {peer.label: measure(peer, cases, budgets) for peer in all_ours(levels)}
        for budget in budgets:
            error, label = best(mine, budget)
            print(
                f"{budget:4} best of all {len(mine)} of ours {error:9.5f} {error / best(rows, budget)[0]:6.2f}  {label}"
            )


def lambdas(levels: NoiseLevels, cases: list[Case], budgets: list[int]) -> None:
    """What it costs on flow to take -log sigma, as some hosts do, for the half-log-SNR: one method, one schedule."""
    theirs = next(peer for peer in peers(levels) if peer.label == "k-diffusion dpmpp_2m simple")
    exact, rough = (
        measure(peer, cases, budgets) for peer in (ours(levels, SAMPLERS["dpmpp_2m"], "simple"), theirs)
    )
    print("dpmpp_2m on simple, exact half-log-SNR beside -log sigma:")
    for budget in budgets:
        print(f"{budget:4} {exact[budget]:9.5f} {rough[budget]:9.5f}")


def mixtures(levels: NoiseLevels, args: argparse.Namespace, seed: int = 100) -> list[Case]:
    """Cases on Gaussian mixtures of 24 components or more, from noise of `seed` and on."""
    found = []
    for number in range(args.mixtures):
        mixture = Mixture(levels, number, components=24 + 8 * number)
        noise = mixture.noise(args.images, seed + number)
        top = levels.sigma_max
        end = mixture.end(noise * math.hypot(levels.alpha(top), top), top)
        found.append(Case(mixture, noise, end))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--process", nargs="+", choices=["ve", "flow"], default=["ve", "flow"])
    parser.add_argument("--budgets", nargs="+", type=int, default=[5, 8, 10, 15, 20])
    parser.add_argument("--mixtures", type=int, default=4)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--all", action="store_true", help="also every sampler of ours")
    parser.add_argument("--bundled", action="store_true", help="the bundled model instead of mixtures")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("diffusers").setLevel(logging.CRITICAL)
    torch.set_grad_enabled(False)
    if args.bundled:
        from benchmarks.solver_bundled import bundled

        levels, cases = bundled(args.images)
        return report("bundled model, guidance 4", levels, list(peers(levels)), cases, args)
    if "ve" in args.process:
        levels = NoiseLevels.discrete()
        report("mixture, variance exploding", levels, list(peers(levels)), mixtures(levels, args), args)
    if "flow" in args.process:
        levels = NoiseLevels.flow(3.0)
        theirs = [
            Peer(f"{peer.label} shift {shift:g}", peer.walk)
            for shift in SHIFTS
            for peer in peers(NoiseLevels.flow(shift), shift)
        ]
        cases = mixtures(levels, args)
        report("mixture, rectified flow", levels, theirs, cases, args)
        lambdas(levels, cases, args.budgets)


if __name__ == "__main__":
    main()
