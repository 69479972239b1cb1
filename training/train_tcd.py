"""Distil the bundled model into few steps: `python -m training.train_tcd` (TCD, arXiv:2402.19159).

From a point of the teacher's guided trajectory at t, the student's step to any s below must be what it is from the
teacher's next point t' < t, after one step of the teacher (Heun's rule in half-log-SNR). Guidance is part of what
the student learns, so it needs none.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sigmagraft.standalone.unet import UNet

from .arguments import trainer
from .loop import Loop, Plan, Workers, launch
from .lora_forms import LoraForm
from .preview import load_unet
from .train_lora import RANK, export, folder_of, metadata
from .train_unet import Task as UNetTask

NAME = "tcd"
GRID = 20  # points of the teacher's trajectory
GUIDANCE = 4.0
SOFT = 1e-3  # of the pseudo-Huber distance, times the square root of a latent's numbers (arXiv:2310.14189)


class Points(NamedTuple):
    """Timesteps t > t' >= s of each example; t' and s may be -1, which is no noise."""

    t: Tensor
    below: Tensor
    s: Tensor


class Task(UNetTask):
    """The loss of a step."""

    def __init__(self, runs: Path, seed: int, batch: int, count: int, workers: Workers) -> None:
        super().__init__(runs, seed, batch, count, workers, hard=True)
        self.teacher = load_unet(runs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.grid = torch.arange(GRID + 1) * (len(self.alphas) // GRID) - 1  # -1, 49, 99 ... 999
        self.empty = self.words.states([self.words.empty])

    def available(self, step: int) -> int:
        """All of them: the cache is full by now."""
        return self.count

    def sides(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma [b, 1, 1, 1] of x = alpha x0 + sigma eps."""
        table = torch.cat([self.alphas, torch.ones(1)])  # -1 is the last: no noise
        bar = table[t][:, None, None, None]
        return bar.sqrt(), (1 - bar).sqrt()

    def points(self, generator: torch.Generator) -> Points:
        """Places on the grid spread evenly over a batch, ends anywhere below them."""
        share = (torch.arange(self.batch) + torch.rand(self.batch, generator=generator)) / self.batch
        at = 1 + (share * GRID).long().clamp(max=GRID - 1)
        end = (torch.rand(self.batch, generator=generator) * at).long()
        return Points(self.grid[at], self.grid[at - 1], self.grid[end])

    def step(self, x: Tensor, eps: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """DDIM's step from t to s, which is exact for a constant eps (arXiv:2010.02502)."""
        (alpha, sigma), (alpha_s, sigma_s) = self.sides(t), self.sides(s)
        return alpha_s / alpha * (x - sigma * eps) + sigma_s * eps

    def guided(self, unet: UNet, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The teacher's eps under guidance; a timestep of -1 is asked for as 0."""
        both = torch.cat([context, self.empty.expand_as(context)])
        cond, uncond = unet(x.repeat(2, 1, 1, 1), t.clamp(min=0).repeat(2), both).chunk(2)
        return uncond + GUIDANCE * (cond - uncond)

    @torch.no_grad()
    def followed(self, x: Tensor, points: Points, context: Tensor) -> Tensor:
        """The teacher's point at t': a step, and again with the mean of eps at both ends."""
        eps = self.guided(self.teacher, x, points.t, context)
        near = self.step(x, eps, points.t, points.below)
        again = self.guided(self.teacher, near, points.below, context)
        mean = torch.where((points.below < 0)[:, None, None, None], eps, (eps + again) / 2)
        return self.step(x, mean, points.t, points.below)

    def tcd_loss(self, form: LoraForm, step: int) -> Tensor:
        """Pseudo-Huber distance at s between the student's steps from t and from t'."""
        given = self.examples(step)
        context = self.words.states([self.words.tokens(scene, given.rng) for scene in given.scenes])
        points = self.points(given.noise)
        (alpha, sigma), (before, noise) = self.sides(given.t), self.sides(points.t)
        x0 = (given.x - sigma * given.eps) / alpha
        x = before * x0 + noise * given.eps
        weights = form.weights()
        ours = self.step(x, form.predict(weights, x, points.t, context), points.t, points.s)
        with torch.no_grad():
            near = self.followed(x, points, context)
            eps = form.predict(weights, near, points.below.clamp(min=0), context)
            goal = self.step(near, eps, points.below, points.s)
            goal = torch.where((points.s == points.below)[:, None, None, None], near, goal)
        soft = SOFT * x[0].numel() ** 0.5
        return ((ours - goal).square().flatten(1).sum(1) + soft**2).sqrt().sub(soft).mean()


def main() -> None:
    """Command line."""
    parser = trainer(
        "Distil the bundled model into few steps.",
        steps=3000,
        batch=8,
        count=6400,
        rate=0.001,
        workers=1,
        save_every=250,
        out=None,
    )
    args = parser.parse_args()
    if launch("training.train_tcd", args.workers):
        _train(args, Workers(args.workers))
    if args.out and not os.environ.get("RANK"):
        path = args.out / f"scenes_{NAME}.safetensors"
        export(
            folder_of(args.runs, NAME), LoraForm(load_unet(args.runs), "lora", RANK), path, metadata("TCD")
        )
        print(f"{path}: {path.stat().st_size} bytes")


def _train(args: argparse.Namespace, workers: Workers) -> None:
    task = Task(args.runs, args.seed, args.batch, args.count, workers)
    form = LoraForm(task.teacher, "lora", RANK, args.seed)
    plan = Plan(args.steps, args.rate, warm=50, cool=0.6, save_every=args.save_every, seed=args.seed)

    def loss(step: int) -> Tensor:
        return task.tcd_loss(form, step)

    Loop(folder_of(args.runs, NAME), form, plan, loss, 0.998, None, workers).run()


if __name__ == "__main__":
    main()
