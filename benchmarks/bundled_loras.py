"""What the bundled model's LoRAs do: `python -m benchmarks.bundled_loras [--folder FILES] [--count 100] [--sheet DIR]`.

The distilled one beside its teacher and beside as few steps without it, the style and the subject with and without
their adapters, and the style drawn in few steps, judged by the pixel-level checkers. It measures and exits 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sigmagraft.benchmarks.scene_figures import Figure, Judged, Picture, verdicts
from sigmagraft.benchmarks.scene_prompts import Prompt, singles
from sigmagraft.benchmarks.scene_sheet import contact_sheet
from sigmagraft.benchmarks.style_checker import RINGS, outlined, roundel
from sigmagraft.standalone.lora_source import BUNDLED
from sigmagraft.training.words import COLOURS

FULL: Mapping[str, Any] = {"sampler": "dpmpp_2m", "steps": 20, "cfg": 4.0}
FEW: Mapping[str, Any] = {"sampler": "tcd", "steps": 4, "cfg": 1.0}
GENERAL: Mapping[str, Any] = {"sampler": "dpmpp_2m", "steps": 4, "cfg": 4.0}
TCD, STYLE, SUBJECT = "scenes_tcd", "scenes_outlined", "scenes_roundel"
Judge = Callable[[Judged], bool]


@dataclass(frozen=True)
class Row:
    """Settings of a run, the adapters on it, and what is counted."""

    name: str
    settings: Mapping[str, Any]
    adapters: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, Judge] = field(default_factory=lambda: {"all three right": _right})
    prompts: Callable[[int], list[Prompt]] = singles


def _right(row: Judged) -> bool:
    return row.verdict.right


def _styled(row: Judged) -> bool:
    return outlined(row.picture, row.prompt.wanted.things[0].colour)


def _subject(row: Judged) -> bool:
    return roundel(row.picture)


def subjects(count: int) -> list[Prompt]:
    """Prompts for the subject on grounds of other colours than its own."""
    rng = np.random.default_rng(5)
    made = []
    for prompt in singles(count):
        ground = str(rng.choice([c for c in COLOURS if c not in RINGS]))
        article = "an" if ground == "orange" else "a"
        where = ("on the left", "on the right", "at the top", "at the bottom", "in the centre")[len(made) % 5]
        made.append(Prompt(f"a large roundel {where} on {article} {ground} background", prompt.wanted))
    return made


def plain(count: int) -> list[Prompt]:
    """Prompts for one thing on a ground that could not be taken for its border."""
    return [p for p in singles(2 * count) if not {"black", "white"} & {*p.wanted.background}][:count]


STYLED = {"outlined": _styled}
SHOWN = {"a roundel": _subject}
ROWS = (
    Row("the model, 20 steps, guidance 4", FULL),
    Row("the model, 4 steps of DPM++ 2M", GENERAL),
    Row("TCD, 4 steps, no guidance", FEW, {TCD: 1.0}),
    Row("without the style", FULL, counts=STYLED, prompts=plain),
    *(Row(name, FULL, {name: 1.0}, STYLED, plain) for name in (STYLE, f"{STYLE}-lokr")),
    Row("the style and TCD, 4 steps", FEW, {TCD: 1.0, STYLE: 1.0}, STYLED, plain),
    Row("without the subject", FULL, counts=SHOWN, prompts=subjects),
    *(Row(name, FULL, {name: 1.0}, SHOWN, subjects) for name in (SUBJECT, f"{SUBJECT}-dora")),
    Row("another thing, with the subject's adapter", FULL, {SUBJECT: 1.0}),
)


def drawn(pipe: Any, row: Row, prompts: Sequence[Prompt], args: argparse.Namespace) -> list[Judged]:
    """A picture for each prompt, judged."""
    for name in row.adapters:
        if name not in pipe.loras.loaded:
            pipe.load_lora_weights(args.folder / f"{name}.safetensors", adapter_name=name)
    pipe.set_adapters(list(row.adapters), list(row.adapters.values()))
    pictures: list[Picture] = []
    for k in range(0, len(prompts), args.batch):
        part = prompts[k : k + args.batch]
        seeds = [args.seed + k + i for i in range(len(part))]
        pictures += [np.asarray(i) for i in pipe([p.text for p in part], seed=seeds, **row.settings).images]
    return verdicts(prompts, pictures)


def measure(args: argparse.Namespace) -> None:
    """Print a line for each row."""
    from sigmagraft.standalone.pipeline import Pipeline

    pipe = Pipeline.load(args.model, device=args.device)
    there = [row for row in ROWS if all((args.folder / f"{n}.safetensors").is_file() for n in row.adapters)]
    for row in there:
        rows = drawn(pipe, row, row.prompts(args.count), args)
        for name, right in row.counts.items():
            figure = Figure(name, sum(map(right, rows)), len(rows))
            low, high = figure.interval
            print(f"{row.name:44} {name:16} {figure.percent:5.1f} %   ({low:.1f} .. {high:.1f})", flush=True)
        if args.sheet:
            contact_sheet(rows).save(args.sheet / f"{row.name.replace(' ', '_').replace(',', '')}.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="What the bundled model's LoRAs do.")
    parser.add_argument("--folder", type=Path, default=BUNDLED, help="folder of the adapters")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--sheet", type=Path, help="write the pictures of each row into this folder")
    measure(parser.parse_args(argv))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
