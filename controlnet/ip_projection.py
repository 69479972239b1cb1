"""From image features to the tokens that cross-attention reads; attribute names are the checkpoints'.

Every projection takes the features its `inputs` name, in that order, and answers tokens [n, tokens, width].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..core.shapes import Shapes
from .ip_resampler import Perceiver, perceiver_sizes


class Projection(nn.Module):
    """What all have in common. `inputs` are among pooled [n, d], hidden [n, t, d] and face [n, d]."""

    inputs: tuple[str, ...] = ()
    width: int
    features: int  # channels of the first input

    @classmethod
    def of(cls, shapes: Shapes) -> Projection:
        """A network of the sizes in a state dict's shapes."""
        raise NotImplementedError


class LinearProjection(Projection):
    """LayerNorm(reshape(Linear(pooled))): base, light, SDXL."""

    inputs = ("pooled",)

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.width, self.features = width, features
        self.proj = nn.Linear(features, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.norm(self.proj(pooled).unflatten(-1, (-1, self.width)))

    @classmethod
    def of(cls, shapes: Shapes) -> LinearProjection:
        (out, features), (width,) = shapes["proj.weight"], shapes["norm.weight"]
        return cls(features, out // width, width)


class PatchProjection(Projection):
    """LayerNorm(Linear(gelu(Linear(hidden)))), one token a patch: full-face."""

    inputs = ("hidden",)

    def __init__(self, features: int, inner: int, width: int) -> None:
        super().__init__()
        self.width, self.features = width, features
        self.proj = nn.Sequential(
            nn.Linear(features, inner), nn.GELU(), nn.Linear(inner, width), nn.LayerNorm(width)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return self.proj(hidden)

    @classmethod
    def of(cls, shapes: Shapes) -> PatchProjection:
        inner, features = shapes["proj.0.weight"]
        return cls(features, inner, shapes["proj.2.weight"][0])


class Resampler(Perceiver, Projection):
    """Learned latents refined by the patches' features: plus, plus-face, composition."""

    inputs = ("hidden",)

    def __init__(self, tokens: int, *sizes: int) -> None:
        super().__init__(*sizes)
        self.features, self.width = sizes[0], sizes[2]
        self.latents = nn.Parameter(torch.zeros(1, tokens, sizes[1]))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.refine(self.latents.expand(len(hidden), -1, -1), hidden)

    @classmethod
    def of(cls, shapes: Shapes) -> Resampler:
        return cls(shapes["latents"][1], *perceiver_sizes(shapes))


class FaceResampler(Resampler):
    """The same over one unnormalised face embedding: FaceID portrait unnorm."""

    inputs = ("face",)

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden[:, None])  # the one face as a sequence of one patch


class FaceProjection(Projection):
    """LayerNorm(reshape(Linear(gelu(Linear(face))))): FaceID and its portrait models."""

    inputs = ("face",)

    def __init__(self, features: int, inner: int, tokens: int, width: int) -> None:
        super().__init__()
        self.width, self.features = width, features
        self.proj = nn.Sequential(nn.Linear(features, inner), nn.GELU(), nn.Linear(inner, tokens * width))
        self.norm = nn.LayerNorm(width)

    def forward(self, *features: Tensor) -> Tensor:
        return self.norm(self.proj(features[0]).unflatten(-1, (-1, self.width)))

    @classmethod
    def sizes(cls, shapes: Shapes) -> tuple[int, int, int, int]:
        """(features, inner, tokens, width)."""
        (inner, features), (width,) = shapes["proj.0.weight"], shapes["norm.weight"]
        return features, inner, shapes["proj.2.weight"][0] // width, width

    @classmethod
    def of(cls, shapes: Shapes) -> FaceProjection:
        return cls(*cls.sizes(shapes))


class FacePlusProjection(FaceProjection):
    """FaceID's tokens as the latents of a perceiver over the face's picture: tokens shortcut + strength perceiver.

    The first version answers the perceiver's output alone (shortcut 0, strength 1), the second adds it to the
    tokens. Both have the same tensors, so `version` must be told.
    """

    inputs = ("face", "hidden")

    def __init__(self, perceiver: tuple[int, ...], *sizes: int) -> None:
        super().__init__(*sizes)
        self.perceiver_resampler = Perceiver(*perceiver)
        self.version, self.strength = 1, 1.0

    def forward(self, *features: Tensor) -> Tensor:
        tokens = super().forward(features[0])
        refined = self.perceiver_resampler.refine(tokens, features[1])
        return refined if self.version == 1 else tokens + self.strength * refined

    @classmethod
    def of(cls, shapes: Shapes) -> FacePlusProjection:
        return cls(perceiver_sizes(shapes, "perceiver_resampler."), *cls.sizes(shapes))


class Variant(NamedTuple):
    """A kind of projection and the condition on names and shapes (without their prefix) that recognises it."""

    name: str
    label: str
    network: type[Projection]
    test: Callable[[Shapes], bool]


FACE = 512  # channels of an ArcFace embedding, which no image encoder here has
VARIANTS = (
    Variant("base", "IP-Adapter", LinearProjection, lambda s: "proj.weight" in s),
    Variant(
        "faceid-unnorm",
        "IP-Adapter FaceID portrait unnorm",
        FaceResampler,
        lambda s: "latents" in s and s["proj_in.weight"][1] == FACE,
    ),
    Variant("plus", "IP-Adapter plus", Resampler, lambda s: "latents" in s),
    Variant("full", "IP-Adapter full-face", PatchProjection, lambda s: "proj.3.weight" in s),
    Variant(
        "faceid-plus",
        "IP-Adapter FaceID plus",
        FacePlusProjection,
        lambda s: "perceiver_resampler.proj_in.weight" in s,
    ),
    Variant(
        "faceid", "IP-Adapter FaceID", FaceProjection, lambda s: "proj.2.weight" in s and "norm.weight" in s
    ),
)


def variant_of(shapes: Shapes) -> Variant | None:
    """The kind of projection with these tensors; None where nobody knows it."""
    return next((variant for variant in VARIANTS if variant.test(shapes)), None)
