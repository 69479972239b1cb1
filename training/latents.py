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
from .loop import Progress, launch, worker_rank
from .scenes import Mix, Scene, random_scene
from .train_vae import new_vae, pixels

MIX = Mix(pairs=0.5, striped=0.12)
SHAPE = (4, 16, 16)
BATCH = 8
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
        """How many latents are there from the front without a gap."""
        if not self.about.exists():
            return 0
        about = json.loads(self.about.read_text())
        workers = about["workers"]
        missing = min(self._done(rank) * workers + rank for rank in range(workers))
        return min(about["count"], missing * BATCH)

    def _done(self, rank: int) -> int:
        """Batches a worker has stored."""
        note = self.folder / f"done-{rank}"
        return int(note.read_text() or 0) if note.exists() else 0

    def wait(self, count: int) -> None:
        """Return once `count` latents are there."""
        while self.filled < count:
            time.sleep(2.0)

    def array(self, mode: str = "r", count: int | None = None) -> np.ndarray:
        """The memory-mapped latents [n, 4, 16, 16] fp16; `count` makes a new file."""
        shape = (count, *SHAPE) if count else None
        return np.lib.format.open_memmap(
            self.folder / "latents.npy", mode=mode, dtype=np.float16, shape=shape
        )

    def units(self) -> tuple[Tensor, Tensor]:
        """mean and std [4] of the latents."""
        first = torch.from_numpy(self.array()[:MEASURED].astype(np.float32))
        return first.mean(dim=(0, 2, 3)), first.std(dim=(0, 2, 3))

    def prepare(self, count: int, workers: int) -> None:
        """Lay out an empty cache, unless there is one of this size."""
        about = {"count": count, "workers": workers, "seed": self.seed}
        if self.about.exists() and json.loads(self.about.read_text()) == about:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for note in self.folder.glob("done-*"):
            note.unlink()
        self.array("w+", count)
        self.about.write_text(json.dumps(about))

    @torch.no_grad()
    def fill(self, vae: VAE, count: int, rank: int, workers: int) -> None:
        """Encode this worker's batches of `count` scenes, going on where an earlier run stopped."""
        store = self.array("r+")
        vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        total = -(-count // BATCH)
        progress = Progress(self._done(rank) * workers * BATCH, count, every=50 * workers * BATCH)
        for k in range(self._done(rank) * workers + rank, total, workers):
            numbers = range(k * BATCH, min((k + 1) * BATCH, count))
            x = torch.stack([pixels(draw(scene_at(self.seed, i)).image) for i in numbers])
            x = x.contiguous(memory_format=torch.channels_last)
            store[numbers.start : numbers.stop] = vae.encode(x)[0].half().numpy()
            store.flush()
            (self.folder / f"done-{rank}").write_text(str(k // workers + 1))
            if rank == 0:
                progress.show((k + 1) * BATCH, 0.0, 0.0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Encode the scenes the UNet trains on.")
    parser.add_argument("--runs", type=Path, default=Path("training/runs"), help="folder of all runs")
    parser.add_argument("--count", type=int, default=6400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes, one a core")
    args = parser.parse_args()
    cache = Cache(args.runs, args.seed)
    rank = worker_rank()
    if rank is None:
        cache.prepare(args.count, args.workers)
    if launch("training.latents", args.workers):
        cache.fill(load_encoder(args.runs), args.count, rank or 0, args.workers)


if __name__ == "__main__":
    main()
