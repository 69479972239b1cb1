"""Writes samplers/auto_table.py: which general way errs least, by evaluations, kind of model and guidance.

    python -m benchmarks.auto_table [--images 6]

Mixtures stand for models without guidance and for guided rectified flow, the bundled model for guided diffusion. The
error is the geometric mean over images of the relative RMS distance to the end of the ODE.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.mixture import Mixture
from benchmarks.solvers import Case
from sigmagraft.core.errors import SigmaGraftError
from sigmagraft.samplers import NoiseLevels, drive
from sigmagraft.samplers.calibrate_fit import typical
from sigmagraft.samplers.general import General, serving

BUDGETS = (4, 5, 6, 8, 10, 15, 20, 30)
FILE = Path(__file__).resolve().parents[1] / "samplers" / "auto_table.py"
USUAL = "dpmpp_2m karras"
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
        end = drive(
            way.sampler, case.denoise, case.noise * scale, sigmas, levels=levels, options=way.options
        )
        errors += case.errors(end)
    return typical(errors)


def measured(levels: NoiseLevels, cases: list[Case]) -> dict[int, tuple[str, float, float]]:
    """For each budget the best way, its error and that of the usual one."""
    found = {}
    for budget in BUDGETS:
        errors = {way.label: error(way, cases, budget, levels) for way in serving(levels)}
        best = min(errors, key=lambda label: errors[label])
        found[budget] = (best, float(f"{errors[best]:.3g}"), float(f"{errors[USUAL]:.3g}"))
        print(budget, *sorted((round(e, 4), label) for label, e in errors.items())[:4], flush=True)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=6)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    from benchmarks.solver_bundled import bundled

    ve, flow = NoiseLevels.discrete(), NoiseLevels.flow(3.0)
    rows = {
        (False, False): ("Gaussian mixtures", ve, mixtures(ve, 1.0, args.images)),
        (True, False): ("Gaussian mixtures, flow", flow, mixtures(flow, 1.0, args.images)),
        (True, True): ("guided Gaussian mixtures, flow", flow, mixtures(flow, 4.0, args.images)),
        (False, True): ("the bundled model at cfg 4", *bundled(args.images, fine=128)),
    }
    cases, table = {}, {}
    for key, (words, levels, given) in rows.items():
        print(words)
        cases[key], table[key] = words, measured(levels, given)
    FILE.write_text(HEAD + _written(cases, table), encoding="utf-8")


def _written(cases: dict, table: dict) -> str:
    lines = [
        "# (rectified flow, guided) -> what was measured",
        "CASES: dict[tuple[bool, bool], str] = {",
        *(f'    {key}: "{words}",' for key, words in cases.items()),
        "}",
        "",
        "# (rectified flow, guided) -> evaluations -> best general way, its error, that of dpmpp_2m karras",
        "TABLE: dict[tuple[bool, bool], dict[int, tuple[str, float, float]]] = {",
    ]
    for key, row in table.items():
        lines.append(f"    {key}: {{")
        lines += [f'        {n}: ("{label}", {best}, {usual}),' for n, (label, best, usual) in row.items()]
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    main()
