"""Writes samplers/auto_table.py: which general way errs least, by evaluations, kind of model and guidance.

    python -m benchmarks.auto_table [--images 6] [--cases ve flow flow_guided bundled] [--budgets 4 5 6 8 10 15 20 30]

What is not measured again stays in the file. Mixtures stand for models without guidance and for guided rectified
flow, the bundled model for guided diffusion. The error is the geometric mean over images of the relative RMS distance
to the end of the ODE.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.mixture import Mixture
from benchmarks.solver_bundled import bundled
from benchmarks.solvers import Case
from sigmagraft.core.errors import SigmaGraftError
from sigmagraft.samplers import NoiseLevels, auto_table, drive
from sigmagraft.samplers.calibrate_fit import typical
from sigmagraft.samplers.general import General, serving

BUDGETS = (4, 5, 6, 8, 10, 15, 20, 30)
Row = tuple[str, float, str, float]
FILE = Path(__file__).resolve().parents[1] / "samplers" / "auto_table.py"
HEAD = '''"""What the sampler `auto` chooses from, by what was measured. Written by benchmarks.auto_table."""

from __future__ import annotations

'''


class Guided(Mixture):
    """D_u + w (D_c - D_u), D_c of every third component."""

    def __init__(self, levels: NoiseLevels, seed: int, weight: float) -> None:
        super().__init__(levels, seed, components=24 + 8 * seed)
        self.weight = weight
        self.cond = Mixture(levels, seed, components=24 + 8 * seed)
        others = torch.arange(len(self.cond.logits)) % 3 != seed % 3
        self.cond.logits = self.cond.logits.masked_fill(others, -math.inf)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        return torch.lerp(super().__call__(x, sigma), self.cond(x, sigma), self.weight)


def mixtures(levels: NoiseLevels, weight: float, images: int) -> list[Case]:
    """Three mixtures with the true ends of their ODEs."""
    found = []
    for seed in range(3):
        model = Guided(levels, seed, weight)
        noise = model.noise(images, 100 + seed)
        top = levels.sigma_max
        found.append(Case(model, noise, model.end(noise * math.hypot(levels.alpha(top), top), top)))
    return found


def error(way: General, cases: list[Case], steps: int, levels: NoiseLevels) -> float:
    """Geometric mean over the images; inf where the way has not so many steps."""
    try:
        sigmas = way.sigmas(steps, levels)
    except SigmaGraftError:
        return math.inf
    scale = math.hypot(levels.alpha(sigmas[0]), sigmas[0])
    errors: list[float] = []
    for case in cases:
        end = drive(way.sampler, case.denoise, case.noise * scale, sigmas, levels=levels, options=way.options)
        errors += case.errors(end)
    return typical(errors)


def measured(levels: NoiseLevels, cases: list[Case], budgets: list[int]) -> dict[int, Row]:
    """For each budget the best two ways with their errors."""
    found = {}
    for budget in budgets:
        errors = sorted((error(way, cases, budget, levels), way.label) for way in serving(levels))
        (first, best), (second, other) = errors[:2]
        found[budget] = (best, float(f"{first:.3g}"), other, float(f"{second:.3g}"))
        print(budget, *((round(e, 4), label) for e, label in errors[:4]), flush=True)
    return found


CASES_OF: dict[str, tuple[tuple[bool, bool], str, Callable[[int], tuple[NoiseLevels, list[Case]]]]] = {
    "ve": ((False, False), "Gaussian mixtures", lambda images: _of(NoiseLevels.discrete(), 1.0, images)),
    "flow": (
        (True, False),
        "Gaussian mixtures, flow",
        lambda images: _of(NoiseLevels.flow(3.0), 1.0, images),
    ),
    "flow_guided": (
        (True, True),
        "guided Gaussian mixtures, flow",
        lambda images: _of(NoiseLevels.flow(3.0), 4.0, images),
    ),
    "bundled": ((False, True), "the bundled model at cfg 4", lambda images: bundled(images, fine=128)),
}


def _of(levels: NoiseLevels, weight: float, images: int) -> tuple[NoiseLevels, list[Case]]:
    return levels, mixtures(levels, weight, images)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--cases", nargs="+", choices=list(CASES_OF), default=list(CASES_OF))
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS))
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    cases, table = dict(auto_table.CASES), dict(auto_table.TABLE)
    for name in args.cases:
        key, words, make = CASES_OF[name]
        print(words)
        found = {**table.get(key, {}), **measured(*make(args.images), args.budgets)}
        cases[key], table[key] = words, dict(sorted(found.items()))
        FILE.write_text(HEAD + written(cases, table), encoding="utf-8")


def written(cases: dict[tuple[bool, bool], str], table: dict[tuple[bool, bool], dict[int, Row]]) -> str:
    """The file, after its head."""
    lines = [
        "# (rectified flow, guided) -> what was measured",
        "CASES: dict[tuple[bool, bool], str] = {",
        *(f'    {key}: "{words}",' for key, words in cases.items()),
        "}",
        "",
        "# (rectified flow, guided) -> evaluations -> the best general way, its error, the next best, its error",
        "TABLE: dict[tuple[bool, bool], dict[int, tuple[str, float, str, float]]] = {",
    ]
    for key, row in table.items():
        lines.append(f"    {key}: {{")
        lines += [f'        {n}: ("{a}", {x}, "{b}", {y}),' for n, (a, x, b, y) in row.items()]
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    main()
