"""Faces in pictures, by the package insightface where it is installed: its embedding and the aligned face."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.errors import MissingPartError, OptionError

RECOGNISER = "buffalo_l"
SIZES = range(640, 255, -64)  # the detector misses faces that fill a picture until it sees it smaller


@lru_cache(maxsize=1)
def _analysis() -> Any:
    try:
        app = importlib.import_module("insightface.app")
    except ImportError as error:
        raise MissingPartError(
            "FaceID needs the package insightface to find faces",
            todo="pip install insightface onnxruntime, or give face embeddings [n, 512] in a file",
        ) from error
    return app.FaceAnalysis(name=RECOGNISER, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])


def faces(
    images: Sequence[Image.Image], side: int, normalised: bool = True
) -> tuple[Tensor, list[Image.Image]]:
    """The first face of each picture: embeddings [n, 512] and the aligned faces [side, side].

    OptionError where a picture shows none, MissingPartError without insightface.
    """
    found = [_face(image, number) for number, image in enumerate(images, 1)]
    embeddings = [face.normed_embedding if normalised else face.embedding for face in found]
    crops = [_aligned(image, face, side) for image, face in zip(images, found, strict=True)]
    return torch.from_numpy(np.stack(embeddings)).float(), crops


def _face(image: Image.Image, number: int) -> Any:
    analysis = _analysis()
    for size in SIZES:
        analysis.prepare(ctx_id=0, det_size=(size, size))
        if found := analysis.get(_bgr(image)):
            return found[0]
    raise OptionError(f"no face was found in picture {number}", expected="one face, seen from the front")


def _aligned(image: Image.Image, face: Any, side: int) -> Image.Image:
    align = importlib.import_module("insightface.utils.face_align")

    return Image.fromarray(align.norm_crop(_bgr(image), landmark=face.kps, image_size=side)[..., ::-1])


def _bgr(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
