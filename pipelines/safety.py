"""The safety checker that SD1's repositories ship: pictures near unwanted concepts are blacked out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from ..controlnet.clip_vision import ImageEncoder
from ..core.checkpoint import open_weights
from ..core.entry import Pages
from ..core.errors import FileError
from ..standalone.folder import pick_weights

log = logging.getLogger("sigmagraft")
CONCEPTS = ("concept_embeds", "concept_embeds_weights", "special_care_embeds", "special_care_embeds_weights")
CAUTION = 0.01  # subtracted from every concept's threshold where a special-care concept is near


class StableDiffusionSafetyChecker(nn.Module):
    """CLIP's picture vector against vectors of concepts: unsafe where a cosine exceeds its concept's threshold."""

    concept_embeds: Tensor
    concept_embeds_weights: Tensor
    special_care_embeds: Tensor
    special_care_embeds_weights: Tensor

    def __init__(self, encoder: ImageEncoder, concepts: dict[str, Tensor], source: Path) -> None:
        super().__init__()
        self.encoder, self.network, self.source = encoder, encoder.network, source
        for name in CONCEPTS:
            self.register_buffer(name, concepts[name].float())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> StableDiffusionSafetyChecker:
        """From a repository's safety_checker/ folder. FileError where it is none."""
        path = Path(folder)
        chosen = pick_weights([file.name for file in path.iterdir()])
        if chosen is None:
            raise FileError("no weights", path, "a safety_checker folder")
        entries = open_weights(path / chosen)
        missing = [name for name in CONCEPTS if name not in entries]
        if missing:
            raise FileError(f"no {missing[0]}", path / chosen, "a safety checker")
        pages = Pages()
        return cls(ImageEncoder.load(path), {name: pages.tensor(entries[name]) for name in CONCEPTS}, path)

    def unsafe(self, images: Sequence[Image.Image]) -> list[bool]:
        """Whether each picture is near a concept."""
        vectors = self.encoder.encode(images, ("pooled",)).pooled
        assert vectors is not None
        vectors = vectors.to(self.concept_embeds.device)  # where the buffers are, which came with the network
        special = _exceeds(vectors, self.special_care_embeds, self.special_care_embeds_weights, 0.0)
        caution = special.any(dim=1, keepdim=True).float() * CAUTION
        return (
            _exceeds(vectors, self.concept_embeds, self.concept_embeds_weights, caution).any(dim=1).tolist()
        )

    def checked(self, images: Any) -> tuple[Any, list[bool]]:
        """Pictures of any output type with the unsafe ones black, and which they are."""
        found = self.unsafe(images if isinstance(images, list) else _as_pil(images))
        if any(found):
            log.warning("%d of %d pictures may be unsafe and are black", sum(found), len(found))
        if isinstance(images, list):
            return [
                Image.new("RGB", i.size) if bad else i for i, bad in zip(images, found, strict=True)
            ], found
        for number, bad in enumerate(found):
            if bad:
                images[number] = 0
        return images, found


def _exceeds(vectors: Tensor, concepts: Tensor, thresholds: Tensor, caution: Tensor | float) -> Tensor:
    cosine = nn.functional.normalize(vectors) @ nn.functional.normalize(concepts.to(vectors)).T
    return (cosine - thresholds.to(vectors) + caution).mul(1000).round() > 0


def _as_pil(images: Any) -> list[Image.Image]:
    array = images.permute(0, 2, 3, 1).cpu().float().numpy() if isinstance(images, Tensor) else images
    return [Image.fromarray(np.uint8(np.round(one * 255))) for one in array]
