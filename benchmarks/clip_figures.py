"""How often clips of the bundled model move as asked: `python -m benchmarks.clip_figures [--motion FILE]`.

Held-out prompts of one object, each with a motion in turn; tracked by pixels (clip_tracker.py), the object's colour
and shape read from the middle frame (scene_checker.py).
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from sigmagraft.benchmarks.clip_tracker import track
from sigmagraft.benchmarks.scene_checker import check
from sigmagraft.benchmarks.scene_prompts import Prompt, singles
from sigmagraft.standalone import clip_files
from sigmagraft.standalone.pipeline import Pipeline
from sigmagraft.training.motions import MOTIONS

STRIP = 8  # frames of a clip in the picture strip


def prompts(count: int, seed: int = 0) -> list[tuple[str, str, Prompt]]:
    """(text, motion, what a frame must hold): held-out objects that do one of the motions in turn."""
    plain = [p for p in singles(4 * count, seed) if p.wanted.stripes is None]
    found = []
    for k, prompt in enumerate(plain[:count]):
        motion = MOTIONS[k % len(MOTIONS)]
        thing, (ground,) = prompt.wanted.things[0], prompt.wanted.background
        text = f"a {thing.colour} {thing.shape} {motion} on a {ground} background"
        found.append((text, motion, prompt))
    return found


def strip(clips: list[list[Image.Image]]) -> Image.Image:
    """A row for each clip, STRIP of its frames."""
    width, height = clips[0][0].size
    sheet = Image.new("RGB", (width * STRIP, height * len(clips)))
    for row, frames in enumerate(clips):
        for k, at in enumerate(np.linspace(0, len(frames) - 1, STRIP).round().astype(int)):
            sheet.paste(frames[at], (k * width, row * height))
    return sheet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Count clips that move as asked.")
    parser.add_argument("--motion", default="scenes_motion", help="file, or a bundled name")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--frames", type=int, help="as many as it was trained with unless told otherwise")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strip", type=Path, help="write rows of frames of the first clips")
    parser.add_argument("--gif", type=Path, help="write the first clip")
    args = parser.parse_args()
    pipe = Pipeline.load("bundled")
    length = pipe.load_motion(args.motion).config.length
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    clips: list[list[Image.Image]] = []
    for k, (text, motion, prompt) in enumerate(prompts(args.count, args.seed)):
        told = {"frames": args.frames or length, "steps": args.steps, "cfg": args.cfg, "seed": 1000 * k}
        clip = pipe.animate(text, **told)
        frames = [np.asarray(frame) for frame in clip.frames]
        thing = prompt.wanted.things[0]
        done = track(frames, thing.colour).motion()
        asked[motion] += 1
        right[motion] += done == motion
        seen = check(frames[len(frames) // 2], prompt.wanted)
        right["the object"] += seen.right
        clips.append(clip.frames)
        print(f"{text}: {done}{' (right)' if done == motion else ''}", flush=True)
    moved = sum(right[motion] for motion in asked)
    print(f"motion right in {moved} of {args.count}; the object in {right['the object']}")
    print(", ".join(f"{motion} {right[motion]} of {asked[motion]}" for motion in asked))
    if args.strip:
        strip(clips[:6]).save(args.strip)
    if args.gif:
        args.gif.write_bytes(clip_files.encode(clips[0], "GIF", 8))


if __name__ == "__main__":
    main()
