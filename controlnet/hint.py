"""The encoder of a ControlNet's picture: a pyramid of convolutions from pixels to the first feature map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ..core.errors import FileError
from ..core.shapes import Shapes

_NAME = "input_hint_block.{}.weight"


def hint_widths(shapes: Shapes) -> list[int]:
    """Channels before the first, between all and after the last convolution of a file's hint encoder."""
    convolutions = []
    while (found := shapes.get(_NAME.format(2 * len(convolutions)))) is not None:
        convolutions.append(found)
    if not convolutions:
        raise FileError("no hint encoder in it", expected="input_hint_block or controlnet_cond_embedding")
    return [convolutions[0][1], *(shape[0] for shape in convolutions)]


def hint_encoder(widths: Sequence[int]) -> nn.Sequential:
    """3x3 convolutions with SiLU between them; the third, fifth, ... but the last halve the resolution.

    A single convolution takes what already has the latent's size.
    """
    last = len(widths) - 2
    layers: list[nn.Module] = []
    for i, (width, out) in enumerate(pairwise(widths)):
        stride = 2 if i and i % 2 == 0 and i < last else 1
        layers += [nn.Conv2d(width, out, 3, stride=stride, padding=1), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def hint_factor(widths: Sequence[int]) -> int:
    """Pixels of the hint for each pixel of its features: 8 in published files, 1 where it takes latents."""
    return 2 ** max((len(widths) - 3) // 2, 0)
