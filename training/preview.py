"""Pictures from a checkpoint, to look at while training: `python -m training.preview`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sigmagraft.samplers import NoiseLevels, drive, schedule
from sigmagraft.standalone.unet import UNet
from sigmagraft.standalone.vae import VAE

from .latents import Cache
from .train_text import LENGTH
from .train_unet import Words, new_unet
from .train_vae import new_vae

PROMPTS = (
    "a large red circle on a blue background",
    "a small yellow star on a purple background",
    "a green heart on a white background",
    "a medium white ring in the top left on a black background",
    "a blue triangle on a yellow background",
    "an orange cross on a cyan background",
    "a black square on a pink background",
    "a pink diamond on a green background",
    "a red circle left of a blue square on a white background",
    "a yellow star above a green heart on a black background",
    "a white triangle in front of a purple circle on an orange background",
    "a cyan cross right of a pink ring on a purple background",
    "a black heart below an orange diamond on a yellow background",
    "a large purple square on a red and white striped background",
    "a small black circle on a green and yellow vertical striped background",
    "a blue star",
)


def load_vae(runs: Path) -> VAE:
    """The averaged weights of the autoencoder's run; the encoder the cache was made with."""
    vae = new_vae()
    state = torch.load(runs / "vae" / "checkpoint.pt", weights_only=True)["mean"]
    encoder = torch.load(runs / "vae" / "encoder.pt", weights_only=True)
    frozen = {k: v for k, v in encoder.items() if k.startswith(("encoder.", "quant_conv."))}
    vae.load_state_dict(state | frozen)
    return vae.eval().requires_grad_(False)


def load_unet(runs: Path) -> UNet:
    """The averaged weights of the UNet's run."""
    unet = new_unet()
    unet.load_state_dict(torch.load(runs / "unet" / "checkpoint.pt", weights_only=True)["mean"])
    return unet.eval().requires_grad_(False)


def guided(unet: UNet, context: Tensor, levels: NoiseLevels, cfg: float) -> Callable[[Tensor, float], Tensor]:
    """x, sigma -> denoised under guidance; `context` holds the prompts' states, then as many of the empty one."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        skip, out, scale = levels.scalings("eps", sigma)
        t = torch.full((2 * len(x),), levels.timestep(sigma))
        cond, uncond = unet((x * scale).repeat(2, 1, 1, 1), t, context).chunk(2)
        return skip * x + out * (uncond + cfg * (cond - uncond))

    return denoise


@torch.no_grad()
def sample(unet: UNet, words: Words, prompts: tuple[str, ...], cfg: float, steps: int, seed: int) -> Tensor:
    """Latents of unit variance [n, 4, 16, 16] by DPM++ 2M."""
    levels = NoiseLevels.discrete()
    tokens = [[words.tokenizer.start, *words.tokenizer.encode(p), *words.empty[1:]][:LENGTH] for p in prompts]
    context = words.states(tokens + [words.empty] * len(prompts))
    noise = torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    sigmas = schedule("karras", steps, levels)
    return drive("dpmpp_2m", guided(unet, context, levels, cfg), noise * sigmas[0], sigmas, levels=levels)


def preview(runs: Path, step: int, cfg: float = 4.0, steps: int = 16, seed: int = 1) -> Path:
    """Write a grid of PROMPTS as pictures."""
    mean, std = Cache(runs, 0).units()
    latents = sample(load_unet(runs), Words(runs), PROMPTS, cfg, steps, seed)
    with torch.no_grad():
        images = load_vae(runs).decode(latents * std[:, None, None] + mean[:, None, None]).clamp(-1, 1)
    rows = [torch.cat(list(images[i : i + 8]), dim=2) for i in range(0, len(images), 8)]
    grid = ((torch.cat(rows, dim=1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    path = runs / "unet" / f"{step:06d}.png"
    Image.fromarray(np.ascontiguousarray(grid)).save(path)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw a grid of pictures from the current checkpoint.")
    parser.add_argument("--runs", type=Path, default=Path("training/runs"), help="folder of all runs")
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, default=0, help="the number in the picture's name")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(preview(args.runs, args.step, args.cfg, args.steps, args.seed))


if __name__ == "__main__":
    main()
