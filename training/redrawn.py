"""The cached scenes as the UNet draws them: `python -m training.redrawn`.

A latent with noise of a middle level is denoised again under guidance: shapes stay where they are, while edges and
corners become the UNet's own. Of these `train_decoder` learns what the UNet means by them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from sigmagraft.samplers import NoiseLevels, drive, schedule

from .captions import caption
from .hard import chances
from .latents import SHAPE, Cache, scene_at
from .loop import Progress
from .preview import guided, load_unet
from .train_text import encode_pieces
from .train_unet import Words

BATCH = 16
STEPS = 20  # of the whole walk, of which the end is gone
START = (0.35, 2.0)  # sigma in units of the latents' spread, the same for a batch
GUIDANCE = 4.0


class Redrawn:
    """Redrawn latents [n, 4, 16, 16] in the cache's units, and the numbers [n] of their scenes."""

    def __init__(self, runs: Path) -> None:
        self.file = runs / "latents" / "redrawn.npz"

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Latents and scenes; none where nothing has been redrawn."""
        if not self.file.exists():
            return np.empty((0, *SHAPE), np.float16), np.empty(0, np.int64)
        with np.load(self.file) as stored:
            return stored["latents"], stored["scenes"]

    def write(self, latents: np.ndarray, scenes: np.ndarray) -> None:
        """The file, whole or not at all."""
        partial = self.file.with_suffix(".partial.npz")
        np.savez(partial, latents=latents, scenes=scenes)
        partial.replace(self.file)


class Redraw:
    """Draws batch after batch; batch j depends on (seed, j) alone."""

    def __init__(self, runs: Path, seed: int, count: int) -> None:
        cache = Cache(runs, seed)
        self.seed, self.latents = seed, cache.array()
        self.mean, self.std = (unit[:, None, None] for unit in cache.units())
        self.scenes = [scene_at(seed, k) for k in range(min(count, cache.filled))]
        self.chances = chances(self.scenes)
        self.unet, self.words = load_unet(runs), Words(runs)
        self.levels = NoiseLevels.discrete()
        self.walk = schedule("karras", STEPS, self.levels)

    @torch.no_grad()
    def batch(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents and the numbers of their scenes."""
        rng = np.random.default_rng((self.seed, 13, j))
        numbers = rng.choice(len(self.scenes), size=BATCH, p=self.chances)
        tokens = [encode_pieces(self.words.tokenizer, caption(self.scenes[k], rng))[0] for k in numbers]
        context = self.words.states(tokens + [self.words.empty] * BATCH)
        z = (torch.from_numpy(self.latents[numbers].astype(np.float32)) - self.mean) / self.std
        start = float(np.exp(rng.uniform(*np.log(START))))
        sigmas = [sigma for sigma in self.walk if sigma <= start]
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62))))
        denoise = guided(self.unet, context, self.levels, GUIDANCE)
        out = drive("dpmpp_2m", denoise, z + sigmas[0] * noise, sigmas, levels=self.levels)
        return (out * self.std + self.mean).half().numpy(), numbers


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Let the UNet draw cached scenes again.")
    parser.add_argument("--runs", type=Path, default=Path("training/runs"), help="folder of all runs")
    parser.add_argument("--count", type=int, default=6400, help="latents in the cache")
    parser.add_argument("--redrawn", type=int, default=4000, help="how many to draw")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    redraw, progress = Redraw(args.runs, args.seed, args.count), Progress(0, args.redrawn, every=20 * BATCH)
    drawn = []
    for j in range(-(-args.redrawn // BATCH)):
        drawn.append(redraw.batch(j))
        progress.show((j + 1) * BATCH, 0.0, 0.0)
    Redrawn(args.runs).write(*(np.concatenate(part) for part in zip(*drawn, strict=True)))


if __name__ == "__main__":
    main()
