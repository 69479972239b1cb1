"""What a person asks of a clip: read from the panel's fields or the API, written into a picture, made into windows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...animate.free_noise import FreeNoise
from ...animate.windows import KINDS, Plan
from ...core.errors import OptionError, nearest
from ...core.option import Option
from .control_files import NONE
from .pairs import pairs

KEY = "SigmaGraft Clip"
AUTOMATIC, TOGETHER, FREE_NOISE = "automatic", "none", "FreeNoise"
WINDOWS = (AUTOMATIC, *KINDS, FREE_NOISE, TOGETHER)
FORMATS = ("GIF", "WEBP", "PNG", "MP4", "frames")  # frames: a picture for each, as the web UI saves a batch
RANGES = {
    option.name: option
    for option in (
        Option("frames", 16, 1, 4096),
        Option("fps", 8.0, 0.1, 240.0),
        Option("length", 16, 1, 4096),
        Option("overlap", 4, 0, 4095),
        Option("strength", 1.0, -10.0, 10.0),
    )
}
WORDS = {
    option.name: option
    for option in (
        Option("stride", 0, 0, 64),  # 0: what is usual for the windows
        Option("fuse", "pyramid", choices=("pyramid", "flat", "delayed_reverse_sawtooth")),
        Option("noise", "shuffle_context", choices=("shuffle_context", "repeat_context", "random")),
        Option("norms", "authors", choices=("authors", "diffusers")),
        Option("betas", "motion", choices=("motion", "model")),
    )
}


@dataclass(frozen=True)
class Clip:
    """The fields of the panel, in the order of the API's args."""

    file: str = NONE
    frames: Any = 16
    fps: Any = 8.0
    format: str = "GIF"
    windows: str = AUTOMATIC
    length: Any = 16
    overlap: Any = 4
    strength: Any = 1.0
    settings: str = ""

    @property
    def wanted(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.file) and self.file != NONE

    def checked(self) -> Clip:
        """The same with numbers as they are meant. OptionError for one out of its range."""
        for name, known in (("format", FORMATS), ("windows", WINDOWS)):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} {getattr(self, name)!r}", KEY, ", ".join(known))
        self.words()
        numbers = {name: option.check(getattr(self, name), KEY) for name, option in RANGES.items()}
        return Clip(**{**asdict(self), **numbers})

    def words(self) -> dict[str, Any]:
        """The settings, those that are not named at their defaults. OptionError."""
        found: dict[str, Any] = {name: option.default for name, option in WORDS.items()}
        for name, value in pairs(self.settings, KEY):
            if name not in WORDS:
                raise OptionError(f"setting {name!r}", KEY, todo=nearest(name, WORDS))
            found[name] = WORDS[name].check(value, KEY)
        return found

    @property
    def joint(self) -> bool:
        """Whether group norms are as diffusers has them."""
        return self.words()["norms"] == "diffusers"

    @property
    def free_noise(self) -> FreeNoise | None:
        """FreeNoise, where it is asked for."""
        if self.windows != FREE_NOISE:
            return None
        words = self.words()
        return FreeNoise(self.length, words["stride"] or 4, words["fuse"], words["noise"])

    def plan(self, longest: int) -> Plan | None:
        """How the clip is cut for modules that take `longest` frames; None: not. OptionError where it must be."""
        words, plan, together = self.words(), None, self.frames
        stride, fuse = words["stride"] or 1, words["fuse"]
        if self.windows == AUTOMATIC and self.frames > longest:
            length = min(self.length, longest)
            plan = Plan(length, min(self.overlap, length - 1), "uniform", stride, fuse)
        elif self.windows in KINDS:
            plan = Plan(self.length, self.overlap, self.windows, stride, fuse)
        if self.windows == FREE_NOISE or plan is not None:
            together = min(self.frames, plan.length if plan else self.length)
        if together > longest:
            raise OptionError(
                f"{together} frames at once",
                KEY,
                f"at most {longest}, as many as {self.file} has positions for",
                "lower length, or let the windows be automatic",
            )
        return plan

    def cut(self, longest: int) -> bool:
        """Whether an evaluation sees only some of the frames."""
        plan = self.plan(longest)
        return plan is not None and self.frames > plan.length

    def told(self) -> dict[str, Any]:
        """What a picture keeps of it."""
        usual = asdict(Clip())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


def clip_of(args: Sequence[Any]) -> Clip:
    """The clip of a script's args: one object by name (the API), or the fields. OptionError for a name it has not."""
    names = [field.name for field in fields(Clip)]
    given = dict(args[0]) if args and isinstance(args[0], Mapping) else dict(zip(names, args, strict=False))
    for name in given:
        if name not in names:
            raise OptionError(f"{name!r} of a clip", KEY, todo=nearest(str(name), names))
    clip = Clip(**{name: value for name, value in given.items() if value is not None})
    return clip.checked() if clip.wanted else clip


def written(clip: Clip) -> str:
    """The value of the picture's key."""
    return json.dumps(clip.told(), ensure_ascii=False)


def read_back(text: Any) -> dict[str, Any]:
    """The same from a picture; nothing from what nobody wrote so."""
    try:
        found = json.loads(text or "{}")
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
