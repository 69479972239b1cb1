"""Train motion modules on the bundled model: `python -m training.train_motion` (AnimateDiff, arXiv:2307.04725).

UNet, autoencoder and text encoder are those of the file, frozen. Every frame of a clip has noise of its own at the
clip's timestep, and the loss is the UNet's. The modules' last layers begin at zero, so a clip begins as pictures
that know nothing of each other.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sigmagraft.animate.acting import MotionActing
from sigmagraft.animate.network import ModuleSizes, Motion, MotionConfig, places
from sigmagraft.core.patch import Hooks, Inputs, StepInfo
from sigmagraft.core.temporal import authors_name
from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.samplers.betas import cumulate, make_betas
from sigmagraft.standalone.encode import encode_prompts
from sigmagraft.standalone.load import load_model
from sigmagraft.standalone.model import Model

from .arguments import trainer
from .captions import text
from .clip_latents import ClipCache, clip_at
from .loop import Loop, Plan, Workers, generators, launch
from .motions import MOTIONS, MovingScene, clip_caption
from .train_unet import UNCONDITIONAL, Examples

LIMIT = 6_000_000  # bytes of the file
LENGTH = 24  # positions at most
HELD_OUT = 10**9  # clips that are never trained


def new_motion(unet: UNetConfig, seed: int = 0) -> Motion:
    """Modules for every block of a UNet, which add nothing."""
    torch.manual_seed(seed)
    sizes = {path: ModuleSizes(width, LENGTH) for path, (_, width) in places(unet).items()}
    network = Motion(MotionConfig(sizes))
    with torch.no_grad():
        for module in network.modules_by_path().values():
            module.proj_out.weight.zero_()
            module.proj_out.bias.zero_()
    return network


@dataclass
class Task:
    """The loss of a step over cached clips of one model."""

    runs: Path
    seed: int
    batch: int
    count: int
    frames: int
    workers: Workers

    @cached_property
    def model(self) -> Model:
        """The bundled model in fp32."""
        return load_model("bundled", dtype=torch.float32)

    @cached_property
    def cache(self) -> ClipCache:
        """Of this worker: each fills its own."""
        folder = self.runs / "motion" / f"clips-{self.workers.rank}"
        return ClipCache(folder, self.seed + 1000 * self.workers.rank, self.count, self.frames)

    @cached_property
    def store(self) -> np.ndarray:
        """All latents."""
        return self.cache.fill(self.model)

    @cached_property
    def alphas(self) -> Tensor:
        """The model's cumulated alphas."""
        return torch.tensor(cumulate(make_betas("scaled_linear", 0.00085, 0.012, 1000)))

    def examples(self, step: int) -> tuple[Examples, list[MovingScene]]:
        """Noisy clips of a step."""
        rng, noise = generators(self.seed + 2, step, self.workers.rank)
        numbers = rng.integers(self.count, size=self.batch)
        clips = [clip_at(self.cache.seed, int(k), self.frames) for k in numbers]
        x0 = self.cache.clips(self.store, numbers)
        share = (torch.arange(self.batch) + torch.rand(self.batch, generator=noise)) / self.batch
        # by its root: where a thing is going is decided while there is next to nothing of it to be seen
        t = (share.sqrt() * len(self.alphas)).long().repeat_interleave(self.frames)
        eps = torch.randn(x0.shape, generator=noise)
        alpha = self.alphas[t][:, None, None, None]
        x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * eps
        sigma = ((1 - alpha) / alpha).sqrt().flatten()
        return Examples([], x, t, eps, sigma, rng, noise), clips

    @torch.no_grad()
    def context(self, captions: list[str]) -> Tensor:
        """The text encoder's states, a row a frame."""
        states = encode_prompts(self.model, captions, emphasis="none").context
        return states.repeat_interleave(self.frames, 0)

    def error(self, network: Motion | None, given: Examples, context: Tensor) -> Tensor:
        """The UNet's loss with the modules in it, or without."""
        unet, inputs = self.model.unet, Inputs(given.x, given.t, context)
        patches = [] if network is None else MotionActing(network, unet.config, self.batch).patches()
        hooks = Hooks(patches, StepInfo(inputs=inputs))
        return given.error(unet(given.x, given.t, context, None, hooks))

    def loss(self, network: Motion, step: int) -> Tensor:
        """The loss of a step; some captions are left out, for guidance."""
        given, clips = self.examples(step)
        said = [
            "" if given.rng.random() < UNCONDITIONAL else text(clip_caption(clip, given.rng))
            for clip in clips
        ]
        return self.error(network, given, self.context(said))

    @torch.no_grad()
    def worth(self, network: Motion, rounds: int = 3) -> dict[str, float]:
        """Mean errors on steps never trained: with the clips' words, with another motion's, and without modules."""
        sums = dict.fromkeys(("its words", "another motion's", "no modules"), 0.0)
        for k in range(rounds):
            given, clips = self.examples(HELD_OUT + k)
            said = [text(clip_caption(clip, given.rng)) for clip in clips]
            wrong = [
                one.replace(clip.motion, opposite(clip.motion)) for one, clip in zip(said, clips, strict=True)
            ]
            context = self.context(said)
            sums["its words"] += float(self.error(network, given, context))
            sums["another motion's"] += float(self.error(network, given, self.context(wrong)))
            sums["no modules"] += float(self.error(None, given, context))
        return {name: value / rounds for name, value in sums.items()}


def opposite(motion: str) -> str:
    """The motion the other way."""
    return MOTIONS[MOTIONS.index(motion) ^ 1]


def export(runs: Path, out: Path, frames: int) -> Path:
    """Write the file in fp16 under the authors' names, whole or not at all. ValueError where it would be too large.

    It has the positions of `frames`, which clips were trained with; longer clips are then drawn in windows.
    """
    state = torch.load(runs / "motion" / "checkpoint.pt", weights_only=True)
    mean = {
        name: value[:, :frames] if name.endswith(".pe") else value for name, value in state["mean"].items()
    }
    tensors = {published(name): value.half().contiguous() for name, value in mean.items()}
    size = sum(value.numel() * 2 for value in tensors.values())
    if size > LIMIT:
        raise ValueError(f"{size} bytes of weights; the file must stay below {LIMIT}")
    about = {
        "betas": "model",
        "training.steps": json.dumps(state["step"]),
        "modelspec.license": "Apache-2.0",
        "modelspec.title": "SigmaGraft scenes that move",
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / "scenes_motion.safetensors"
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, about)
    partial.chmod(0o644)  # safetensors writes for the owner alone
    os.replace(partial, path)
    return path


def published(name: str) -> str:
    """Our name of a tensor -> the authors'."""
    if name.endswith(".pe"):
        return f"{authors_name(name.removesuffix('pe') + 'attn1')}.pos_encoder.pe"
    return authors_name(name)


def main() -> None:
    """Command line."""
    parser = trainer(
        "Train motion modules on the bundled model.",
        steps=6000,
        batch=2,
        rate=0.0005,
        workers=1,
        save_every=500,
        out=None,
    )
    parser.add_argument("--count", type=int, default=1500, help="clips in each worker's cache")
    parser.add_argument("--frames", type=int, default=8)
    args = parser.parse_args()
    if launch("training.train_motion", args.workers):
        _train(args, Workers(args.workers))
    if args.out and not os.environ.get("RANK"):
        path = export(args.runs, args.out, args.frames)
        print(f"{path}: {path.stat().st_size} bytes")


def _train(args: argparse.Namespace, workers: Workers) -> None:
    task = Task(args.runs, args.seed, args.batch, args.count, args.frames, workers)
    network = new_motion(task.model.unet.config, args.seed)
    plan = Plan(args.steps, args.rate, warm=50, cool=0.5, save_every=args.save_every, seed=args.seed)

    def told(step: int, module: nn.Module) -> None:
        worth = ", ".join(f"{name} {value:.4f}" for name, value in task.worth(network).items())
        print(f"step {step}: error with {worth}", flush=True)

    def loss(step: int) -> Tensor:
        return task.loss(network, step)

    Loop(args.runs / "motion", network, plan, loss, 0.999, told, workers).run()


if __name__ == "__main__":
    main()
