"""How well an IP-Adapter shows what a picture shows, without a word: `python -m benchmarks.image_prompts`.

References are drawings of colour / shape / background triples that no training saw. The pixel-level checker says of
how many pictures the one object has the reference's colour and shape, and the ground its colour. It measures and
always exits 0. `--sheet` shows each reference above what was made of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sigmagraft.benchmarks.scene_checker import SIDE, Wanted
from sigmagraft.benchmarks.scene_figures import Figure, Judged, verdicts
from sigmagraft.benchmarks.scene_prompts import singles
from sigmagraft.training.draw import Truth, draw
from sigmagraft.training.scenes import Background, Scene, Thing, place

PARTS = {
    "colour": "colour",
    "shape": "shape",
    "background": "background",
    "colour, shape and background": "right",
}


def drawing(wanted: Wanted, rng: np.random.Generator) -> Truth:
    """A drawing of what a prompt asks for, and the truth about it."""
    thing = wanted.things[0]
    size, position = thing.size or "medium", thing.position or "centre"
    x, y, extent = place(rng, size, position)
    made = Thing(str(thing.shape), str(thing.colour), size, position, x, y, extent)
    colours = [*wanted.background, None]
    return draw(Scene((made,), Background(str(colours[0]), colours[1], wanted.stripes)), SIDE)


def measure(args: argparse.Namespace) -> tuple[list[Judged], list[np.ndarray]]:
    """Verdicts on a picture for each reference, and the references."""
    from sigmagraft.controlnet.ip_settings import ImagePrompt
    from sigmagraft.standalone.ip_adapter_text import ImageRequest
    from sigmagraft.standalone.pipeline import Pipeline

    pipe = Pipeline.load(args.model, device=args.device)
    weights = pipe.ip_adapters.open(args.adapter)
    prompts, rng = singles(args.count), np.random.default_rng(args.seed)
    shown = [drawing(prompt.wanted, rng).image for prompt in prompts]
    rows: list[Judged] = []
    for first in range(0, len(prompts), args.batch):
        chosen = slice(first, first + args.batch)
        images = [Image.fromarray(image) for image in shown[chosen]]
        asked = ImageRequest(weights, ImagePrompt(images, args.weight, each=True))
        result = pipe(
            [""] * len(images),
            ip_adapter=[asked],
            seed=args.seed + first,
            steps=args.steps,
            cfg=args.cfg,
        )
        rows += verdicts(prompts[chosen], [np.asarray(image) for image in result.images])
    return rows, shown


def figures(rows: Sequence[Judged]) -> list[Figure]:
    """Shares of the pictures in which each part is the reference's."""
    return [
        Figure(name, sum(bool(getattr(row.verdict, part)) for row in rows), len(rows))
        for name, part in PARTS.items()
    ]


def sheet(rows: Sequence[Judged], shown: Sequence[np.ndarray], columns: int = 10) -> Image.Image:
    """References, and below each what was made of it, framed green where all is right."""
    step = SIDE + 6
    lines = -(-len(rows) // columns)
    made = Image.new("RGB", (columns * step + 6, lines * (2 * step + 8) + 6), "white")
    for k, (row, image) in enumerate(zip(rows, shown, strict=True)):
        x, y = 6 + k % columns * step, 6 + k // columns * (2 * step + 8)
        made.paste(Image.fromarray(image), (x, y))
        made.paste(
            (20, 140, 50) if row.verdict.right else (200, 30, 30),
            (x - 2, y + step - 2, x + SIDE + 2, y + step + SIDE + 2),
        )
        made.paste(Image.fromarray(row.picture), (x, y + step))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="How well an IP-Adapter shows what a picture shows.")
    parser.add_argument("--adapter", default="ip-adapter_scenes", help="file, or a bundled name")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args(argv)
    rows, shown = measure(args)
    for figure in figures(rows):
        low, high = figure.interval
        print(
            f"{figure.name:32} {figure.percent:5.1f} %   ({low:.1f} .. {high:.1f}, {figure.count} pictures)"
        )
    if args.sheet:
        sheet(rows, shown).save(args.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
