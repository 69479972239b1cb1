"""Nodes for image prompts: an IP-Adapter's file, and what it does to a MODEL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...controlnet.ip_attention import SCALINGS
from ...controlnet.ip_features import COMBINE, Features
from ...controlnet.ip_image import CROPS
from ...controlnet.ip_settings import LIMIT, ImagePrompt
from ...controlnet.ip_weights import RULES, TABLES
from ...controlnet.written import layers, numbers
from ...core.errors import OptionError
from . import control_folders as folders
from .control_fields import SIGMAS, WHEN, text, when
from .control_pictures import mask_picture, pictures
from .fields import Field
from .node import Node

ADAPTER, EMBEDS = "SIGMAGRAFT_IPADAPTER", "SIGMAGRAFT_EMBEDS"
CATEGORY = "SigmaGraft/image prompt"
CONNECTED = "connected"
VERSIONS = {"by name": None, "1": 1, "2": 2}


class AdapterLoader(Node):
    """An IP-Adapter's file."""

    ID, TITLE, CATEGORY = "SigmaGraftIPAdapterLoader", "SigmaGraft IP-Adapter Loader", CATEGORY
    RETURN_TYPES = (ADAPTER,)
    DESCRIPTION = "Any IP-Adapter, its variant told by its tensors."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        told = "connected: the clip_vision of the nodes that use it; else a file in models/clip_vision"
        return {
            "required": {
                "file": (folders.names(folders.IP_ADAPTERS), {"tooltip": "a file in models/ipadapter"}),
                "image_encoder": ([CONNECTED, *folders.listed("clip_vision")], {"tooltip": told}),
                "version": (
                    list(VERSIONS),
                    {"tooltip": "of FaceID plus: version 2 is told by the file's name alone"},
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, file: str | None = None, image_encoder: str | None = None) -> int:
        return folders.changed(folders.IP_ADAPTERS, file) + folders.changed("clip_vision", image_encoder)

    def make(self, file: str, image_encoder: str, version: str) -> tuple[Any]:
        from .ip_make import load

        chosen = None if image_encoder == CONNECTED else folders.path("clip_vision", image_encoder)
        return (load(folders.path(folders.IP_ADAPTERS, file), VERSIONS[version], chosen),)


_WEIGHT = {"default": 1.0, "min": -LIMIT, "max": LIMIT, "step": 0.01, "round": False}


class ApplyAdapter(Node):
    """An image prompt on a MODEL."""

    ID, TITLE, CATEGORY = "SigmaGraftIPAdapterApply", "SigmaGraft Apply IP-Adapter", CATEGORY
    RETURN_TYPES = ("MODEL",)
    DESCRIPTION = "Prompts with images; any number may follow one another, beside other packs' adapters too."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        flag = "BOOLEAN"
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "the model to prompt"}),
                "ipadapter": (ADAPTER, {"tooltip": "a file of SigmaGraft IP-Adapter Loader"}),
                "weight": ("FLOAT", {**_WEIGHT, "tooltip": "how strongly the images act"}),
                "weight_type": ([*RULES, *TABLES], {"tooltip": "how the model's layers share the weight"}),
                "combine": (list(COMBINE), {"tooltip": "how several images become one prompt"}),
                "scaling": (
                    list(SCALINGS),
                    {"tooltip": "where the weight acts: on values, or on keys and values"},
                ),
                **WHEN,
                "crop": (
                    list(CROPS),
                    {"tooltip": "where the encoder's square is cut from an image; pad: all of it"},
                ),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "the images"}),
                "clip_vision": ("CLIP_VISION", {"tooltip": "the image encoder"}),
                "negative": ("IMAGE", {"tooltip": "images to lead away from"}),
                "mask": ("MASK", {"tooltip": "acts where it is white"}),
                "embeds": (EMBEDS, {"tooltip": "in the images' place"}),
                "negative_embeds": (EMBEDS, {"tooltip": "in the negative images' place"}),
                "face": (
                    EMBEDS,
                    {"tooltip": "face embeddings of a FaceID, where insightface is not installed"},
                ),
                "face_strength": ("FLOAT", {**_WEIGHT, "tooltip": "FaceID plus v2's share of the picture"}),
                "lora_strength": (
                    "FLOAT",
                    {**_WEIGHT, "tooltip": "of the change of weights that a FaceID brings"},
                ),
                "each": (flag, {"default": False, "tooltip": "image k is for picture k of the batch alone"}),
                "tiled": (flag, {"default": False, "tooltip": "an image in squares that act where they lie"}),
                "weights": text("a weight for each picture of the batch, in the weight's place: 1, 0.5"),
                "layers": text("weights by hand: input8=1, output1=0.5, default=0"),
                "composition": text("the composition's own weight, of types that have one"),
                **SIGMAS,
            },
        }

    @classmethod
    def VALIDATE_INPUTS(
        cls, weights: str | None = None, layers: str | None = None, composition: str | None = None
    ) -> bool | str:
        """True, or which text cannot be read."""
        return cls.checked(
            lambda: _written({"weights": weights, "layers": layers, "composition": composition})
        )

    def make(
        self, model: Any, ipadapter: Any, start: float, end: float, range: str, **given: Any
    ) -> tuple[Any]:
        limits = {name: given[name] for name in SIGMAS if name in given}
        plain = {name: given[name] for name in _PLAIN if name in given}
        prompt = ImagePrompt.of(
            **(plain | _written(given) | _images(given)),
            mask=mask_picture(given.get("mask")),
            **when(model, start, end, range, **limits),
        )
        from .ip_make import apply

        return (apply(model, ipadapter, prompt, given.get("clip_vision"), given.get("lora_strength", 1.0)),)


_PLAIN = ("weight", "weight_type", "combine", "scaling", "crop", "face_strength", "each", "tiled")


def _written(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are text; an empty one is none."""
    filled = {
        name: given[name].strip()
        for name in ("weights", "layers", "composition")
        if isinstance(given.get(name), str) and given[name].strip()
    }
    read: dict[str, Any] = {}
    if "weights" in filled:
        read["weight"] = numbers("weights", filled["weights"])
    if "layers" in filled:
        read["layers"] = layers("layers", filled["layers"])
    if "composition" in filled:
        (read["composition"],) = numbers("composition", filled["composition"])
    return read


def _images(given: Mapping[str, Any]) -> dict[str, Any]:
    face: Features | None = given.get("face")
    if face is not None and face.face is None:
        raise OptionError("these embeds hold no face", expected="face embeddings [n, 512]")
    return {
        "images": pictures(given.get("image")),
        "negative": pictures(given.get("negative")),
        "features": given.get("embeds"),
        "negative_features": given.get("negative_embeds"),
        "face": face and face.face,
    }
