"""How well a model of drawn scenes, the bundled one unless told otherwise, does what it is asked.

    python -m benchmarks.bundled_model [--model FILE] [--quick] [--json] [--sheet sheet.png]

Prints shares in percent with Wilson's 95 % intervals, judged from the pixels by scene_checker. It measures and always
exits 0; the test that asks for floors is tests/benchmarks/test_bundled_model.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sigmagraft.benchmarks.scene_figures import (
    Draw,
    Figure,
    Judged,
    Picture,
    changes,
    image_to_image,
    inpainting,
    single_objects,
    two_objects,
)
from sigmagraft.benchmarks.scene_prompts import Prompt
from sigmagraft.benchmarks.scene_sheet import contact_sheet


@dataclass(frozen=True)
class Counts:
    """Prompts of each kind; `edits`: of img2img and of inpainting each."""

    singles: int = 200
    pairs: int = 100
    changes: int = 30
    edits: int = 16


QUICK = Counts(20, 10, 8, 4)


@dataclass(frozen=True)
class Report:
    """Figures by heading, distances of img2img, what was drawn, and the seconds it took."""

    figures: dict[str, list[Figure]]
    distances: dict[str, float]
    drawn: list[Judged]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "figures": {
                heading: {
                    f.name: {
                        "percent": round(f.percent, 1) if f.count else None,
                        "low": round(f.interval[0], 1),
                        "high": round(f.interval[1], 1),
                        "count": f.count,
                    }
                    for f in figures
                }
                for heading, figures in self.figures.items()
            },
            "distances": {name: round(value, 2) for name, value in self.distances.items()},
            "seconds": round(self.seconds, 1),
        }

    def lines(self) -> list[str]:
        """The report as text."""
        result = []
        for heading, figures in self.figures.items():
            result.append(heading)
            for f in figures:
                low, high = f.interval
                result.append(
                    f"  {f.name:42} {f.percent:5.1f} %   ({low:.1f} .. {high:.1f}, {f.count} prompts)"
                )
        result += [f"  {name:42} {value:5.1f} levels" for name, value in self.distances.items()]
        return [*result, f"{self.seconds:.0f} s"]


def measure(draw: Draw, counts: Counts, seed: int) -> Report:
    """All figures of one model."""
    start = time.perf_counter()
    figures: dict[str, list[Figure]] = {}
    figures[f"single objects, {counts.singles} held-out prompts"], one = single_objects(
        draw, counts.singles, seed
    )
    figures[f"two objects, {counts.pairs} prompts"], two = two_objects(draw, counts.pairs, seed + 1000)
    figures["changes"] = changes(draw, counts.changes, seed + 2000)
    figures["inpainting"] = inpainting(draw, counts.edits, seed + 3000)
    figures["img2img"], distances = image_to_image(draw, originals(counts.edits), seed + 4000)
    return Report(figures, distances, one + two, time.perf_counter() - start)


def originals(count: int) -> list[tuple[Prompt, Picture]]:
    """True drawings to start from, with their prompts."""
    from sigmagraft.benchmarks.scene_checker import Thing, Wanted
    from sigmagraft.training.draw import draw
    from sigmagraft.training.scenes import Mix, random_scene

    rng = np.random.default_rng(4)
    result = []
    for _ in range(count):
        scene = random_scene(rng, Mix(pairs=0.0, striped=0.0))
        thing = scene.things[0]
        wanted = Wanted(
            (Thing(thing.shape, thing.colour, thing.size, thing.position),), scene.background.colours
        )
        result.append((Prompt.of(wanted), draw(scene).image))
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    args = _arguments(argv)
    draw = pipeline_draw(args)
    report = measure(draw, QUICK if args.quick else Counts(), args.seed)
    if args.sheet:
        contact_sheet(report.drawn).save(args.sheet)
    print(json.dumps(report.as_dict(), indent=1) if args.json else "\n".join(report.lines()))
    return 0


def pipeline_draw(args: argparse.Namespace) -> Draw:
    """Draws through the public Pipeline, `args.batch` pictures at a time."""
    from sigmagraft.standalone.pipeline import Pipeline

    pipe = Pipeline.load(args.model, device=args.device, dtype=args.dtype)

    def draw(prompts: list[str], seeds: list[int], **settings: Any) -> list[Picture]:
        negatives = settings.pop("negative", [""] * len(prompts))
        pictures: list[Picture] = []
        for k in range(0, len(prompts), args.batch):
            part = slice(k, k + args.batch)
            result = pipe(
                prompts[part],
                negative=negatives[part],
                seed=seeds[part],
                steps=args.steps,
                cfg=args.cfg,
                sampler=args.sampler,
                schedule=args.schedule,
                **settings,
            )
            pictures += [np.asarray(image.convert("RGB")) for image in result.images]
        return pictures

    return draw


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=str, default="bundled", help="file, folder or hub id of the model")
    parser.add_argument(
        "--quick", action="store_true", help="20 prompts instead of 200, and the rest in proportion"
    )
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument(
        "--sheet", type=Path, help="write the pictures with captions and verdicts to this file"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--sampler", default="dpmpp_2m")
    parser.add_argument("--schedule", default=None)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--dtype", default=None)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
