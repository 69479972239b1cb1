"""Write the trained networks as one SD1.x file in fp16: `python -m training.export`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .latents import Cache
from .preview import load_unet, load_vae
from .train_text import trained_encoder
from .train_vae import folded

SCALE_FACTOR = 0.18215
PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": "cond_stage_model.transformer.",
}
LIMIT = 24_000_000
TARGET = Path(__file__).resolve().parent.parent / "standalone" / "assets" / "scenes.safetensors"


def assemble(unet: dict[str, Tensor], vae: dict[str, Tensor], text: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dicts of the three networks under SD1.x's prefixes, fp16."""
    parts = {"unet": unet, "vae": vae, "text": text}
    return {
        PREFIXES[part] + name: value.detach().half().contiguous()
        for part, state in parts.items()
        for name, value in state.items()
    }


def metadata(steps: dict[str, int], seed: int) -> dict[str, str]:
    """What the file says of itself, in the fields of ModelSpec 1.0.0 where it has one."""
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": "SigmaGraft scenes",
        "modelspec.author": "the SigmaGraft authors",
        "modelspec.description": "A small model of coloured shapes on plain and striped backgrounds.",
        "modelspec.license": "Apache-2.0",
        "modelspec.resolution": "128x128",
        "modelspec.prediction_type": "epsilon",
        "training.steps": json.dumps(steps),
        "training.seed": str(seed),
        "training.command": "python -m training",
    }


def steps_of(runs: Path) -> dict[str, int]:
    """How far each run has come."""
    found = {}
    for part in ("vae", "text", "unet"):
        found[part] = int(torch.load(runs / part / "checkpoint.pt", weights_only=True)["step"])
    return found


def export(runs: Path, target: Path, seed: int) -> int:
    """Write the file, whole or not at all; answers its size in bytes. ValueError where it would be too large."""
    mean, std = Cache(runs, seed).units()
    vae = folded(load_vae(runs).state_dict(), mean, std, SCALE_FACTOR)
    tensors = assemble(load_unet(runs).state_dict(), vae, trained_encoder(runs).state_dict())
    size = sum(t.numel() * 2 for t in tensors.values())
    if size > LIMIT - 200_000:
        raise ValueError(f"{size} bytes of weights; the bundled file must stay below {LIMIT}")
    partial = target.with_suffix(".partial")
    save_file(tensors, partial, metadata(steps_of(runs), seed))
    partial.chmod(0o644)  # safetensors writes for the owner alone
    os.replace(partial, target)
    return target.stat().st_size


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the bundled model's file.")
    parser.add_argument("--runs", type=Path, default=Path("training/runs"), help="folder of all runs")
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{args.out}: {export(args.runs, args.out, args.seed)} bytes")


if __name__ == "__main__":
    main()
