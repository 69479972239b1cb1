"""What is asked of one control: which file, which picture, how strongly, when and where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.errors import OptionError, nearest
from .resize import RESIZE

if TYPE_CHECKING:
    from PIL import Image

    from .model import ControlModel

MODES = ("balanced", "prompt", "control", "guess")
REFERENCE = {"reference": "attention", "reference_adain": "adain", "reference_both": "both"}
PASSES = ("both", "base", "hires")
MAX_STRENGTH = 10.0
Mode = Literal["balanced", "prompt", "control", "guess"]


@dataclass(kw_only=True)
class Control:
    """One control of a run.

    Args:
        model: a file, folder or hub id, a loaded ControlModel, or a key of REFERENCE (which needs no file).
        image: one picture for all images of a batch, or one for each; of a Union one for each of `types`.
        preprocess: what makes the hint of the picture ("canny"); "none": the picture is the hint; several names, one
            for each picture, stand between plus signs.
        options: those of the preprocessor.
        strength: 0 costs nothing.
        start, end: the share of the steps in which it acts; a step counts that lies whole between them.
        sigma_start, sigma_end: the same as noise levels, high and low; both limits hold.
        passes: of hires fix: both, base or hires (as a word: pass=hires).
        keyframes: (share of the steps, factor on strength), held until the next, or `interpolate`d between.
        weights: a factor for each of the network's outputs, input blocks first, the middle block last.
        mode: balanced; prompt and control (A1111's "more important"); guess (diffusers' guess mode).
        mask: where it acts, white, at the picture's proportions.
        resize: how picture and mask come to the size that is drawn: crop, stretch, fill.
        types: of a Union, a name or number for each picture.
        frames: of a SparseCtrl, which image of the batch each picture belongs to; default: the first ones.
        joint_norm: of a SparseCtrl, group norms of the motion modules over the whole clip, as diffusers has them.
        fidelity: of reference, 0..1: how much the negative prompt's half is left to itself.
        vision: of a style adapter, the image encoder's file (CLIP ViT-L/14).
        pool: average the outputs over the picture, as the shuffle model wants; default: by the file's name.
    """

    model: str | Path | ControlModel
    image: Image.Image | Sequence[Image.Image] | None = None
    preprocess: str = "none"
    options: Mapping[str, Any] = field(default_factory=dict)
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    sigma_start: float | None = None
    sigma_end: float | None = None
    passes: str = "both"
    keyframes: Sequence[tuple[float, float]] = ()
    interpolate: bool = False
    weights: Sequence[float] | None = None
    mode: Mode = "balanced"
    mask: Image.Image | None = None
    resize: str = "crop"
    types: Sequence[str | int] = ()
    frames: Sequence[int] | None = None
    joint_norm: bool = False
    fidelity: float = 0.5
    pool: bool | None = None
    vision: str | Path | None = None

    def __post_init__(self) -> None:
        _within("strength", self.strength, 0.0, MAX_STRENGTH)
        for name in ("start", "end", "fidelity"):
            _within(name, getattr(self, name), 0.0, 1.0)
        if self.start > self.end:
            raise OptionError(f"control from {self.start} to {self.end}", expected="start before end")
        if (self.sigma_start or math.inf) <= (self.sigma_end or 0.0):
            what = f"control from sigma {self.sigma_start} to {self.sigma_end}"
            raise OptionError(what, expected="sigma_start above sigma_end")
        _known("control mode", self.mode, MODES)
        _known("resize mode", self.resize, list(RESIZE))
        check_pass(self.passes)
        self._check_lists()
        if self.mask is not None and not self.mask.convert("L").getbbox():
            raise OptionError(
                "the control's mask is all black: it would act nowhere", expected="white somewhere"
            )

    def _check_lists(self) -> None:
        places = [place for place, _ in self.keyframes]
        if places != sorted(set(places)) or any(not 0 <= place <= 1 for place in places):
            raise OptionError(f"keyframes at {places}", expected="rising shares of the steps, 0 to 1")
        for _, factor in self.keyframes:
            _within("keyframe factor", factor, 0.0, MAX_STRENGTH)
        for weight in self.weights or ():
            _within("control weight", weight, -MAX_STRENGTH, MAX_STRENGTH)

    @property
    def images(self) -> list[Image.Image]:
        """The pictures, as a list."""
        if self.image is None:
            return []
        return list(self.image) if isinstance(self.image, Sequence) else [self.image]


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise OptionError(f"{name} {value!r}", expected=f"{low:g} to {high:g}")


def check_pass(name: str) -> None:
    """OptionError for what is no pass of hires fix."""
    if name not in PASSES:
        raise OptionError(f"pass {name!r}", expected=" or ".join(PASSES))


def _known(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise OptionError(f"{what} {name!r}", todo=nearest(name, names))
