"""AutoPipelineFor...: the class of a task for whatever family a repository holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ..core.errors import OptionError
from .base import DiffusionPipeline

_PAG = "enable_pag"


class AutoPipeline(DiffusionPipeline, listed=False):
    """Not made itself: `from_pretrained` and `from_pipe` give the class of this task.

    With `controlnet=` it is the one with controls, with `enable_pag=True` the one with perturbed-attention guidance.

    Attributes:
        task: what the names of its classes have before "Pipeline".
    """

    task: ClassVar[str]

    def __init__(self) -> None:
        raise OptionError(f"{type(self).__name__}()", todo="use its from_pretrained or from_pipe")

    def __init_subclass__(cls, task: str) -> None:
        super().__init_subclass__(listed=False)
        cls.task = task

    @classmethod
    def wanted(cls, index: Mapping[str, Any], path: Path, given: dict[str, Any]) -> type[DiffusionPipeline]:
        """The class of this task for the family that model_index.json names. OptionError for another kind."""
        name = str(index.get("_class_name", ""))
        if not name.startswith("StableDiffusion"):
            raise OptionError(f"_class_name {name!r}", path, "a Stable Diffusion pipeline")
        return cls._kind(name, given.get("controlnet") is not None, given.pop(_PAG, False))

    @classmethod
    def from_pipe(cls, other: DiffusionPipeline, **components: Any) -> Any:
        """The networks of another pipeline for this task: nothing is loaded or copied."""
        name = type(other).__name__
        control = components.get("controlnet", getattr(other, "controlnet", None))
        if control is None:
            components.pop("controlnet", None)
        made = cls._kind(name, control is not None, components.pop(_PAG, "PAG" in name))
        return made.from_pipe(other, **components)

    @classmethod
    def _kind(cls, name: str, control: bool, pag: bool) -> type[DiffusionPipeline]:
        parts = ("XL" * ("XL" in name), "ControlNet" * control, "PAG" * bool(pag), cls.task)
        wanted = f"StableDiffusion{''.join(parts)}Pipeline"
        if wanted not in cls.known:
            raise OptionError(f"no {wanted}", cls.__name__, todo="leave out controlnet or enable_pag")
        return cls.known[wanted]


class AutoPipelineForText2Image(AutoPipeline, task=""):
    """Text to image."""


class AutoPipelineForImage2Image(AutoPipeline, task="Img2Img"):
    """Text and a picture to image."""


class AutoPipelineForInpainting(AutoPipeline, task="Inpaint"):
    """Repaints what a mask shows white."""
