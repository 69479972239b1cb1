"""Whether things stand where a hint puts them: `python -m benchmarks.bundled_controls --hint canny`.

Hints are of held-out scenes, prompts say colours and shapes but not where or how large. A thing stands where it should
if what the pixel-level checker finds and the mask of the drawing share AGREED of their union. It measures and exits 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sigmagraft.benchmarks.image_prompts import drawing, sheet
from sigmagraft.benchmarks.scene_checker import SIDE, Wanted
from sigmagraft.benchmarks.scene_figures import Figure, Judged, Picture, verdicts
from sigmagraft.benchmarks.scene_prompts import Prompt, singles
from sigmagraft.training.draw import Truth
from sigmagraft.training.train_control import HINTS

AGREED = 0.7
TCD = {"sampler": "tcd", "steps": 4, "cfg": 1.0}
FULL = {"sampler": "dpmpp_2m", "steps": 20, "cfg": 4.0}


def without_place(wanted: Wanted) -> Prompt:
    """A prompt that says nothing of what the hint tells but the shape's name."""
    return Prompt.of(
        replace(wanted, things=tuple(replace(t, size=None, position=None) for t in wanted.things))
    )


def agreement(row: Judged, truth: Truth) -> float:
    """Intersection over union of the objects found and the drawing's."""
    found = np.zeros((SIDE, SIDE), bool)
    for blob in row.found.blobs:
        found |= blob.mask
    wanted = truth.masks[0] > 0.5
    return float((found & wanted).sum() / max((found | wanted).sum(), 1))


def drawn(
    args: argparse.Namespace,
    prompts: Sequence[Prompt],
    hints: Sequence[Image.Image],
    shown: Sequence[Picture],
) -> list[Judged]:
    """A picture under each hint, judged; with an IP-Adapter the drawings `shown` say what the words would."""
    from sigmagraft.controlnet.ip_settings import ImagePrompt
    from sigmagraft.controlnet.settings import Control
    from sigmagraft.standalone.ip_adapter_text import ImageRequest
    from sigmagraft.standalone.pipeline import Pipeline

    pipe = Pipeline.load(args.model, device=args.device)
    if args.tcd:
        pipe.load_lora_weights(args.tcd, adapter_name="tcd")
    adapter = args.ip_adapter and pipe.ip_adapters.open(args.ip_adapter)
    pictures: list[Picture] = []
    for k in range(0, len(prompts), args.batch):
        part = slice(k, k + args.batch)
        texts = [prompt.text for prompt in prompts[part]]
        asked: dict[str, Any] = dict(TCD if args.tcd else FULL)
        if adapter:
            images = [Image.fromarray(image) for image in shown[part]]
            asked["ip_adapter"] = [ImageRequest(adapter, ImagePrompt(images, 1.0, each=True))]
            texts = [""] * len(texts)
        asked["control"] = [Control(model=args.control, image=list(hints[part]), strength=args.strength)]
        asked["seed"] = list(range(args.seed + k, args.seed + k + len(texts)))
        pictures += [np.asarray(image) for image in pipe(texts, **asked).images]
    return verdicts(prompts, pictures)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Whether things stand where a hint puts them.")
    parser.add_argument("--control", default="scenes_canny", help="file, or a bundled name")
    parser.add_argument("--hint", choices=list(HINTS), default="canny")
    parser.add_argument("--tcd", nargs="?", const="scenes_tcd", help="in 4 steps, with this LoRA")
    parser.add_argument(
        "--ip-adapter", nargs="?", const="ip-adapter_scenes", help="the hint's own drawing instead of words"
    )
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--sheet", type=Path, help="hints, and below each what was drawn")
    args = parser.parse_args(argv)
    rng, prompts = np.random.default_rng(args.seed), [without_place(p.wanted) for p in singles(args.count)]
    truths = [drawing(p.wanted, rng) for p in singles(args.count)]
    hints = [Image.fromarray(HINTS[args.hint](truth)).convert("RGB") for truth in truths]
    rows = drawn(args, prompts, hints, [truth.image for truth in truths])
    standing = [agreement(row, truth) >= AGREED for row, truth in zip(rows, truths, strict=True)]
    for figure in (
        Figure("things where the hint puts them", sum(standing), len(rows)),
        Figure("and all three right", sum(r.verdict.right for r in rows), len(rows)),
    ):
        low, high = figure.interval
        print(f"{figure.name:32} {figure.percent:5.1f} %   ({low:.1f} .. {high:.1f}, {figure.count} hints)")
    if args.sheet:
        sheet(rows, [np.asarray(hint) for hint in hints]).save(args.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
