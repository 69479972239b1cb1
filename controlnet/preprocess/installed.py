"""Preprocessors of other packages, used where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from PIL import Image

from ...core.errors import MissingPartError
from .spec import preprocessor

ANNOTATORS = "lllyasviel/Annotators"
DETECTORS = {  # name -> (label, class of controlnet_aux)
    "openpose": ("Poses (OpenPose)", "OpenposeDetector"),
    "hed": ("Soft edges (HED)", "HEDdetector"),
    "pidi": ("Soft edges (PiDiNet)", "PidiNetDetector"),
    "lineart_model": ("Line art (network)", "LineartDetector"),
    "lineart_anime": ("Line art of anime (network)", "LineartAnimeDetector"),
    "normal": ("Normals (BAE)", "NormalBaeDetector"),
    "mlsd": ("Straight lines (M-LSD)", "MLSDdetector"),
}


@lru_cache(maxsize=2)
def _detector(name: str, kind: str, model: str) -> Any:
    try:
        import controlnet_aux  # type: ignore[import-not-found]
    except ImportError:
        raise MissingPartError(
            f"preprocessor {name} needs the package controlnet-aux", todo="pip install controlnet-aux"
        ) from None
    return getattr(controlnet_aux, kind).from_pretrained(model)


def _detected(name: str, kind: str, image: Image.Image, model: str = ANNOTATORS) -> Image.Image:
    side = min(image.size)
    found = _detector(name, kind, model)(
        image.convert("RGB"), detect_resolution=side, image_resolution=side, output_type="pil"
    )
    return found.resize(image.size)


def _add(name: str, label: str, kind: str) -> None:
    function: Callable[..., Image.Image] = partial(_detected, name, kind)
    function.__doc__ = f"{kind} of the package controlnet-aux, if it is installed."  # type: ignore[attr-defined]
    texts = {"model": f"folder or hub id of its weights; default {ANNOTATORS}"}
    preprocessor(name, label=label, texts=texts)(function)


for _name, (_label, _kind) in DETECTORS.items():
    _add(_name, _label, _kind)
