"""A NOISE source with a generator per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...samplers.noise import SEED_LIMIT, Draw, ImageNoise, noise_kinds
from . import comfy
from .fields import Field
from .function import Seeds
from .node import Node


class PerImageNoise:
    """The host's NOISE: image k of a batch gets what seed + k gives alone, its steps too.

    Attributes:
        seed: for the host an integer; it carries each image's own seed to samplers of ours.
    """

    def __init__(self, seed: int, kind: str) -> None:
        self.first, self.kind = seed, kind
        self.seed = Seeds.of(seed, ())

    def generate_noise(self, input_latent: Mapping[str, Any]) -> Any:
        """Unit noise like the latent, on the CPU; `batch_index` of a latent taken from a batch keeps its seeds."""
        samples = input_latent["samples"]
        seeds = self._seeds(samples.shape[0], input_latent.get("batch_index"))
        self.seed = Seeds.of(self.first, seeds)
        images = ImageNoise(seeds, samples.shape[1:], kind=self.kind, device=_device(self.kind))
        if getattr(samples, "is_nested", False):
            parts = [images.each(_drawing(part.shape[1:])).to(part.dtype).cpu() for part in samples.unbind()]
            return type(samples)(parts)
        return images.next().to(samples.dtype).cpu()

    def _seeds(self, count: int, places: Sequence[int] | None) -> list[int]:
        chosen = range(count) if places is None or len(places) != count else places
        return [(self.first + int(place)) % SEED_LIMIT for place in chosen]


def _drawing(shape: tuple[int, ...]) -> Callable[[Draw], Tensor]:
    return lambda draw: draw(tuple(shape))


def _device(kind: str) -> torch.device | str:
    if kind != "device":
        return "cpu"
    return comfy("model_management").get_torch_device()


class NoiseNode(Node):
    """Start noise image by image."""

    ID, TITLE = "SigmaGraftNoise", "SigmaGraft Noise"
    CATEGORY = "SigmaGraft/noise"
    RETURN_TYPES = ("NOISE",)
    DESCRIPTION = (
        "Image k of a batch gets the noise of seed + k, the same that it gets alone; samplers of SigmaGraft "
        "behind it draw their steps' noise from the same seeds."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        kinds = (
            "cpu: the same everywhere, as web UIs' CPU noise; device: the card's own; nv: an NVIDIA card's"
        )
        return {
            "required": {
                "noise_seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": SEED_LIMIT - 1,
                        "control_after_generate": True,
                        "tooltip": "of the first image",
                    },
                ),
                "kind": (noise_kinds(), {"tooltip": kinds}),
            }
        }

    def make(self, noise_seed: int, kind: str) -> tuple[PerImageNoise]:
        return (PerImageNoise(noise_seed, kind),)
