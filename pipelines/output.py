"""What calls give back: fields by name, by number, and as a tuple."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass
class Output:
    """Base: `out.sample`, `out["sample"]` and `out[0]` are one; unpacks as a tuple."""

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None."""
        return tuple(value for field in fields(self) if (value := getattr(self, field.name)) is not None)

    def __getitem__(self, key: str | int | slice) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.to_tuple())


@dataclass
class ModelOutput(Output):
    """A network's answer."""

    sample: Tensor


@dataclass
class ImagePipelineOutput(Output):
    """Finished pictures: PIL images, an array [b, H, W, 3] in [0, 1], a tensor [b, 3, H, W], or latents."""

    images: Any


@dataclass
class StableDiffusionPipelineOutput(ImagePipelineOutput):
    """Finished pictures, and for each whether the safety checker found it unsafe (None without a checker)."""

    nsfw_content_detected: list[bool] | None = None
