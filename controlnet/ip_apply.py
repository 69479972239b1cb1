"""An image prompt on a UNet: the images' features, the tokens of both halves, and the attention patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import OptionError
from ..core.patch import AttentionPatch, StepInfo
from ..core.unet_config import UNetConfig
from .ip_adapter import IPAdapter
from .ip_attention import ImageTerm, Tokens, Weight
from .ip_features import Features, joined
from .ip_file import IPAdapterFile, unnormalised
from .ip_image import tiles
from .ip_places import places
from .ip_settings import ImagePrompt
from .ip_weights import Gain, by_hand, gains
from .strength import Timeline, acts

# (pictures, which features of them, where a square is cut) -> the features
Encode = Callable[[Sequence[Image.Image], Sequence[str], str], Features]
NOTHING = Gain(0.0)


@dataclass(frozen=True)
class ImageAdapter:
    """One image prompt (or one tile of it) in one run: the attention patches of all layers it acts on."""

    weights: IPAdapter
    config: UNetConfig
    timeline: Timeline
    prompt: ImagePrompt
    tokens: Tokens
    mask: Tensor | None

    def active(self, info: StepInfo) -> bool:
        """Whether any of the patches adds anything in this evaluation."""
        return acts(self.prompt, self.timeline, info.sigma)

    def patches(self) -> list[AttentionPatch]:
        """A term for each cross-attention whose weight is not 0."""
        shares = shares_of(self.config, self.prompt)
        return [
            AttentionPatch(place.block, place.index, "attn2", self._term(place.number, place.channels, gain))
            for place in places(self.config)
            if (gain := shares.get(place.transformer, NOTHING)).value
        ]

    def _term(self, number: int, channels: int, gain: Gain) -> ImageTerm:
        prompt, heads = self.prompt, self.config.heads(channels)
        many = len(prompt.weights) > 1
        weight: Weight = torch.tensor(prompt.weights)[:, None, None] if many else float(prompt.weights[0])
        return ImageTerm(
            *self.weights.matrices(number),
            heads,
            self.tokens,
            weight,
            gain,
            prompt.scaling,
            self.mask,
            self.active,
        )


def image_adapters(
    weights: IPAdapter, config: UNetConfig, timeline: Timeline, prompt: ImagePrompt, encode: Encode
) -> list[ImageAdapter]:
    """The prompt on a UNet and a walk: one adapter for each part of the image that acts in a place of its own.

    `encode` is asked for what the adapter needs and the prompt lacks. OptionError where they do not go together.
    """
    weights.check(config)
    shares_of(config, prompt)
    if not any(prompt.weights):
        return []  # neither is a picture encoded
    negative = _negative(weights.file, prompt, encode)
    return [
        ImageAdapter(weights, config, timeline, prompt, _tokens(weights, prompt, features, negative), mask)
        for features, mask in _pieces(weights.file, prompt, encode)
    ]


def shares_of(config: UNetConfig, prompt: ImagePrompt) -> dict[int, Gain]:
    """Transformer -> what its weight is multiplied with."""
    if prompt.layers is not None:
        return by_hand(config, prompt.layers)
    if prompt.composition is None:
        return gains(config, prompt.weight_type)
    if len(prompt.weights) > 1 or not prompt.weights[0]:
        raise OptionError("a weight of the composition", expected="beside one other weight that is not 0")
    return gains(config, prompt.weight_type, prompt.composition / prompt.weights[0])


def _tokens(weights: IPAdapter, prompt: ImagePrompt, features: Features, negative: Features | None) -> Tokens:
    uncond = _no_image(weights.file, features) if negative is None else negative
    each = prompt.each and len(uncond) > 1
    return Tokens(
        weights.tokens(features, prompt.combine, prompt.each, prompt.face_strength),
        weights.tokens(uncond, prompt.combine, each, prompt.face_strength),
    )


def _pieces(file: IPAdapterFile, prompt: ImagePrompt, encode: Encode) -> list[tuple[Features, Tensor | None]]:
    """Features and where they act [1, h, w]: all of them everywhere, or each tile in its place."""
    mask = None if prompt.mask is None else _mask(prompt.mask)
    if not prompt.tiled:
        return [(_features(file, prompt, encode), mask)]
    pieces: list[tuple[Features, Tensor | None]] = []
    for tile, cover in (piece for image in prompt.images for piece in tiles(image)):
        where = cover[None] if mask is None else cover[None] * _resized(mask, *cover.shape)
        pieces.append((_features(file, replace(prompt, images=[tile]), encode), where))
    return pieces


def _features(file: IPAdapterFile, prompt: ImagePrompt, encode: Encode) -> Features:
    """What the projection takes of the prompt's pictures; of a face also the embedding, by insightface."""
    images, face, found = prompt.images, prompt.face, prompt.features
    if face is not None and "face" not in file.inputs:
        raise OptionError(f"a face's embedding for {file.variant.label}, which takes none", file.source)
    if "face" in file.inputs and face is None and (found is None or found.face is None):
        from .ip_face import faces

        if not len(images):
            raise OptionError(
                f"{file.variant.label} without a face", file.source, "a picture or an embedding"
            )
        face, images = faces(images, 224 if file.width == 768 else 256, not unnormalised(file))
    if found is None:
        found = _encoded(file, images, encode, prompt.crop)
    return found if face is None else replace(found, face=face)


def _encoded(file: IPAdapterFile, images: Sequence[Image.Image], encode: Encode, crop: str) -> Features:
    wanted = [name for name in file.inputs if name != "face"]
    if not wanted:
        return Features()
    if not len(images):
        raise OptionError(
            f"{file.variant.label} without a picture", file.source, "one beside the face's embedding"
        )
    return encode(images, wanted, crop)


def _negative(file: IPAdapterFile, prompt: ImagePrompt, encode: Encode) -> Features | None:
    """What the negative half sees where pictures or features were given for it; faces have no negative."""
    if prompt.negative_features is not None or not len(prompt.negative):
        return prompt.negative_features
    if "face" in file.inputs:
        raise OptionError(
            f"a negative image with {file.variant.label}", file.source, "negative features, or none"
        )
    return joined([encode([image], file.inputs, prompt.crop) for image in prompt.negative])


def _no_image(file: IPAdapterFile, features: Features) -> Features:
    found = features.without_image()
    if "hidden" in file.inputs and found.hidden is None:
        raise OptionError(
            "these features lack the hidden states of a grey picture, which stand for no image",
            file.source,
            todo="save them with this package, or give negative features",
        )
    return found


def _mask(image: Image.Image) -> Tensor:
    """[1, h, w] in 0..1."""
    return torch.from_numpy(np.asarray(image.convert("L"), np.float32) / 255)[None]


def _resized(mask: Tensor, height: int, width: int) -> Tensor:
    return F.adaptive_avg_pool2d(mask, (height, width))
