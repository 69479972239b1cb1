"""Train the autoencoder on small pieces of scenes: `python -m training.train_vae`.

Loss: |d| + d^2 + w KL(q(z|x) || N(0, 1)) with d = decode(z ~ q(z|x)) - x in [-1, 1], all means over elements.
w is small, yet large enough that the decoder forgives the errors of a small UNet. From `--freeze` on, the encoder
stands still (latents may then be cached) and the decoder goes on learning, with extra noise on the latents.

A norm over 32 groups of only 2 channels forgets how strong a flat colour was: of a constant pair nothing but the
sign is left. So training gives every norm an eps of 1, which keeps the magnitude, and `folded` turns the result
into the very same function with the usual eps of 1e-6: GN(s x; s^2 eps) = GN(x; eps), s = 1e-3 in the weights of
every layer that writes what a norm reads.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sigmagraft.standalone.vae import VAE, ResnetBlock, VAEConfig

from .arguments import trainer
from .draw import draw
from .loop import Loop, Plan, Workers, generators, launch
from .scenes import Mix, random_scene

CONFIG = VAEConfig(ch=64, ch_mult=(1, 1, 1, 1), num_res_blocks=1)
MIX = Mix(pairs=0.5, striped=0.25, styles=("flat",) * 8 + ("outlined", "shaded"))
KL_WEIGHT = 1e-3
KL_WARM = 300
PIECE = 48
WRITES = re.compile(r"(conv_in|conv1|conv2|nin_shortcut|proj_out)\.(weight|bias)$|sample\.conv\.bias$")
FROZEN_NOISE = 0.3  # most noise, in units of the latents' own spread, once the encoder is frozen


def pixels(image: np.ndarray) -> Tensor:
    """[h, w, 3] bytes -> [3, h, w] in [-1, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1


def new_vae(config: VAEConfig = CONFIG, seed: int = 0) -> VAE:
    """A VAE that starts as averaging down and repeating up: residuals are zero, resampling is a plain copy."""
    torch.manual_seed(seed)
    vae = VAE(config)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, nn.GroupNorm):
                module.eps = 1.0
            elif isinstance(module, ResnetBlock):
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
        # Start with next to no noise on the latents, or nothing gets through them at first.
        vae.quant_conv.weight[config.z_channels :].zero_()
        vae.quant_conv.bias[config.z_channels :] = -6.0
        _copy_colours(vae)
    return vae


def _copy_colours(vae: VAE) -> None:
    """Give three latents the mean colour of their 8x8 pixels from the start; the rest is to be learned.

    A colour travels as the pair (c, -c), which is one group of the norms and which silu(c) - silu(-c) = c reads
    exactly; 1.6 undoes the shrinking by norms with an eps of 1.
    """
    z = vae.config.z_channels
    for first, last in (
        (vae.encoder.conv_in, vae.encoder.conv_out),
        (vae.decoder.conv_in, vae.decoder.conv_out),
    ):
        last.weight.mul_(0.1)
        for colour in range(3):
            for channel, sign in ((2 * colour, 1.0), (2 * colour + 1, -1.0)):
                first.weight[channel].zero_()
                first.bias[channel] = 0.0
                first.weight[channel, colour, 1, 1] = 0.7 * sign
                last.weight[colour, channel, 1, 1] = 1.6 * sign
    vae.encoder.conv_out.weight[3:z].mul_(10.0)
    vae.quant_conv.weight[:z].zero_()
    vae.post_quant_conv.weight.zero_()
    for latent in range(z):
        vae.quant_conv.weight[latent, latent] = 1.0
        vae.post_quant_conv.weight[latent, latent] = 1.0


def folded(state: dict[str, Tensor], mean: Tensor, std: Tensor, scale_factor: float) -> dict[str, Tensor]:
    """The trained weights for norms of eps 1e-6 and latents which, times `scale_factor`, have mean 0 and variance 1.

    mean and std [z] are those of the latents as trained; the change of units goes into the quantisation convs.
    """
    out = {name: value.clone() for name, value in state.items()}
    for name in out:
        if WRITES.search(name):
            out[name] *= 1e-3
    unit = std * scale_factor
    gain = torch.cat([1 / unit, torch.ones_like(unit)])
    shift = torch.cat([mean / unit, 2 * unit.log()])
    out["quant_conv.weight"] *= gain[:, None, None, None]
    out["quant_conv.bias"] = out["quant_conv.bias"] * gain - shift
    decode = out["post_quant_conv.weight"]
    out["post_quant_conv.bias"] += decode[:, :, 0, 0] @ mean
    out["post_quant_conv.weight"] = decode * unit[None, :, None, None]
    return out


def batch_at(seed: int, step: int, batch: int, rank: int = 0) -> tuple[Tensor, torch.Generator]:
    """Pieces of scenes, at every eighth step whole scenes, and the noise source."""
    rng, noise = generators(seed, step, rank)
    whole = step % 8 == 7
    images = []
    for _ in range(max(1, batch // 8) if whole else batch):
        image = pixels(draw(random_scene(rng, MIX)).image)
        y, x = rng.integers(0, 129 - PIECE, 2)
        images.append(image if whole else image[:, y : y + PIECE, x : x + PIECE])
    return torch.stack(images), noise


def loss_at(vae: VAE, seed: int, step: int, batch: int, frozen: bool, rank: int = 0) -> Tensor:
    """The loss of one step, see the module's docstring."""
    x, noise = batch_at(seed, step, batch, rank)
    with torch.set_grad_enabled(not frozen):
        mean, logvar = vae.encode(x)
    spread = torch.exp(0.5 * logvar)
    if frozen:
        most = FROZEN_NOISE * mean.std(dim=(0, 2, 3), keepdim=True)
        spread = spread + most * torch.rand((len(x), 1, 1, 1), generator=noise)
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
    spread = ", ".join(f"{std:.2f}" for std in mean.std(dim=(0, 2, 3)))
    noise = logvar.mul(0.5).exp().mean()
    return f"mean absolute error {(y - x).abs().mean():.4f}  latents' std {spread}  posterior std {noise:.3f}"


def main() -> None:
    """Command line."""
    parser = trainer("Train the autoencoder.", steps=2600, batch=2, rate=0.001, cool=0.3, workers=2)
    parser.add_argument("--freeze", type=int, default=750, help="step from which the encoder stands still")
    args = parser.parse_args()
    if not launch("training.train_vae", args.workers):
        return
    workers = Workers(args.workers)
    vae = new_vae(seed=args.seed)
    plan = Plan(args.steps, args.rate, warm=30, cool=args.cool, seed=args.seed)

    def loss(step: int) -> Tensor:
        frozen = step >= args.freeze
        if frozen:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        return loss_at(vae, args.seed, step, args.batch, frozen, workers.rank)

    def saved(step: int, module: nn.Module) -> None:
        if step <= args.freeze:
            torch.save(module.state_dict(), args.runs / "vae" / "encoder.pt")
        print(report(vae, args.runs / "vae" / f"{step:06d}.png"), flush=True)

    Loop(args.runs / "vae", vae, plan, loss, average=0.99, on_save=saved, workers=workers).run()


if __name__ == "__main__":
    main()
