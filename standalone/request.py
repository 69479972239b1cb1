"""Everything one call of the pipeline was asked for, checked before anything runs."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..controlnet.settings import Control
from ..core.errors import OptionError, nearest
from ..samplers.foreign import find_method
from .auto import take_auto
from .control_text import read_controls, recorded
from .guidance_weight import check_guidance, split
from .ip_adapter_text import read_requests
from .kinds import check_kinds
from .like import filled
from .lora_prompt import tags, wanted
from .model import ModelInfo
from .noise_settings import OPTIONAL as NOISE
from .noise_settings import check_noise
from .own_levels import take_own_levels
from .size_settings import SETTINGS as SIZES
from .size_settings import check_sizes
from .steps import check_lists

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image
    from torch import Tensor

    from ..guidance import Chosen

MAX_STEPS = 1000
MAX_SIDE = 16384
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class SecondPass:
    """What a run goes on from: finished latents [b, z, h, w] of a first one that took `before` steps."""

    latents: Tensor
    before: int


@dataclass(kw_only=True)
class Request:
    """Settings of one run; see ``Pipeline.__call__`` for their meaning."""

    prompt: str | list[str]
    negative: str | list[str] = ""
    size: tuple[int, int] | None = None  # width, height
    steps: int | None = None  # 20, or those of the list
    guidance: str | list[str] = "cfg"  # or cfg++, and others of GUIDANCES
    cfg: float | None = None  # what is usual for the guidance
    cfg_rescale: float = 0.0
    cfg_interval: str | None = None
    sampler: str | Callable[..., Any] = "dpmpp_2m"
    schedule: str | None = None  # the sampler's own
    schedule_options: dict[str, Any] | None = None
    sigmas: Sequence[float] | None = None  # instead of a schedule
    timesteps: Sequence[float] | None = None  # the same, as the network is told them
    options: dict[str, Any] | None = None
    seed: int | list[int] | None = None
    loras: list[str] | None = None  # expressions as in <lora:...>, beside those of the prompt
    ip_adapter: Any = None  # image prompts, see ip_adapter_text.py
    control: Any = None  # ControlNets and their kin, see control_text.py
    batch: int = 1
    image: Image.Image | None = None
    mask: Image.Image | None = None
    strength: float = 0.75
    mask_blur: float = 4.0
    soft: bool = False  # the mask's grey says how much is repainted
    only_masked: int | None = None
    clip_skip: int | None = None
    original_size: tuple[int, int] | None = None  # SDXL's: of the picture it should look like, width, height
    crop: tuple[int, int] | None = None  # left, top
    target_size: tuple[int, int] | None = None
    aesthetic_score: float | None = None
    emphasis: str = "a1111"
    noise: str = "cpu"
    step_noise: str | None = None  # as `noise`
    noise_type: str | None = None  # the sampler's own
    ensd: int = 0  # added to the seeds of the steps' noise (A1111's "eta noise seed delta")
    hires: Any = None  # a second pass, see hires.py
    refiner: Any = None  # a Pipeline, or what to load it from, that takes over after `switch` of the steps
    switch: float = 0.8
    like: str | None = None  # the system whose ways fill in what is not given, see like.py
    width: int = field(init=False, default=0)
    height: int = field(init=False, default=0)
    seeds: list[int] = field(init=False, default_factory=list)
    controls: list[Control] = field(init=False, default_factory=list)
    second: SecondPass | None = field(init=False, default=None)
    part: str = field(init=False, default="")  # base or hires, of a run in two passes

    @classmethod
    def of(cls, prompt: str | list[str], settings: dict[str, Any]) -> Request:
        """A request from keyword arguments; OptionError with the nearest name for one that is not a setting."""
        check_kinds({"prompt": prompt, **settings}, OPTIONAL)
        settings = filled(settings)
        known = [f.name for f in fields(cls) if f.init and f.name != "prompt"]
        for name in settings:
            if name not in known:
                raise OptionError(f"unknown setting {name!r}", todo=nearest(name, known))
        return cls(prompt=prompt, **settings)

    def resolve(self, info: ModelInfo, factor: int) -> None:
        """Fills in what was left to the model and to chance; OptionError for a value that cannot work."""
        if isinstance(self.prompt, list) and not self.prompt:
            raise OptionError("an empty list of prompts", expected="at least one prompt")
        self.batch = max(self.batch, len(self.prompt)) if isinstance(self.prompt, list) else self.batch
        if self.steps is not None:
            _within("steps", self.steps, 1, MAX_STEPS)
        check_lists(self)
        take_auto(self, info)
        take_own_levels(self)
        wanted([*(self.loras or ()), *(tag for prompt in self.prompts() for tag in tags(prompt))])
        check_noise(vars(self), find_method(self.sampler), self.options)
        check_sizes(self, info)
        _within("batch", self.batch, 1, 4096)
        self.ip_adapter = read_requests(self.ip_adapter, self.batch)
        self.controls = read_controls(self.control)
        _within("ensd", self.ensd, 0, MAX_SEED)
        _within("cfg_rescale", self.cfg_rescale, 0.0, 1.0)
        self.cfg = check_guidance(self.guidance, self.cfg, self.cfg_interval)
        _within("mask_blur", self.mask_blur, 0.0, 256.0)
        _within("clip_skip", self.clip_skip or 1, 1, 32)
        _within("switch", self.switch, 0.0, 1.0)
        self._resolve_image()
        self.size = _size(self.size or self._native(info, factor), factor)
        self.width, self.height = self.size
        self.seeds = _seeds(self.seed, self.batch)

    def _resolve_image(self) -> None:
        if self.hires is not None and self.image is not None:
            raise OptionError("hires with an image", todo="redraw the image at the larger size instead")
        if self.image is None:
            if self.mask is not None:
                raise OptionError("a mask without an image", todo="give the image to repaint as well")
            return
        if not 0.0 < self.strength <= 1.0:
            raise OptionError(f"strength {self.strength}", expected="above 0 and at most 1")
        if self.mask is not None and self.mask.size != self.image.size:
            raise OptionError(
                "the mask is {}x{}, the image {}x{}".format(*self.mask.size, *self.image.size),
                expected="a mask of the image's size",
                todo="resize one of them",
            )

    def _native(self, info: ModelInfo, factor: int) -> tuple[int, int]:
        """The image's size, in whole latent pixels; without an image the size the model was trained at."""
        if self.image is None or self.only_masked is not None:
            return info.native_size, info.native_size
        width, height = self.image.size
        return max(width // factor, 1) * factor, max(height // factor, 1) * factor

    @property
    def redraws(self) -> bool:
        """Whether it starts from a picture, not from noise alone."""
        return self.image is not None or self.second is not None

    @property
    def base(self) -> str:
        """How the prompt pulls: cfg or cfg++."""
        return split(self.guidance)[0]

    @property
    def kin(self) -> list[Chosen]:
        """What changes that."""
        return split(self.guidance)[1]

    def prompts(self) -> list[str]:
        """One prompt for each image of the batch."""
        return _each(self.prompt, self.batch, "prompts")

    def negatives(self) -> list[str]:
        """One negative prompt for each image of the batch."""
        return _each(self.negative, self.batch, "negative prompts")

    def settings(self) -> dict[str, Any]:
        """What makes the same pictures again, as JSON-able values (the image and mask themselves left out)."""
        names = "prompt negative size steps cfg cfg_rescale schedule options batch clip_skip emphasis noise"
        settings = {name: getattr(self, name) for name in names.split()}
        settings["sampler"] = find_method(self.sampler).name
        said = [*([] if self.base == "cfg" else [self.base]), *(chosen.text for chosen in self.kin)]
        settings |= {"guidance": said if len(said) > 1 else said[0]} if said else {}
        if self.cfg_interval is not None:
            settings["cfg_interval"] = self.cfg_interval
        optional = ("loras", "schedule_options", "sigmas", "timesteps", "like", *NOISE, *SIZES)
        settings |= {name: getattr(self, name) for name in optional if getattr(self, name) is not None}
        settings |= {"ensd": self.ensd} if self.ensd else {}
        settings["seed"] = self.seeds[0] if self.seeds == _seeds(self.seeds[0], self.batch) else self.seeds
        if self.controls:
            settings["control"] = recorded(self.control)
        if self.ip_adapter:
            settings["ip_adapter"] = [one.recorded for one in self.ip_adapter]
        if self.image is not None:
            settings["strength"] = self.strength
        if self.hires is not None:
            settings["hires"] = self.hires
        if self.refiner is not None:
            source = self.refiner if isinstance(self.refiner, str) else self.refiner.model.source
            settings |= {"refiner": source, "switch": self.switch}
        if self.soft:
            settings["soft"] = True
        if self.mask is not None:
            settings |= {"mask_blur": self.mask_blur, "only_masked": self.only_masked}
        return settings


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not low <= value <= high or math.isnan(value):
        raise OptionError(f"{name} {value}", expected=f"{low} to {high}")


def _size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    for side in size:
        if side % factor or not factor <= side <= MAX_SIDE:
            near = min(max(round(side / factor), 1) * factor, MAX_SIDE)
            raise OptionError(
                "size {}x{}".format(*size),
                expected=f"multiples of {factor} from {factor} to {MAX_SIDE}",
                todo=f"{near} is the nearest to {side}",
            )
    return size


def _seeds(seed: int | list[int] | None, batch: int) -> list[int]:
    """One seed an image: a single seed counts up; a list must have one for each image."""
    if isinstance(seed, list):
        if len(seed) != batch:
            raise OptionError(
                f"{len(seed)} seeds for {batch} images", expected="one seed an image, or a single one"
            )
        seeds = seed
    else:
        first = secrets.randbelow(2**32) if seed is None else seed
        seeds = [first + k for k in range(batch)]
    for value in seeds:
        _within("seed", value, 0, MAX_SEED)
    return seeds


def _each(value: str | list[str], batch: int, what: str) -> list[str]:
    if isinstance(value, str):
        return [value] * batch
    if len(value) == 1:
        return value * batch
    if len(value) != batch:
        raise OptionError(
            f"{len(value)} {what} for {batch} images", expected=f"one, or one for each of the {batch}"
        )
    return list(value)


# settings that may be left to chance or to the model
OPTIONAL = tuple(each.name for each in fields(Request) if each.default is None)
