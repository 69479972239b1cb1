"""Sharpen the decoder on the things in the cached scenes: `python -m training.train_decoder`.

The encoder stands still, so that latents, and whatever was trained on them, stay what they are. Loss: |d| + d^2 plus
the differences of d between neighbouring pixels, which blurred corners pay for. Every fourth step goes by the pieces of
train_vae, so that styles the cache does not hold are not forgotten. Scenes that the UNet drew again (`redrawn`) teach
the decoder which corners the UNet's round ones stand for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sigmagraft.standalone.vae import VAE

from .arguments import trainer
from .draw import draw
from .hard import chances
from .latents import Cache, scene_at
from .loop import Loop, Plan, Workers, generators, launch
from .redrawn import Redrawn
from .scenes import Scene
from .train_vae import batch_at, new_vae, pixels, report

SIDE, RIM = 8, 1  # latents across a piece, of which the outermost are only there to be seen
REDRAWN = 0.7  # share of pieces that the UNet drew, where `training.redrawn` has made some
NOISE = 0.2  # most noise on the latents, in units of their own spread
FACTOR = 8  # pixels across a latent


class Task:
    """The loss of a step over pieces of the cached latents."""

    def __init__(self, runs: Path, seed: int, batch: int, count: int, workers: Workers) -> None:
        cache = Cache(runs, seed)
        self.latents, (_, std) = cache.array(), cache.units()
        self.std = std[:, None, None]
        self.scenes = [scene_at(seed, k) for k in range(min(count, cache.filled))]
        self.chances = chances(self.scenes)
        self.redrawn = Redrawn(runs).read()
        self.seed, self.batch, self.rank = seed, batch, workers.rank

    def chosen(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """A latent, one that the UNet drew again where there are some, and the number of its scene."""
        latents, scenes = self.redrawn
        if len(scenes) and rng.random() < REDRAWN:
            j = int(rng.integers(len(scenes)))
            return latents[j], int(scenes[j])
        k = int(rng.choice(len(self.scenes), p=self.chances))
        return self.latents[k], k

    def pieces(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Latents [b, 4, SIDE, SIDE] around things, and the pixels they should become."""
        z, x = [], []
        for _ in range(self.batch):
            latent, k = self.chosen(rng)
            top, left = corner(self.scenes[k], rng)
            piece = np.s_[:, top : top + SIDE, left : left + SIDE]
            z.append(torch.from_numpy(latent[piece].astype(np.float32)))
            image = pixels(draw(self.scenes[k]).image)
            x.append(image[:, FACTOR * top : FACTOR * (top + SIDE), FACTOR * left : FACTOR * (left + SIDE)])
        return torch.stack(z), torch.stack(x)

    def noisy(self, z: Tensor, noise: torch.Generator) -> Tensor:
        """The latents with some noise, as a UNet's are never exact."""
        share = NOISE * torch.rand((len(z), 1, 1, 1), generator=noise)
        return z + share * self.std * torch.randn(z.shape, generator=noise)

    def loss(self, vae: VAE, step: int) -> Tensor:
        """The loss of a step."""
        rng, noise = generators(self.seed + 5, step, self.rank)
        if step % 4 == 3:
            at = 8 * step  # pieces: never its eighth step
            x, noise = batch_at(self.seed + 5, at, self.batch, self.rank)
            with torch.no_grad():
                z = vae.encode(x)[0]
            return distance(vae.decode(self.noisy(z, noise)) - x)
        z, x = self.pieces(rng)
        cut = np.s_[:, :, RIM * FACTOR : -RIM * FACTOR, RIM * FACTOR : -RIM * FACTOR]
        return distance((vae.decode(self.noisy(z, noise)) - x)[cut])


def corner(scene: Scene, rng: np.random.Generator, across: int = 16) -> tuple[int, int]:
    """The upper left latent of a piece around one of the things, a little off."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    middle = np.array([thing.y, thing.x]) * across - SIDE / 2 + rng.uniform(-1.5, 1.5, 2)
    top, left = np.clip(np.rint(middle), 0, across - SIDE).astype(int)
    return int(top), int(left)


def distance(d: Tensor) -> Tensor:
    """|d| + d^2 + |differences of d between neighbours|, means over elements."""
    across, down = d.diff(dim=-1).abs().mean(), d.diff(dim=-2).abs().mean()
    return d.abs().mean() + d.square().mean() + across + down


def main() -> None:
    """Command line."""
    parser = trainer("Sharpen the decoder.", steps=4000, batch=2, count=6400, rate=0.0006, workers=2)
    args = parser.parse_args()
    if not launch("training.train_decoder", args.workers):
        return
    workers = Workers(args.workers)
    vae, task = new_vae(), Task(args.runs, args.seed, args.batch, args.count, workers)
    plan = Plan(args.steps, args.rate, warm=100, cool=0.7, save_every=500, seed=args.seed)

    def saved(step: int, module: nn.Module) -> None:
        print(report(vae, args.runs / "vae" / f"{step:06d}.png"), flush=True)

    loop = Loop(args.runs / "vae", vae, plan, lambda step: task.loss(vae, step), 0.998, saved, workers)
    for part in (vae.encoder, vae.quant_conv):  # after the optimizer, whose state a checkpoint holds for all
        part.requires_grad_(False)
    loop.run()


if __name__ == "__main__":
    main()
