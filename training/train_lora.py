"""Train a LoRA on the bundled model: `python -m training.train_lora --lesson outlined` (arXiv:2106.09685).

The model is frozen; a change of its UNet's weights, low-rank, weight-decomposed or a Kronecker product, learns a style
that it does not draw or a thing that it does not know.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from .arguments import trainer
from .captions import caption
from .draw import draw
from .latents import load_encoder
from .lessons import LESSONS, Lesson, Shown, manner
from .loop import Loop, Plan, Workers, launch
from .lora_forms import FORMS, LoraForm
from .preview import load_unet
from .scenes import Scene
from .train_text import encode_pieces
from .train_unet import UNCONDITIONAL
from .train_unet import Task as UNetTask
from .train_vae import pixels

RANK = 8
SHOWN = 480  # pictures of a lesson
LIMIT = 1_000_000  # bytes of a file


class Task(UNetTask):
    """The loss of a step: the UNet's, with changed weights, on a lesson's pictures."""

    def __init__(self, runs: Path, seed: int, batch: int, workers: Workers, lesson: Lesson) -> None:
        super().__init__(runs, seed, batch, 1, workers)
        rng = np.random.default_rng((seed, 11))
        shown = [lesson.show(rng) for _ in range(SHOWN)]
        kept = int(SHOWN * lesson.kept / (1 - lesson.kept))
        self.scenes = {k: self.scene(k) for k in range(kept)} | {
            kept + k: s.told for k, s in enumerate(shown)
        }
        self.latents = np.concatenate([np.asarray(self.latents[:kept]), encoded(runs, shown)])
        self.count = len(self.latents)

    def available(self, step: int) -> int:
        """All of them."""
        return self.count

    def said(self, scene: Scene, rng: np.random.Generator) -> list[int]:
        """A caption's tokens, or now and then those of the empty prompt."""
        if rng.random() < UNCONDITIONAL:
            return self.words.empty
        return encode_pieces(self.words.tokenizer, caption(scene, rng, manner(scene)))[0]

    def lora_loss(self, form: LoraForm, step: int) -> Tensor:
        """The loss of a step."""
        given = self.examples(step)
        context = self.words.states([self.said(scene, given.rng) for scene in given.scenes])
        return given.error(form.predict(form.weights(), given.x, given.t, context))


@torch.no_grad()
def encoded(runs: Path, shown: list[Shown], batch: int = 16) -> NDArray[np.float16]:
    """Latents of the drawn scenes."""
    vae = load_encoder(runs)
    images = torch.stack([pixels(draw(each.drawn).image) for each in shown])
    return torch.cat([vae.encode(part)[0].half() for part in images.split(batch)]).numpy()


def folder_of(runs: Path, name: str) -> Path:
    """Where a run is."""
    return runs / f"lora-{name}"


def export(run: Path, form: LoraForm, path: Path, about: dict[str, str]) -> Path:
    """Write the file in fp16, whole or not at all. ValueError where it would be larger than LIMIT."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    form.load_state_dict(state["mean"])
    tensors = {name: value.detach().half().contiguous() for name, value in form.published().items()}
    size = sum(t.numel() * 2 for t in tensors.values())
    if size > LIMIT:
        raise ValueError(f"{size} bytes of weights; the file must stay below {LIMIT}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, about | {"training.steps": json.dumps(state["step"])})
    partial.chmod(0o644)  # safetensors writes for the owner alone
    os.replace(partial, path)
    return path


def metadata(title: str) -> dict[str, str]:
    """What a file says of itself, in ModelSpec's fields and those of kohya's trainers."""
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": title,
        "modelspec.author": "the SigmaGraft authors",
        "modelspec.license": "Apache-2.0",
        "ss_base_model_version": "sd_v1",
    }


def main() -> None:
    """Command line."""
    parser = trainer(
        "Train a LoRA on the bundled model.",
        steps=600,
        batch=8,
        rate=0.002,
        workers=1,
        save_every=200,
        out=None,
    )
    parser.add_argument("--lesson", choices=list(LESSONS), default="outlined")
    parser.add_argument("--form", choices=list(FORMS), default="lora")
    args = parser.parse_args()
    name = args.lesson if args.form == "lora" else f"{args.lesson}-{args.form}"
    if launch("training.train_lora", args.workers):
        _train(args, name, Workers(args.workers))
    if args.out and not os.environ.get("RANK"):
        form = LoraForm(load_unet(args.runs), args.form, RANK)
        path = export(
            folder_of(args.runs, name), form, args.out / f"scenes_{name}.safetensors", metadata(name)
        )
        print(f"{path}: {path.stat().st_size} bytes")


def _train(args: argparse.Namespace, name: str, workers: Workers) -> None:
    task = Task(args.runs, args.seed, args.batch, workers, LESSONS[args.lesson])
    unet = load_unet(args.runs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    form = LoraForm(unet, args.form, RANK, args.seed)
    plan = Plan(args.steps, args.rate, warm=50, cool=0.6, save_every=args.save_every, seed=args.seed)

    def loss(step: int) -> Tensor:
        return task.lora_loss(form, step)

    Loop(folder_of(args.runs, name), form, plan, loss, 0.995, None, workers).run()


if __name__ == "__main__":
    main()
