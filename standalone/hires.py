"""Hires fix: a picture drawn small, enlarged, and redrawn in part at its final size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import OptionError, nearest
from . import latents
from .request import MAX_STEPS, Request, SecondPass
from .run import Result, Run
from .upscalers import UPSCALERS, find_upscaler

if TYPE_CHECKING:
    from .pipeline import Pipeline

# what the second pass has of its own, else as the first
OWN = ("steps", "strength", "sampler", "options", "schedule", "cfg", "guidance", "prompt", "negative")


@dataclass(frozen=True)
class Hires:
    """A second pass: how large, by which upscaler, and what is other than in the first."""

    scale: float = 2.0
    size: tuple[int, int] | None = None  # instead of `scale`
    upscaler: str = "latent"
    strength: float = 0.7
    steps: int | None = None
    sampler: Any = None
    options: dict[str, Any] | None = None
    schedule: str | None = None
    cfg: float | None = None
    guidance: str | list[str] | None = None
    prompt: str | list[str] | None = None
    negative: str | list[str] | None = None

    @classmethod
    def read(cls, value: Any) -> Hires:
        """A table of settings, or only the scale. OptionError for what cannot work."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = {"scale": value}
        if not isinstance(value, Mapping):
            raise OptionError(f"hires {value!r:.80}", expected="a scale, or a dictionary of settings")
        known = [field.name for field in fields(cls)]
        for name in value:
            if name not in known:
                raise OptionError(f"unknown setting {name!r}", "hires", todo=nearest(str(name), known))
        made = cls(**value)
        made._check()
        return made

    def _check(self) -> None:
        find_upscaler(self.upscaler)
        for name, low, high in (("scale", 1.0, 8.0), ("strength", 0.0, 1.0)):
            given = getattr(self, name)
            if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
                raise OptionError(f"{name} {given!r}", "hires", f"{low:g} to {high:g}")
        if self.steps is not None and (isinstance(self.steps, bool) or not 1 <= self.steps <= MAX_STEPS):
            raise OptionError(f"steps {self.steps!r}", "hires", f"1 to {MAX_STEPS}")
        if self.strength == 0.0:
            raise OptionError("strength 0", "hires", "above 0", "leave hires out")

    def target(self, size: tuple[int, int], factor: int) -> tuple[int, int]:
        """(width, height) in whole latent pixels, each side that of the first pass or more."""
        if self.size is not None:
            width, height = self.size
        else:
            width, height = (round(side * self.scale / factor) * factor for side in size)
        if width < size[0] or height < size[1]:
            raise OptionError(
                f"size {width}x{height}", "hires", "no smaller than the first pass, {}x{}".format(*size)
            )
        return width, height


def hires(
    pipe: Pipeline,
    request: Request,
    callback: Callable[[Any], None] | None,
    decoded: Callable[[int], None] | None,
) -> Result:
    """The result of both passes of a resolved request."""
    own = Hires.read(request.hires)
    first = _resolved(pipe, replace(request, hires=None, seed=request.seeds))
    target = own.target((first.width, first.height), pipe.model.vae.factor)
    second = _second(pipe, own, first, target)
    first.part, second.part = "base", "hires"
    run = Run(pipe, first)
    small = run.sample(callback)
    second.steps = own.steps or first.steps
    second.second = SecondPass(enlarged(pipe, small, own.upscaler, target), len(run.sigmas) - 1)
    result = Run(pipe, second).result(callback, decoded)
    settings = {**result.settings, **request.settings(), "steps": first.steps, "schedule": first.schedule}
    return replace(result, settings=settings)


def _second(pipe: Pipeline, own: Hires, first: Request, size: tuple[int, int]) -> Request:
    """The second pass: as the first in all that is not its own, checked before anything is drawn."""
    changed = {name: value for name in OWN if (value := getattr(own, name)) is not None}
    if own.sampler is not None:
        # they were the other sampler's
        changed = {"options": None, "schedule": None, "schedule_options": None, **changed}
    return _resolved(pipe, replace(first, size=size, sigmas=None, timesteps=None, **changed))


def _resolved(pipe: Pipeline, request: Request) -> Request:
    request.resolve(pipe.info, pipe.model.vae.factor)
    return request


def enlarged(pipe: Pipeline, x: Tensor, upscaler: str, size: tuple[int, int]) -> Tensor:
    """Latents of pictures of this size (width, height): interpolated, or decoded, enlarged and encoded again."""
    row, factor = UPSCALERS[upscaler], pipe.model.vae.factor
    if row.latents is not None:
        return row.latents(x, (size[1] // factor, size[0] // factor))
    assert row.pixels is not None
    pictures = [row.pixels(image, size) for image in latents.decode(pipe.model, x)]
    encoded = [latents.encode(pipe.model, latents.to_tensor(picture)) for picture in pictures]
    return torch.cat(encoded).to(x)
