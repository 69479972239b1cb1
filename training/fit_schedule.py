"""Fit the noise levels of `samplers/fitted.py`: `python -m training.fit_schedule`.

For every number of steps the levels are moved by gradient descent so that the sampler `adams_pc` (written here again,
so that gradients pass) ends nearest to the true end points of random mixtures.
A learned discretisation as in LD3 (arXiv:2405.15506), of mixtures instead of a model. Written to a JSON after each
count; a count that is there is not fitted again.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from sigmagraft.samplers.adams_pc import FEW

from .mixtures import Problem

INFINITE = 1e4  # stands for no signal at all: rectified flow and zero terminal SNR begin there
BATCH = 6  # problems a turn
LOWEST = {"sd": 0.0292, "infinite": 1e-3}  # of Stable Diffusion, its sigma_min
COUNTS = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20]
STARTS = {"sd": 14.6146, "infinite": INFINITE}


def integral(
    lambdas: Tensor, begin: int, places: list[int], denoised: list[Tensor], in_sigma: bool
) -> Tensor:
    """sigma_next times the integral of D d(1 / sigma) over the step from `begin`, D a polynomial through `places`.

    In sigma or else in lambda = -log sigma.
    """
    sigma, after = torch.exp(-lambdas[begin]), torch.exp(-lambdas[begin + 1])
    count = len(places)
    if in_sigma:
        nodes = [torch.exp(-lambdas[place]) / sigma for place in places]
        ratio = after / sigma
        found = [
            1 / ratio - 1,
            -torch.log(ratio),
            *((1 - ratio ** (k - 1)) / (k - 1) for k in range(2, count)),
        ]
        integrals = [ratio * value for value in found[:count]]
    else:
        h = lambdas[begin + 1] - lambdas[begin]
        nodes = [(lambdas[place] - lambdas[begin]) / h for place in places]
        integrals = [1 - torch.exp(-h)]
        for k in range(1, count):
            integrals.append(1 - k * integrals[-1] / h)
    powers = torch.stack([torch.stack([node**k for node in nodes]) for k in range(count)])
    weights = torch.linalg.solve(powers, torch.stack(integrals))
    return sum((w * d for w, d in zip(weights, denoised, strict=False)), torch.zeros(()))


def walk(problem: Problem, lambdas: Tensor, first: int) -> Tensor:
    """The end of `adams_pc`; no polynomial but a constant passes through a level before number `first`."""
    in_sigma = len(lambdas) > FEW
    order = 3 if in_sigma else 2
    sigmas = torch.exp(-lambdas)
    x = before = problem.start
    history: list[Tensor] = []
    denoised = x
    for i in range(len(lambdas)):
        denoised = problem.denoised(x, sigmas[i])
        if i > first:
            places = list(range(i, first - 1, -1))[:order]
            step = integral(lambdas, i - 1, places, [denoised, *history], in_sigma)
            x = before * (sigmas[i] / sigmas[i - 1]) + step
        history = [denoised, *history]
        if i + 1 < len(lambdas):
            places = list(range(i, min(first, i) - 1, -1))[:order]
            step = integral(lambdas, i, places, history, in_sigma)
            before, x = x, x * (sigmas[i + 1] / sigmas[i]) + step
    return denoised


def logistic(steps: int, top: float, low: float, width: float) -> Tensor:
    """Levels lambda even in 1 / (1 + exp(lambda / width)), to begin from."""
    u = torch.linspace(
        1 / (1 + math.exp(-math.log(top) / width)), 1 / (1 + math.exp(-math.log(low) / width)), steps
    )
    return width * torch.log(1 / u.double() - 1)


def fit(
    guess: Tensor, problems: list[Problem], rounds: int, first: int, lowest: float
) -> tuple[Tensor, float]:
    """(lambdas, geometric mean of the error), from a guess whose first level stays."""
    gaps = guess.diff().log().requires_grad_()
    optimizer = torch.optim.Adam([gaps], lr=0.03, betas=(0.9, 0.98))
    mean = gaps.detach()

    def levels(gaps: Tensor) -> Tensor:
        free = torch.cat([guess[:1], guess[0] + gaps.exp().cumsum(0)])
        return free.clamp(max=-math.log(lowest))

    for turn in range(rounds):
        for group in optimizer.param_groups:
            group["lr"] = 0.04 * (1 - turn / rounds) + 1e-4
        chosen = [problems[(turn * BATCH + k) % len(problems)] for k in range(BATCH)]
        total = torch.stack([p.error(walk(p, levels(gaps), first)).log().mean() for p in chosen]).mean()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_([gaps], 0.5)
        optimizer.step()
        mean = mean.lerp(gaps.detach(), 0.05)
    final = levels(mean)
    with torch.no_grad():
        errors = [p.error(walk(p, final, first)).log().mean().item() for p in problems]
    return final, math.exp(sum(errors) / len(errors))


def guess_from(fewer: Tensor | None, steps: int, start: str, first: int) -> Tensor:
    """The levels of fewer steps, spread over more; without two of them, even in a logistic of lambda."""
    if fewer is None or len(fewer) - first < 2:
        guess = logistic(steps, STARTS[start], 0.3, 1.3)
        guess[0] = -math.log(STARTS[start])
        return guess
    kept = fewer[first:]
    places = torch.linspace(0, len(kept) - 1, steps - first, dtype=torch.float64)
    low = places.long().clamp(max=max(len(kept) - 2, 0))
    spread = torch.lerp(kept[low], kept[(low + 1).clamp(max=len(kept) - 1)], places - low)
    spread = spread + places * 0.15 / len(kept)
    return torch.cat([fewer[:first], spread])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Fit the levels of the fitted schedule.")
    parser.add_argument("--start", choices=list(STARTS), default="sd")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=COUNTS, help="rising: each begins from the last"
    )
    parser.add_argument("--problems", type=int, default=72)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(args.out.read_text()) if args.out.exists() else {}
    problems = [Problem(seed, STARTS[args.start]) for seed in range(args.problems)]
    first, last = int(args.start == "infinite"), None
    for steps in args.steps:
        if str(steps) not in done:
            guess = guess_from(last, steps, args.start, first)
            lambdas, error = fit(guess, problems, args.rounds, first, LOWEST[args.start])
            done[str(steps)] = {"sigmas": [round(math.exp(-v), 5) for v in lambdas.tolist()], "error": error}
            args.out.write_text(json.dumps(done, indent=1))
            print(steps, f"{error:.5f}", done[str(steps)]["sigmas"], flush=True)
        last = -torch.tensor(done[str(steps)]["sigmas"], dtype=torch.float64).log()


if __name__ == "__main__":
    main()
