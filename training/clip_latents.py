"""The cache of encoded clips that motion modules train on: clip k is drawn from (seed, k) alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sigmagraft.standalone import latents
from sigmagraft.standalone.model import Model

from .draw import draw
from .loop import Progress
from .motions import MovingScene, random_clip
from .train_vae import pixels

SHAPE = (4, 16, 16)


def clip_at(seed: int, index: int, frames: int) -> MovingScene:
    """Clip number `index`."""
    return random_clip(np.random.default_rng((seed, 11, index)), frames)


class ClipCache:
    """Scaled latents [count, frames, 4, 16, 16] in fp16, mapped; filled from the front, going on where it stopped."""

    def __init__(self, folder: Path, seed: int, count: int, frames: int) -> None:
        self.folder, self.seed, self.count, self.frames = folder, seed, count, frames
        self.about = folder / "about.json"
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def filled(self) -> int:
        """Clips that are there; 0 where those there are of another seed or length."""
        if not self.about.exists():
            return 0
        about = json.loads(self.about.read_text())
        return min(about["filled"], self.count) if about | self._kind == about else 0

    @property
    def _kind(self) -> dict[str, int]:
        return {"seed": self.seed, "frames": self.frames, "count": self.count}

    def array(self, mode: str = "r+") -> np.ndarray:
        """All of them; those beyond `filled` are not yet drawn."""
        file = self.folder / "latents.npy"
        shape = (self.count, self.frames, *SHAPE)
        if self.filled == 0:
            return np.lib.format.open_memmap(file, "w+", np.float16, shape)
        return np.lib.format.open_memmap(file, mode)

    @torch.inference_mode()
    def fill(self, model: Model) -> np.ndarray:
        """Draws and encodes what is lacking; the array."""
        store = self.array()
        progress = Progress(self.filled, self.count)
        for index in range(self.filled, self.count):
            scenes = clip_at(self.seed, index, self.frames).frames
            x = torch.stack([pixels(draw(scene).image) for scene in scenes])
            store[index] = latents.encode(model, x).half().numpy()
            if (index + 1) % 50 == 0 or index + 1 == self.count:
                store.flush()
                self.about.write_text(json.dumps({**self._kind, "filled": index + 1}))
            progress.show(index + 1, 0.0, 0.0)
        return store

    def clips(self, store: np.ndarray, numbers: np.ndarray) -> Tensor:
        """[n * frames, 4, 16, 16]."""
        return torch.from_numpy(store[numbers].astype(np.float32)).flatten(0, 1)
