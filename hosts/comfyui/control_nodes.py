"""Nodes for the ControlNet family: the file, and what it does to a MODEL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...controlnet.preprocess import PREPROCESSORS
from ...controlnet.resize import RESIZE
from ...controlnet.settings import MAX_STRENGTH, MODES, REFERENCE, Control
from ...controlnet.written import integers, keyframes, numbers, types
from ...core.errors import OptionError
from ..control_words import options_of
from . import control_folders as folders
from .control_fields import SIGMAS, WHEN, share, text, when
from .control_pictures import mask_picture, pictures
from .fields import Field
from .node import Node

KIND = "controlnet"
CONTROL, HINTS = "SIGMAGRAFT_CONTROL", "SIGMAGRAFT_HINTS"
CATEGORY = "SigmaGraft/control"
_POOL = {"auto": None, "on": True, "off": False}


def strength_field(told: str) -> Field:
    return "FLOAT", {
        "default": 1.0,
        "min": 0.0,
        "max": MAX_STRENGTH,
        "step": 0.01,
        "round": False,
        "tooltip": told,
    }


class ControlLoader(Node):
    """A file of the family."""

    ID, TITLE, CATEGORY = "SigmaGraftControlLoader", "SigmaGraft Control Loader", CATEGORY
    RETURN_TYPES = (CONTROL,)
    DESCRIPTION = (
        "A file of the ControlNet family, told by its tensors: ControlNet, Control-LoRA, Union, T2I-Adapter, "
        "ControlNet-LLLite, SparseCtrl."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        told = "a file in models/controlnet or models/t2i_adapter; reload the page after adding one"
        return {"required": {"file": (folders.names(KIND), {"tooltip": told})}}

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None = None) -> bool | str:
        """True, or what is wrong with the file."""
        from .control_make import open_control

        return cls.checked(lambda: file is None or open_control(folders.path(KIND, file)))

    @classmethod
    def IS_CHANGED(cls, file: str | None = None) -> int:
        return folders.changed(KIND, file)

    def make(self, file: str) -> tuple[Any]:
        from .control_make import control_network

        return (control_network(folders.path(KIND, file)),)


class ApplyControl(Node):
    """A control on a MODEL."""

    ID, TITLE, CATEGORY = "SigmaGraftControlApply", "SigmaGraft Apply Control", CATEGORY
    RETURN_TYPES = ("MODEL",)
    DESCRIPTION = (
        "Puts a control on the model; any number may follow one another, beside Apply ControlNet too. The hint is made "
        "at the size that is drawn."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        modes = "prompt, control: the one is more important; guess: also without words, on the prompt's half"
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "the model to control"}),
                "control": (CONTROL, {"tooltip": "a file of SigmaGraft Control Loader"}),
                "strength": strength_field("0 costs nothing"),
                **WHEN,
                "mode": (list(MODES), {"tooltip": modes}),
                "preprocessor": (
                    PREPROCESSORS.names(),
                    {"tooltip": "what makes the hint; none: the image is one"},
                ),
                "resize": (
                    list(RESIZE),
                    {"default": "crop", "tooltip": "how the image comes to the drawn size"},
                ),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "one image for all, or one for each of the batch"}),
                "hints": (
                    HINTS,
                    {"tooltip": "images with a preprocessor and type of their own, in the image's place"},
                ),
                "mask": ("MASK", {"tooltip": "acts where it is white"}),
                "vae": ("VAE", {"tooltip": "for controls that look at latents"}),
                "clip_vision": ("CLIP_VISION", {"tooltip": "for a T2I style adapter: CLIP ViT-L/14"}),
                "keyframes": text("factors on strength from shares of the steps on: 0@1, 0.5@0.3"),
                "interpolate": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "straight lines between the keyframes"},
                ),
                "block_weights": text(
                    "a factor for each output, input blocks first: 13 numbers for SD1, 10 for SDXL"
                ),
                "options": text("of the preprocessor: low=50, high=120"),
                "types": text(
                    "of a ControlNet-Union, one for each image: depth+canny; empty: as its hints say"
                ),
                "frames": text("of a SparseCtrl: which image of the batch each picture belongs to: 0, 8"),
                "joint_norm": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "of a SparseCtrl: as diffusers normalises"},
                ),
                "pool": (
                    list(_POOL),
                    {"tooltip": "average the outputs over the image; auto: by the file's name"},
                ),
                **SIGMAS,
            },
        }

    @classmethod
    def VALIDATE_INPUTS(  # the host calls it by name with what each node names
        cls,
        start: float = 0.0,
        end: float = 1.0,
        preprocessor: str | None = None,
        keyframes: str | None = None,
        block_weights: str | None = None,
        options: str | None = None,
        types: str | None = None,
        frames: str | None = None,
    ) -> bool | str:
        """True, or which widget holds what it may not."""
        given = {"keyframes": keyframes, "block_weights": block_weights, "types": types, "frames": frames}

        def check() -> None:
            Control(model="", start=start or 0.0, end=1.0 if end is None else end, **_written(given))
            options_of(preprocessor or "none", options or "")

        return cls.checked(check)

    def make(
        self,
        model: Any,
        control: Any,
        strength: float,
        start: float,
        end: float,
        range: str,
        mode: Any,
        preprocessor: str,
        resize: str,
        **given: Any,
    ) -> tuple[Any]:
        from .control_make import apply

        limits = {name: given[name] for name in SIGMAS if name in given}
        settings = _written(given) | _pictures(preprocessor, given) | _others(given)
        settings |= {"strength": strength, "mode": mode, "resize": resize}
        settings |= {"mask": mask_picture(given.get("mask")), **when(model, start, end, range, **limits)}
        return (apply(model, control, settings, given.get("vae"), given.get("clip_vision")),)


_READ = {
    "keyframes": ("keyframes", keyframes),
    "block_weights": ("weights", numbers),
    "types": ("types", types),
    "frames": ("frames", integers),
}


def _written(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are text; an empty one is none."""
    filled = [name for name in _READ if (given.get(name) or "").strip()]
    return {_READ[name][0]: _READ[name][1](name, given[name].strip()) for name in filled}


def _pictures(preprocessor: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Image and preprocessor, or those of the hints with their types."""
    hints, image = given.get("hints"), given.get("image")
    if (hints is None) == (image is None):
        raise OptionError(
            "neither image nor hints" if hints is None else "both image and hints", expected="one of them"
        )
    if hints is None:
        return {
            "image": pictures(image),
            "preprocess": preprocessor,
            "options": options_of(preprocessor, given.get("options", "")),
        }
    named = (
        {} if (given.get("types") or "").strip() else {"types": [hint.type for hint in hints if hint.type]}
    )
    return {"image": [hint.image for hint in hints], **named}


def _others(given: Mapping[str, Any]) -> dict[str, Any]:
    flags = {name: given[name] for name in ("interpolate", "joint_norm") if name in given}
    return flags | {"pool": _POOL[given.get("pool", "auto")]}


class ApplyReference(Node):
    """Reference-only: no file."""

    ID, TITLE, CATEGORY = "SigmaGraftReference", "SigmaGraft Reference", CATEGORY
    RETURN_TYPES = ("MODEL",)
    DESCRIPTION = (
        "The model looks at an image while it draws, by a second pass of its own network; no file is needed."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "the model that looks"}),
                "image": ("IMAGE", {"tooltip": "one image for all, or one for each of the batch"}),
                "vae": ("VAE", {"tooltip": "the model's VAE"}),
                "method": (
                    list(REFERENCE),
                    {"tooltip": "through attention, mean and deviation (adain), or both"},
                ),
                "strength": strength_field("the share of the layers that take part; above 2 all of them"),
                "fidelity": share(0.5, "how much the negative prompt's half is left to itself"),
                **WHEN,
                "resize": (
                    list(RESIZE),
                    {"default": "crop", "tooltip": "how the image comes to the drawn size"},
                ),
            },
            "optional": dict(SIGMAS),
        }

    def make(
        self,
        model: Any,
        image: Any,
        vae: Any,
        method: str,
        strength: float,
        fidelity: float,
        start: float,
        end: float,
        range: str,
        resize: str,
        **limits: float,
    ) -> tuple[Any]:
        from .control_make import look

        settings = {"model": method, "image": pictures(image), "strength": strength, "fidelity": fidelity}
        settings |= {"resize": resize, **when(model, start, end, range, **limits)}
        return (look(model, settings, vae),)
