"""Make a run folder from the bundled file, to train it further: `python -m training.restore`.

The file holds average weights only, so optimizers start anew. Its norms have an eps of 1e-6 and its latents a
standard deviation of 1 / 0.18215; the former is undone (see train_vae), the latter is measured again by the cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .export import PREFIXES, TARGET
from .train_text import Lessons
from .train_unet import new_unet
from .train_vae import WRITES, new_vae


def split(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The file's tensors in fp32 by network: unet, vae, text."""
    return {
        part: {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
        for part, prefix in PREFIXES.items()
    }


def start(folder: Path, module: nn.Module) -> None:
    """Write a checkpoint at step 0 whose weights and average are the module's."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad])
    weights = module.state_dict()
    state = {"module": weights, "mean": weights, "optimizer": optimizer.state_dict(), "step": 0}
    torch.save(state, folder / "checkpoint.pt")


def restore(source: Path, runs: Path) -> None:
    """Fill `runs` from a bundled file. FileExistsError where it already holds a run."""
    if (runs / "unet").exists() or (runs / "vae").exists() or (runs / "text").exists():
        raise FileExistsError(f"{runs} already holds a run; name an empty folder with --runs")
    parts = split(load_file(source))
    unet, vae, lessons = new_unet(), new_vae(), Lessons()
    unet.load_state_dict(parts["unet"])
    vae.load_state_dict({k: v * 1e3 if WRITES.search(k) else v for k, v in parts["vae"].items()})
    lessons.encoder.load_state_dict(parts["text"])
    for name, module in (("unet", unet), ("vae", vae), ("text", lessons)):
        start(runs / name, module)
    torch.save(vae.state_dict(), runs / "vae" / "encoder.pt")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make a run folder from the bundled file.")
    parser.add_argument("--runs", type=Path, default=Path("training/runs"), help="folder of all runs")
    parser.add_argument("--source", type=Path, default=TARGET)
    args = parser.parse_args()
    restore(args.source, args.runs)
    print(f"{args.runs} is ready: go on with training.latents, then training.train_unet")


if __name__ == "__main__":
    main()
