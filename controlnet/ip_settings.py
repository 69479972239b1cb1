"""One image prompt: which pictures, how strongly, where, when; checked at once, before it reaches a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..core.errors import OptionError, nearest
from .ip_attention import check_scaling
from .ip_features import Features, check_combine
from .ip_image import check_crop
from .ip_weights import check_weight_type

if TYPE_CHECKING:
    from PIL import Image

LIMIT = 100.0  # of a weight's size


@dataclass(frozen=True)
class ImagePrompt:
    """What one IP-Adapter is asked for.

    ``weight`` is one number or one for each picture of the batch. ``weight_type`` says how the transformers share it
    and ``composition`` the composition's own weight; ``layers`` is a table by hand instead ("input8", "middle", a
    number in running order or a diffusers name -> factor, "default" for the others, else 0). ``each``: image k is for
    picture k alone; else ``combine`` makes one of several. ``tiled`` cuts a picture into squares that act where they
    lie. ``features`` stand in the place of pictures, ``negative_features`` in that of negative ones. ``face`` [n, 512]
    are face embeddings, ``face_strength`` FaceID plus v2's share of the picture. ``mask`` is white where the image
    acts. ``start`` and ``end`` are fractions of the steps, ``sigma_start`` and ``sigma_end`` noise levels.
    """

    images: Sequence[Image.Image] = ()
    weight: float | Sequence[float] = 1.0
    weight_type: str = "linear"
    composition: float | None = None
    layers: Mapping[str | int, float] | None = None
    combine: str = "concat"
    scaling: str = "V only"
    each: bool = False
    tiled: bool = False
    crop: str = "center"
    negative: Sequence[Image.Image] = ()
    features: Features | None = None
    negative_features: Features | None = None
    face: Any = None  # a tensor [n, 512]
    face_strength: float = 1.0
    mask: Image.Image | None = None
    start: float = 0.0
    end: float = 1.0
    sigma_start: float | None = None
    sigma_end: float | None = None

    def __post_init__(self) -> None:
        names = {
            "combine": check_combine(self.combine),
            "scaling": check_scaling(self.scaling),
            "crop": check_crop(self.crop),
            "weight_type": check_weight_type(self.weight_type),
        }
        for name, value in names.items():
            object.__setattr__(self, name, value)
        for value in self.weights:
            _number("weight", value)
        self._check_range()
        self._check_pictures()

    @property
    def weights(self) -> list[float]:
        """The weight of each picture of the batch, or one for all."""
        return list(self.weight) if isinstance(self.weight, Sequence) else [self.weight]

    def check_batch(self, batch: int) -> None:
        """OptionError where weights, images or faces are for another number of pictures."""
        _fits("weights", len(self.weights), batch)
        if self.each:
            count = len(self.features) if self.features is not None else len(self.images)
            _fits("images", count or len(self.face), batch)

    def alone(self, index: int) -> ImagePrompt:
        """The same for picture `index` of a batch by itself."""
        weights = self.weights
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["weight"] = weights[index] if len(weights) > 1 else weights[0]
        if self.each:
            values["images"] = _one(self.images, index)
            values["face"] = None if self.face is None else _one(self.face, index)
            values["features"] = self.features and self.features.map(lambda x: _one(x, index))
        return ImagePrompt(**values)

    def _check_range(self) -> None:
        for name in ("start", "end"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise OptionError(f"{name} {getattr(self, name)}", expected="a fraction of the steps, 0 to 1")
        if self.start >= self.end:
            raise OptionError(f"an image prompt from {self.start} to {self.end}", expected="start before end")
        if (self.sigma_start or math.inf) <= (self.sigma_end or 0.0):
            what = f"an image prompt from sigma {self.sigma_start} to {self.sigma_end}"
            raise OptionError(what, expected="sigma_start above sigma_end")

    def _check_pictures(self) -> None:
        if not len(self.images) and self.features is None and self.face is None:
            raise OptionError("an image prompt without an image", todo="give a picture, features or a face")
        if len(self.images) and self.features is not None:
            raise OptionError("pictures and their features at once", expected="one of them")
        if self.layers is not None and self.weight_type != "linear":
            raise OptionError(f"layers by hand and type {self.weight_type!r}", expected="one of them")
        if self.tiled and self.each:
            raise OptionError("tiles of an image for each picture", expected="tiled or each, not both")
        if self.tiled and not len(self.images):
            raise OptionError("tiles of features", expected="pictures, which can be cut")
        if self.mask is not None and self.mask.convert("L").getextrema() == (0, 0):
            raise OptionError(
                "the mask is all black, the image would act nowhere", expected="white where it acts"
            )

    @classmethod
    def of(cls, **settings: Any) -> ImagePrompt:
        """From keyword arguments; OptionError with the nearest name for one that is not a setting."""
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise OptionError(f"unknown setting {name!r} of an image prompt", todo=nearest(name, known))
        return cls(**settings)


def _number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -LIMIT <= value <= LIMIT:
        raise OptionError(f"{name} {value}", expected=f"a number from -{LIMIT:g} to {LIMIT:g}")


def _fits(what: str, count: int, batch: int) -> None:
    if count not in (1, batch):
        raise OptionError(
            f"{count} {what} for {batch} pictures", expected=f"one, or one for each of the {batch}"
        )


def _one(values: Any, index: int) -> Any:
    return values[index : index + 1] if len(values) > 1 else values
