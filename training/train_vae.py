"""Train the autoencoder on 64-pixel pieces of scenes: `python -m training.train_vae`.

Loss: |d| + d^2 + w KL(q(z|x) || N(0, 1)) with d = decode(z ~ q(z|x)) - x in [-1, 1], all means over elements.
w is small, yet large enough that the decoder forgives the errors of a small UNet. From `--freeze` on, the encoder
stands still (latents may then be cached) and the decoder goes on learning, with extra noise on the latents.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sigmagraft.standalone.vae import VAE, ResnetBlock, VAEConfig

from .draw import draw
from .loop import Loop, Plan, Threads, generators
from .scenes import Mix, random_scene

CONFIG = VAEConfig(ch=64, ch_mult=(1, 1, 1, 1), num_res_blocks=1)
MIX = Mix(pairs=0.5, striped=0.25, styles=("flat",) * 8 + ("outlined", "shaded"))
KL_WEIGHT = 2e-3
KL_WARM = 300
FROZEN_NOISE = 0.1  # standard deviation added to latents of unit variance once the encoder is frozen


def pixels(image: np.ndarray) -> Tensor:
    """[h, w, 3] bytes -> [3, h, w] in [-1, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1


def new_vae(config: VAEConfig = CONFIG, seed: int = 0) -> VAE:
    """A VAE that starts as averaging down and repeating up: residuals are zero, resampling is a plain copy."""
    torch.manual_seed(seed)
    vae = VAE(config)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, ResnetBlock):
                module.conv2.weight.zero_()
            elif name.endswith("attn_1.proj_out"):
                module.weight.zero_()  # type: ignore[operator]
            elif isinstance(module, nn.Conv2d) and name.endswith("sample.conv"):
                module.weight.mul_(0.1)
                channel = torch.arange(module.weight.shape[0])
                if "downsample" in name:
                    module.weight[channel, channel, :2, :2] += 0.25
                else:
                    module.weight[channel, channel, 1, 1] += 1.0
    return vae


def batch_at(seed: int, step: int, batch: int) -> tuple[Tensor, torch.Generator]:
    """64-pixel pieces of scenes, at every fourth step whole scenes of as many pixels, and the noise source."""
    rng, noise = generators(seed, step)
    whole = step % 4 == 3
    images = []
    for _ in range(max(1, batch // 4) if whole else batch):
        image = pixels(draw(random_scene(rng, MIX)).image)
        y, x = rng.integers(0, 65, 2)
        images.append(image if whole else image[:, y : y + 64, x : x + 64])
    return torch.stack(images), noise


def loss_at(vae: VAE, seed: int, step: int, batch: int, frozen: bool) -> Tensor:
    """The loss of one step, see the module's docstring."""
    x, noise = batch_at(seed, step, batch)
    with torch.set_grad_enabled(not frozen):
        mean, logvar = vae.encode(x)
    spread = torch.exp(0.5 * logvar) + (FROZEN_NOISE * torch.rand((len(x), 1, 1, 1), generator=noise) if frozen else 0)
    z = mean + spread * torch.randn(mean.shape, generator=noise)
    d = vae.decode(z) - x
    loss = d.abs().mean() + d.square().mean()
    if frozen:
        return loss
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return loss + KL_WEIGHT * min(1.0, step / KL_WARM) * kl


@torch.no_grad()
def report(vae: VAE, picture: Path, count: int = 16) -> str:
    """Write scenes above their reconstructions; answer the mean absolute error and the latents' statistics."""
    scenes = [random_scene(np.random.default_rng((999, i)), MIX) for i in range(count)]
    x = torch.stack([pixels(draw(scene).image) for scene in scenes])
    mean, logvar = vae.encode(x)
    y = vae.decode(mean).clamp(-1, 1)
    rows = [torch.cat(list(t), dim=2) for i in range(0, count, 8) for t in (x[i : i + 8], y[i : i + 8])]
    grid = ((torch.cat(rows, dim=1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(grid).save(picture)
    error = (y - x).abs().mean()
    return f"error {error:.4f}  latent std {mean.std(dim=(0, 2, 3)).tolist()}  posterior std {logvar.mul(0.5).exp().mean():.3f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the autoencoder.")
    parser.add_argument("--runs", type=Path, default=Path("training/runs"), help="folder of all runs")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--freeze", type=int, default=1500, help="step from which the encoder stands still")
    parser.add_argument("--batch", type=int, default=4, help="64-pixel pieces a step")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0 = whichever of 1 and 2 is faster at the moment")
    args = parser.parse_args()
    vae = new_vae(seed=args.seed)
    plan = Plan(args.steps, args.rate, warm=50, seed=args.seed)

    def loss(step: int) -> Tensor:
        frozen = step >= args.freeze
        if frozen:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        return loss_at(vae, args.seed, step, args.batch, frozen)

    def saved(step: int, module: nn.Module) -> None:
        print(report(vae, args.runs / "vae" / f"{step:06d}.png"), flush=True)

    Loop(args.runs / "vae", vae, plan, loss, average=0.99, on_save=saved, threads=Threads(args.threads)).run()


if __name__ == "__main__":
    main()
