"""AutoPipelineFor...: the class of a task for whatever family a repository holds."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from ..core.errors import OptionError
from ..standalone.hub import Hub
from ..standalone.source import locate
from .base import DiffusionPipeline, read_index
from .latent import LatentPipeline
from .stable_diffusion import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)


class AutoPipeline:
    """Not made itself: `from_pretrained` and `from_pipe` give the class of this task.

    Attributes:
        classes: (for SD1 and SD2, for SDXL).
    """

    classes: ClassVar[tuple[type[LatentPipeline], type[LatentPipeline]]]

    def __init__(self) -> None:
        raise OptionError(f"{type(self).__name__}()", todo="use its from_pretrained or from_pipe")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **given: Any
    ) -> LatentPipeline:
        """As DiffusionPipeline.from_pretrained, for this task. OptionError for a repository of another kind."""
        source = os.fspath(pretrained_model_name_or_path)
        hub = Hub(given.get("revision"), given.get("token"), given.get("local_files_only") or None)
        path = locate(source, None, given.get("variant"), hub)
        name = str(read_index(path).get("_class_name", ""))
        if not name.startswith("StableDiffusion"):
            raise OptionError(f"_class_name {name!r}", path, "a Stable Diffusion pipeline")
        return cls.of("XL" in name).from_pretrained(source, **given)

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **components: Any) -> LatentPipeline:
        """The networks of another pipeline for this task: nothing is loaded or copied."""
        return cls.of("XL" in type(pipeline).__name__).from_pipe(pipeline, **components)

    @classmethod
    def of(cls, xl: bool) -> type[LatentPipeline]:
        """The class of this task."""
        return cls.classes[xl]


class AutoPipelineForText2Image(AutoPipeline):
    """Text to image."""

    classes = (StableDiffusionPipeline, StableDiffusionXLPipeline)


class AutoPipelineForImage2Image(AutoPipeline):
    """Text and a picture to image."""

    classes = (StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline)


class AutoPipelineForInpainting(AutoPipeline):
    """Repaints what a mask shows white."""

    classes = (StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline)
