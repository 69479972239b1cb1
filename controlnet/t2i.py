"""T2I-Adapters: a picture's features at four resolutions, added to the UNet's encoder (arXiv:2302.08453).

They see neither noise nor time, so a picture is encoded once a run. Names are those of TencentARC's files.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ..core.blocks import Downsample
from ..core.errors import FileError
from ..core.patch import Block as Place
from ..core.shapes import Shapes, count, require
from ..core.unet_config import UNetConfig

CHANNELS = (1, 3)  # of a hint: grey or RGB


@dataclass(frozen=True)
class T2IConfig:
    """Sizes of an adapter; `widths` one a level, `inner` of the light kind, else None."""

    channels: int
    unshuffle: int
    widths: tuple[int, ...]
    blocks: int  # ResNets a level
    kernel: int = 1
    inner: tuple[int, ...] | None = None
    strided: bool = False  # halved by a convolution rather than an average

    @property
    def large(self) -> bool:
        """SDXL's kind, which halves the resolution once instead of three times."""
        return self.unshuffle == 16

    @property
    def downs(self) -> tuple[bool, ...]:
        """Which levels begin by halving the resolution."""
        return tuple(i == 2 if self.large else i > 0 for i in range(len(self.widths)))

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> T2IConfig:
        """The sizes in a file's shapes."""
        light = "conv_in.weight" not in shapes
        entered = require(shapes, "body.0.in_conv.weight" if light else "conv_in.weight", "a T2I-Adapter")[1]
        channels, unshuffle = _picture(entered)
        if light:
            levels = count(shapes, "body.{}.in_conv.weight")
            return cls(
                channels,
                unshuffle,
                tuple(shapes[f"body.{i}.out_conv.weight"][0] for i in range(levels)),
                count(shapes, "body.0.body.{}.block1.weight"),
                inner=tuple(shapes[f"body.{i}.in_conv.weight"][0] for i in range(levels)),
            )
        return _full(cls, shapes, channels, unshuffle)


def _full(cls: type[T2IConfig], shapes: Shapes, channels: int, unshuffle: int) -> T2IConfig:
    """Two ResNets a level, as all published adapters have."""
    blocks = count(shapes, "body.{}.block1.weight")
    if blocks % 2:
        raise FileError(f"a T2I-Adapter of {blocks} ResNets", expected="two for each level")
    widths = tuple(shapes[f"body.{i}.block2.weight"][0] for i in range(0, blocks, 2))
    kernel = shapes["body.0.block2.weight"][-1]
    strided = any(name.endswith("down_opt.op.weight") for name in shapes)
    return cls(channels, unshuffle, widths, 2, kernel, strided=strided)


def _picture(entered: int) -> tuple[int, int]:
    """(channels, unshuffle) of a hint whose unshuffled pixels have as many channels."""
    for unshuffle in (8, 16):
        channels, left = divmod(entered, unshuffle**2)
        if not left and channels in CHANNELS:
            return channels, unshuffle
    raise FileError(f"a T2I-Adapter that takes {entered} channels", expected="64, 192, 256 or 768")


class ResBlock(nn.Module):
    """block2(relu(block1(x))) + x, x first halved and brought to another width where that is asked."""

    def __init__(self, width: int, out: int, kernel: int, down: bool, strided: bool) -> None:
        super().__init__()
        if down:
            self.down_opt = Downsample(width) if strided else _half()
        if width != out:
            self.in_conv = nn.Conv2d(width, out, 1)
        self.block1 = nn.Conv2d(out, out, 3, padding=1)
        self.block2 = nn.Conv2d(out, out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        for name in ("down_opt", "in_conv"):
            x = getattr(self, name)(x) if hasattr(self, name) else x
        return self.block2(F.relu(self.block1(x))) + x


class LightLevel(nn.Module):
    """Average, in_conv, ResNets at the inner width, out_conv."""

    def __init__(self, width: int, inner: int, out: int, blocks: int, down: bool) -> None:
        super().__init__()
        self.down = _half() if down else nn.Identity()
        self.in_conv = nn.Conv2d(width, inner, 1)
        self.body = nn.Sequential(*(ResBlock(inner, inner, 3, False, False) for _ in range(blocks)))
        self.out_conv = nn.Conv2d(inner, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_conv(self.body(self.in_conv(self.down(x))))


def _half() -> nn.Module:
    """Odd sizes round up, as the UNet's own halving does."""
    return nn.AvgPool2d(2, ceil_mode=True)


class T2IAdapter(nn.Module):
    """[b, channels, H, W] in 0..1 -> a feature map for each level."""

    def __init__(self, config: T2IConfig) -> None:
        super().__init__()
        self.config = c = config
        entered = c.channels * c.unshuffle**2
        before = (entered if c.inner else c.widths[0], *c.widths)
        if not c.inner:
            self.conv_in = nn.Conv2d(entered, c.widths[0], 3, padding=1)
        layers: list[nn.Module] = []
        for i, down in enumerate(c.downs):
            width, out = before[i], c.widths[i]
            if c.inner:
                layers.append(LightLevel(width, c.inner[i], out, c.blocks, down))
                continue
            layers.append(ResBlock(width, out, c.kernel, down, c.strided))
            layers.append(ResBlock(out, out, c.kernel, False, False))
        self.body = nn.ModuleList(layers)

    def forward(self, hint: Tensor) -> list[Tensor]:
        if self.config.channels == 1:
            hint = hint.mean(dim=1, keepdim=True)
        x = F.pixel_unshuffle(hint, self.config.unshuffle)
        x = x if self.config.inner else self.conv_in(x)
        each = 1 if self.config.inner else self.config.blocks
        out = []
        for i, layer in enumerate(self.body):
            x = layer(x)
            if i % each == each - 1:
                out.append(x)
        return out


def placement(adapter: T2IConfig, unet: UNetConfig) -> list[Place]:
    """Where each feature map is added. FileError where the adapter was made for another family.

    At the end of each level's ResNets; SDXL's adapters, a level behind: after the first halving, at the end of the
    second and third level, and at the middle block.
    """
    ends, halvings, n = [], [], 0
    for blocks in unet.num_res_blocks:
        n += blocks
        ends.append(n)
        n += 1
        halvings.append(n)
    numbers = [halvings[0], *ends[1:]] if adapter.large else ends
    places: list[Place] = [("input", number) for number in numbers]
    if adapter.large:
        places.append(("middle", 0))
    skips = unet.skips()
    widths = tuple(skips[number] for _, number in places[: len(numbers)])
    widths += (unet.widths[-1],) if adapter.large else ()
    if widths != adapter.widths:
        raise FileError(
            f"this T2I-Adapter has widths {adapter.widths}",
            expected=f"{widths}",
            todo="it is of another family",
        )
    return places
