"""What a clip is asked for besides the settings of its frames, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from PIL import Image

from ..animate.free_init import FreeInit
from ..animate.free_noise import FreeNoise
from ..animate.windows import Plan
from ..core.errors import OptionError, nearest

NORMS = ("authors", "diffusers")
BETAS = ("motion", "model")
MAX_FRAMES = 4096
Way = TypeVar("Way", Plan, FreeInit, FreeNoise)


@dataclass(kw_only=True)
class ClipSettings:
    """Settings of a clip.

    Attributes:
        frames: how many.
        windows: cut the clip for the network (`Plan`, its fields, or "uniform:length=16:overlap=4"); None where
            all frames fit is one window, and where they do not `Plan()`; "none" never.
        free_init, free_noise: the same of these; a bare number is rounds, or frames of a window; True the defaults.
        motion_strength: weighs what the motion modules add.
        norms: the statistics of group norms, "authors" or "diffusers", see docs/animate.md.
        betas: noise levels, "motion": those that the modules were trained on, "model": the model's.
        video: pictures to start from, one for each frame, with `strength`.
        loop: the clip's end goes over into its beginning: looped windows.
    """

    frames: int = 16
    fps: float = 8.0
    windows: Any = None
    free_init: Any = None
    free_noise: Any = None
    motion_strength: float = 1.0
    norms: str = "authors"
    betas: str = "motion"
    video: Sequence[Image.Image] | None = None
    travel: dict[int, str] = field(default_factory=dict)
    loop: bool = False

    @classmethod
    def taken(cls, settings: dict[str, Any]) -> ClipSettings:
        """The clip's own out of a call's settings, which keep the rest. OptionError for values that cannot work."""
        names = [each.name for each in fields(cls) if each.name != "travel"]
        made = cls(**{name: settings.pop(name) for name in names if name in settings})
        made._check()
        return made

    def _check(self) -> None:
        for name, known in (("norms", NORMS), ("betas", BETAS)):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} {getattr(self, name)!r}", todo=nearest(getattr(self, name), known))
        _within("frames", self.frames, 1, MAX_FRAMES, int)
        _within("fps", self.fps, 0.1, 240, (int, float))
        _within("motion_strength", self.motion_strength, -10, 10, (int, float))
        self.free_init = read(FreeInit, self.free_init, "rounds")
        self.free_noise = read(FreeNoise, self.free_noise, "length")
        self.windows = self.windows if self.windows == "none" else read(Plan, self.windows, "kind")
        if self.video is not None and len(self.video) != self.frames:
            raise OptionError(f"a video of {len(self.video)} pictures for {self.frames} frames")
        if self.free_noise is not None and self.windows not in (None, "none"):
            raise OptionError("windows and FreeNoise together", expected="one of them")

    def resolve(self, longest: int) -> None:
        """Cuts what is longer than the motion modules' positions; OptionError where that was ruled out."""
        together = self.frames
        if self.free_noise is not None:
            together = min(self.frames, self.free_noise.length)
        elif self.windows is None and (self.frames > longest or self.loop):
            length = min(16, longest, self.frames)
            kind = "looped" if self.loop else "uniform"
            self.windows = Plan(length, min(4, length - 1), kind)
        if isinstance(self.windows, Plan):
            together = min(self.frames, self.windows.length)
        if together > longest:
            raise OptionError(
                f"{together} frames at once",
                expected=f"at most {longest}, as many as the motion modules have positions for",
                todo="set windows, or free_noise",
            )

    def settings(self) -> dict[str, Any]:
        """What makes the same clip again, as JSON-able values."""
        usual = ClipSettings()
        found: dict[str, Any] = {"frames": self.frames, "fps": self.fps}
        for name in ("windows", "free_init", "free_noise"):
            if (way := getattr(self, name)) is not None:
                found[name] = way if isinstance(way, str) else asdict(way)
        for name in ("motion_strength", "norms", "betas", "loop"):
            if getattr(self, name) != getattr(usual, name):
                found[name] = getattr(self, name)
        return found


def _within(name: str, value: Any, low: float, high: float, kind: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise OptionError(f"{name} {value!r}", expected=f"{low} to {high}")


def read(kind: type[Way], given: Any, first: str) -> Way | None:
    """One of the ways from itself, a table of its fields, or text: its first field, then `name=value`, by colons.

    None is none, True the defaults. OptionError for a field there is not, or of another type.
    """
    if given is None or given is False or isinstance(given, kind):
        return given or None
    if given is True:
        return kind()
    if isinstance(given, Mapping):
        return kind(**{name: _value(kind, name, value) for name, value in given.items()})
    words = str(given).split(":")
    table = dict(word.split("=", 1) for word in words if "=" in word)
    if words[0] and "=" not in words[0]:
        table[first] = words[0]
    if loose := [word for word in words[1:] if "=" not in word]:
        raise OptionError(f"{loose[0]!r} in {str(given)!r}", kind.__name__, "name=value")
    return kind(**{name: _value(kind, name, value) for name, value in table.items()})


def _value(kind: type, name: str, value: Any) -> Any:
    defaults = {each.name: each.default for each in fields(kind)}
    if name not in defaults:
        raise OptionError(f"unknown setting {name!r}", kind.__name__, todo=nearest(name, defaults))
    wanted = type(defaults[name])
    if wanted is bool:
        return str(value).lower() in ("1", "true", "yes")
    try:
        return (
            value
            if isinstance(value, wanted)
            else float(value)
            if kind is FreeInit and name == "order"
            else wanted(value)
        )
    except (TypeError, ValueError):
        raise OptionError(f"{name}={value!r}", kind.__name__, f"such as {defaults[name]!r}") from None
