"""AutoPipelineFor...: the class of a task for whatever family a repository holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ..core.errors import OptionError
from .base import DiffusionPipeline
from .latent import LatentPipeline
from .stable_diffusion import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)


class AutoPipeline(DiffusionPipeline, listed=False):
    """Not made itself: `from_pretrained` and `from_pipe` give the class of this task.

    Attributes:
        kinds: (for SD1 and SD2, for SDXL).
    """

    kinds: ClassVar[tuple[type[LatentPipeline], type[LatentPipeline]]]

    def __init__(self) -> None:
        raise OptionError(f"{type(self).__name__}()", todo="use its from_pretrained or from_pipe")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__(listed=False)

    @classmethod
    def wanted(cls, index: Mapping[str, Any], path: Path) -> type[DiffusionPipeline]:
        """The class of this task for the family that model_index.json names. OptionError for another kind."""
        name = str(index.get("_class_name", ""))
        if not name.startswith("StableDiffusion"):
            raise OptionError(f"_class_name {name!r}", path, "a Stable Diffusion pipeline")
        return cls.kinds["XL" in name]

    @classmethod
    def from_pipe(cls, other: DiffusionPipeline, **components: Any) -> Any:
        """The networks of another pipeline for this task: nothing is loaded or copied."""
        return cls.kinds["XL" in type(other).__name__].from_pipe(other, **components)


class AutoPipelineForText2Image(AutoPipeline):
    """Text to image."""

    kinds = (StableDiffusionPipeline, StableDiffusionXLPipeline)


class AutoPipelineForImage2Image(AutoPipeline):
    """Text and a picture to image."""

    kinds = (StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline)


class AutoPipelineForInpainting(AutoPipeline):
    """Repaints what a mask shows white."""

    kinds = (StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline)
