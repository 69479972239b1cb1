"""The cache of encoded scenes the UNet trains on: `python -m training.latents`.

Scene k of the cache is drawn from (seed, k) alone; its latent is stored as trained, in fp16, in a memory-mapped
array that grows from the front, so that training may begin while it is still being filled.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sigmagraft.standalone.vae import VAE

from .draw import draw
from .loop import Progress
from .scenes import Mix, Scene, random_scene
from .train_vae import new_vae, pixels

MIX = Mix(pairs=0.5, striped=0.12)
SHAPE = (4, 16, 16)
MEASURED = 256  # scenes whose latents give the mean and standard deviation


def scene_at(seed: int, index: int) -> Scene:
    """Scene number `index` of the cache."""
    return random_scene(np.random.default_rng((seed, 7, index)), MIX)


def load_encoder(runs: Path) -> VAE:
    """The autoencoder as it stands in its run folder: the last weights, not their average (the encoder is frozen)."""
    vae = new_vae()
    vae.load_state_dict(torch.load(runs / "vae" / "encoder.pt", weights_only=True))
    return vae.eval().requires_grad_(False)


class Cache:
    """The stored latents; `mean` and `std` [4] are fixed by the first MEASURED scenes."""

    def __init__(self, runs: Path, seed: int) -> None:
        self.folder = runs / "latents"
        self.seed = seed
        self.about = self.folder / "about.json"

    @property
    def filled(self) -> int:
        return json.loads(self.about.read_text())["filled"] if self.about.exists() else 0

    def wait(self, count: int) -> None:
        """Return once `count` latents are there."""
        while self.filled < count:
            time.sleep(2.0)

    def array(self, mode: str = "r", count: int | None = None) -> np.ndarray:
        """The memory-mapped latents [n, 4, 16, 16] fp16; `count` makes a new file."""
        shape = (count, *SHAPE) if count else None
        return np.lib.format.open_memmap(self.folder / "latents.npy", mode=mode, dtype=np.float16, shape=shape)

    def units(self) -> tuple[Tensor, Tensor]:
        """mean and std [4] of the latents."""
        first = torch.from_numpy(self.array()[:MEASURED].astype(np.float32))
        return first.mean(dim=(0, 2, 3)), first.std(dim=(0, 2, 3))

    @torch.no_grad()
    def fill(self, vae: VAE, count: int, batch: int = 8) -> None:
        """Encode scenes until `count` are stored, going on where an earlier run stopped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        start = self.filled
        store = self.array("r+") if start else self.array("w+", count)
        progress = Progress(start, count, every=20 * batch)
        vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for k in range(start, count, batch):
            numbers = range(k, min(k + batch, count))
            x = torch.stack([pixels(draw(scene_at(self.seed, i)).image) for i in numbers])
            store[k : numbers.stop] = vae.encode(x.contiguous(memory_format=torch.channels_last))[0].half().numpy()
            self.about.write_text(json.dumps({"filled": numbers.stop, "seed": self.seed}))
            progress.show(numbers.stop, 0.0, 0.0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Encode the scenes the UNet trains on.")
    parser.add_argument("--runs", type=Path, default=Path("training/runs"), help="folder of all runs")
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    Cache(args.runs, args.seed).fill(load_encoder(args.runs), args.count)


if __name__ == "__main__":
    main()
