"""ControlNet-LLLite: small networks that shift what the UNet's attention projects (kohya-ss, sd-scripts).

For a projection of x: c = conditioning1(hint), y = W (x + strength up(relu(mid(cat[c, relu(down(x))])))). Names are the
files' without `lllite_unet_`; the hint is RGB in -1..1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.errors import FileError
from ..core.patch import Attention, Block
from ..core.shapes import Shapes

PREFIX = "lllite_unet_"
_PLACE = re.compile(
    r"(?:(input|output)_blocks_(\d+)|(middle)_block)_1_transformer_blocks_(\d+)_(attn[12])_to_([qkv])"
)
Projection = Literal["q", "k", "v"]


@dataclass(frozen=True)
class Place:
    """Which projection a module shifts."""

    block: Block
    index: int
    attention: Attention
    projection: Projection


def place_of(name: str) -> Place:
    """`input_blocks_4_1_transformer_blocks_0_attn1_to_q` as a place. FileError for what is no projection."""
    found = _PLACE.fullmatch(name)
    if found is None:
        raise FileError(
            f"LLLite module {name!r}", expected="projections q, k and v of attention", todo="not supported"
        )
    side, number, middle, index, attention, projection = found.groups()
    block: Block = ("middle", 0) if middle else (side, int(number))  # type: ignore[assignment]
    return Place(block, int(index), attention, projection)  # type: ignore[arg-type]


class Module(nn.Module):
    """One projection's network, sizes from the shapes of its tensors; convolutions stride by their kernel's size."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        while (found := shapes.get(f"conditioning1.{len(convolutions)}.weight")) is not None:
            out, width, kernel, _ = found
            convolutions += [nn.Conv2d(width, out, kernel, stride=kernel), nn.ReLU()]
        self.conditioning1 = nn.Sequential(*convolutions[:-1])
        sizes = [shapes[f"{name}.0.weight"] for name in ("down", "mid", "up")]
        down, mid, up = (nn.Linear(size[1], size[0]) for size in sizes)
        self.down, self.mid, self.up = (
            nn.Sequential(down, nn.ReLU()),
            nn.Sequential(mid, nn.ReLU()),
            nn.Sequential(up),
        )

    def condition(self, hint: Tensor) -> Tensor:
        """The hint [b, 3, H, W] as tokens [b, n, width], the same in every step."""
        return self.conditioning1(hint).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """The shift of tokens x [b, n, channels]."""
        return self.up(self.mid(torch.cat([condition, self.down(x)], dim=2)))


class LLLite(nn.Module):
    """All modules of a file, by place."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        names = dict.fromkeys(name.split(".")[0] for name in shapes)
        self.places = {name: place_of(name) for name in names}
        for name in names:
            self.add_module(name, Module(_under(shapes, name)))

    def part(self, name: str) -> Module:
        """The module of this name."""
        return self._modules[name]  # type: ignore[return-value]

    def stride(self, name: str) -> int:
        """Pixels of the hint for each token of a module's grid, along a side."""
        stride = 1
        for layer in self.part(name).conditioning1:
            stride *= layer.stride[0] if isinstance(layer, nn.Conv2d) else 1
        return stride


def _under(shapes: Shapes, name: str) -> Mapping[str, tuple[int, ...]]:
    start = f"{name}."
    return {key.removeprefix(start): shape for key, shape in shapes.items() if key.startswith(start)}
