"""The autoencoder of latent diffusion (arXiv:2112.10752); attribute names are those of ``first_stage_model.``."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ..core.shapes import Shapes, count, require


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of an autoencoder; ``embed_dim`` is None where the file has no quant_conv (16-channel VAEs)."""

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 4
    embed_dim: int | None = 4
    in_channels: int = 3
    out_channels: int = 3

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> VAEConfig:
        """The sizes in a state dict's shapes (names without ``first_stage_model.``); FileError where one is missing."""
        levels = count(shapes, "encoder.down.{}.block.0.conv1.weight")
        conv_in = require(shapes, "encoder.conv_in.weight", "a VAE")
        widths = [
            require(shapes, f"encoder.down.{i}.block.0.conv1.weight", "a VAE")[0] for i in range(levels)
        ]
        z_channels = require(shapes, "decoder.conv_in.weight", "a VAE")[1]
        quant = shapes.get("quant_conv.weight")
        return cls(
            ch=conv_in[0],
            ch_mult=tuple(width // conv_in[0] for width in widths),
            num_res_blocks=count(shapes, "encoder.down.0.block.{}.conv1.weight"),
            z_channels=z_channels,
            embed_dim=quant[0] // 2 if quant else None,
            in_channels=conv_in[1],
            out_channels=require(shapes, "decoder.conv_out.weight", "a VAE")[0],
        )


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.nin_shortcut = nn.Conv2d(channels, out_channels, 1)
        self.same = channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.same else self.nin_shortcut(x)) + h


class AttnBlock(nn.Module):
    """Single-head self-attention over pixels, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).permute(0, 2, 3, 1).flatten(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v)[:, 0].unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)
        return x + self.proj_out(out)


class Downsample(nn.Module):
    """Half the resolution; padded on the right and bottom only, as the published weights were trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the resolution by nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The ResNet blocks of one resolution and the step to the next."""

    def __init__(
        self, channels: int, out_channels: int, blocks: int, resample: tuple[str, nn.Module] | None
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResnetBlock(channels if i == 0 else out_channels, out_channels) for i in range(blocks)
        )
        self.resample = resample[0] if resample else None
        if resample:
            self.add_module(*resample)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return self.get_submodule(self.resample)(x) if self.resample else x


class Middle(nn.Module):
    """ResNet, attention, ResNet at the lowest resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttnBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Image [b, 3, H, W] -> moments [b, 2z, H/f, W/f]."""

    def __init__(self, c: VAEConfig) -> None:
        super().__init__()
        widths = [c.ch * m for m in c.ch_mult]
        self.conv_in = nn.Conv2d(c.in_channels, c.ch, 3, padding=1)
        self.down = nn.ModuleList(
            Level(
                below,
                width,
                c.num_res_blocks,
                ("downsample", Downsample(width)) if i < len(widths) - 1 else None,
            )
            for i, (below, width) in enumerate(zip([c.ch, *widths], widths, strict=False))
        )
        self.mid = Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * c.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latent [b, z, h, w] -> image [b, 3, f h, f w]; ``up`` counts from the highest resolution, as in the files."""

    def __init__(self, c: VAEConfig) -> None:
        super().__init__()
        widths = [c.ch * m for m in c.ch_mult]
        self.conv_in = nn.Conv2d(c.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(
            Level(above, width, c.num_res_blocks + 1, ("upsample", Upsample(width)) if i else None)
            for i, (above, width) in enumerate(zip([*widths[1:], widths[-1]], widths, strict=True))
        )
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], c.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VAE(nn.Module):
    """Encoder and decoder with their 1x1 quantisation convolutions, where the file has them."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        if config.embed_dim is not None:
            self.quant_conv = nn.Conv2d(2 * config.z_channels, 2 * config.embed_dim, 1)
            self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    @property
    def factor(self) -> int:
        """How many pixels one latent pixel covers in each direction."""
        return 2 ** (len(self.config.ch_mult) - 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image [b, 3, H, W] in [-1, 1] -> (mean, log-variance), each [b, z, H/f, W/f], unscaled."""
        moments = self.encoder(x)
        if self.config.embed_dim is not None:
            moments = self.quant_conv(moments)
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def decode(self, z: Tensor) -> Tensor:
        """Unscaled latent [b, z, h, w] -> image [b, 3, f h, f w], nominally in [-1, 1]."""
        if self.config.embed_dim is not None:
            z = self.post_quant_conv(z)
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        """decode(mean of encode(x)): what training and tests compare with x."""
        return self.decode(self.encode(x)[0])


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)
