"""Writes docs/samplers.md: every registered sampler, what it declares, and its measured order and error.

python -m benchmarks.sampler_table             # measures all and writes the file: some minutes
python -m benchmarks.sampler_table NAME ...    # measures these, keeps the other figures
python -m benchmarks.sampler_table --new       # measures what the file has no figures of
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from sigmagraft.benchmarks.sampler_figures import BUDGETS, SCHEDULE, Figures, figures
from sigmagraft.samplers import SAMPLERS, SamplerSpec
from sigmagraft.standalone.cli.samplers import families, noise, takers

FILE = Path(__file__).resolve().parents[1] / "docs" / "samplers.md"
NONE = "-"
INTRODUCTION = f"""# Samplers

Written by `python -m benchmarks.sampler_table` from the registry; `tests/benchmarks/test_sampler_table.py` keeps it
current. `sigmagraft samplers NAME` tells the equation and the options of one.

```bash
sigmagraft "a castle" --sampler dpmpp_2m_sde:eta=0.5 --schedule exponential
sigmagraft compare --samplers euler,heun,dpmpp_2m --equal-nfe 8,16 "a castle"  # pictures, numbers and a plot
sigmagraft "a castle" --guidance cfg++ --cfg 0.6                               # goes with any sampler
sigmagraft "a castle" --sampler k_diffusion:dpmpp_2m                           # the installed package's function
```

**CFG++** (arXiv:2406.08070) takes the noise of a step from the unconditional prediction. A step decay x + gain D is
the same with D = D_u + w (D_c - D_u), w = cfg alpha_next / gain, so it is guidance whose weight depends on the step:
exactly the paper's for DDIM and Euler, exactly ComfyUI's `euler_cfg_pp` and `euler_ancestral_cfg_pp` (on flow
`ddim:eta=1`), and for every other sampler the same weight at each of its evaluations. Its pull grows with the number of
steps. Samplers that choose their own steps do not take it. `--cfg-interval 0.3-5.4` (sigma) or `20%-80%` (steps) guides
only there (arXiv:2404.07724); elsewhere the prompt alone is evaluated, at half the cost. Both go by sigma:
`20%-80%` is from the sigma where its first step begins down to, but without, the one where its last step ends, so the
evaluations within a step are its own and one at the end of a step is the next one's; from `0%` on there is no upper
end, whatever churn adds.

**Functions in k-diffusion's convention**, the installed package's (`k_diffusion:NAME`, from
`pip install --no-deps k-diffusion`) or your own (`pipe(prompt, sampler=function)`), run like samplers of ours: options
off the signature, one callback a step, NaN caught. What they draw by `noise_sampler` or `torch.randn_like` is each
image's own noise, so image k of a batch is the image alone; other draws are only repeatable. `dpm_adaptive` chooses
its steps by the whole batch, so the pipeline walks images one by one with it. On rectified flow the package's run in
x / alpha, where they are exact; your own gets the flow's x and sigmas. Ours are such functions too:
`from sigmagraft.samplers import k_diffusion`, then `k_diffusion.sample_heun(model, x, sigmas)`.

## What the columns say

- **order**: of convergence on the probability-flow ODE, as declared; *measured*: by halving the steps, on
  variance-exploding levels (eps, v, x0 models) and on rectified flow, against the solution to 1e-12 of a Gaussian
  mixture, whose denoiser is known. 0: solves no equation (made for distilled models).
- **NFE**: model evaluations a step; after a sign, those more or fewer in a walk.
- **noise**: always, or the option that adds it (on: by default). All figures are without noise.
- **error at {BUDGETS[0]} and {BUDGETS[1]} NFE**: median relative RMS distance to the exact end on mixtures of 24 and 32
  Gaussians shaped like latents, with the most steps that so many evaluations pay for, on the schedule
  `{SCHEDULE["ve"]}` (variance exploding) and `{SCHEDULE["flow"]}` (flow, shift 3) for every sampler alike. Euler's is
  the one to beat. A schedule of its own (the last column but one) may suit a sampler better.
- **{NONE}**: no figure: the sampler always adds noise, chooses its own steps, or a step takes more evaluations."""
HEAD = (
    "sampler",
    "label, also called",
    "order",
    "measured VE",
    "measured flow",
    "NFE",
    "noise",
    *(f"{process} {budget}" for process in ("VE", "flow") for budget in BUDGETS),
    "schedule",
    "paper",
)


def render(figures: Mapping[str, Figures]) -> str:
    """The document, for every registered sampler."""
    parts = [INTRODUCTION]
    for heading, members in families(SAMPLERS).items():
        rows = [HEAD, tuple("---" for _ in HEAD), *(row(spec, figures[spec.name]) for spec in members)]
        parts += [f"\n## {heading}\n", *("| " + " | ".join(cells) + " |" for cells in rows)]
        parts += ["", *options(members)] if any(spec.options for spec in members) else []
    return "\n".join(parts).rstrip() + "\n"


def row(spec: SamplerSpec, found: Figures) -> tuple[str, ...]:
    """The cells of one sampler, as HEAD."""
    cost = "its own" if spec.adaptive else str(spec.evaluations) + (f" {spec.extra:+d}" if spec.extra else "")
    called = spec.label + "".join(f", `{alias}`" for alias in spec.aliases)
    return (
        f"`{spec.name}`",
        called,
        str(spec.order),
        *(NONE if value is None else f"{value:.1f}" for value in found.orders),
        cost,
        noise(spec),
        *(NONE if value is None else f"{value:.2g}" for value in found.errors),
        f"`{spec.default_schedule}`",
        spec.paper,
    )


def options(members: list[SamplerSpec]) -> list[str]:
    """Each option once, with its default, range and the samplers that take it."""
    lines = []
    for option, names in takers(members).items():
        whose = "" if len(names) == len(members) else f" ({', '.join(f'`{name}`' for name in names)})"
        lines.append(f"- `{option.name}={option.default}`, {option.expected}: {option.help}{whose}")
    return lines


def read(text: str) -> dict[str, Figures]:
    """The figures of a rendered document, by sampler."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(HEAD) and (name := re.fullmatch(r"`(\w+)`", cells[0])):
            numbers = [None if cell == NONE else float(cell) for cell in (*cells[3:5], *cells[7:11])]
            found[name[1]] = Figures(tuple(numbers[:2]), tuple(numbers[2:]))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--new", action="store_true", help="measure only what the file has no figures of")
    args = parser.parse_args()
    known = read(FILE.read_text(encoding="utf-8")) if FILE.exists() and (args.names or args.new) else {}
    for name in args.names:
        known.pop(SAMPLERS[name].name, None)
    for spec in SAMPLERS:
        if spec.name not in known:
            known[spec.name] = figures(spec)
            print(" ".join(row(spec, known[spec.name])), flush=True)
    FILE.write_text(render(known), encoding="utf-8")


if __name__ == "__main__":
    main()
