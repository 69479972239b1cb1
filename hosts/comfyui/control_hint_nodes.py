"""Nodes that make hints: one for each preprocessor, one for any of them, and one that collects several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ...controlnet.preprocess import PREPROCESSORS, Preprocessor
from ...controlnet.union import TYPES
from ...core.errors import OptionError
from ..control_words import options_of
from .control_fields import text
from .control_nodes import CATEGORY, HINTS
from .control_pictures import mask_picture, pictures, tensor_of, with_holes
from .fields import Field, fields_of, values_of
from .node import Node

NO_TYPE = "none"
_IMAGE: dict[str, Field] = {"image": ("IMAGE", {"tooltip": "the pictures"})}
_OPTIONS: Field = text("NAME=VALUE, NAME=VALUE of the preprocessor; empty: the defaults")


@dataclass(frozen=True)
class Hint:
    """A finished hint and, of a ControlNet-Union, its type."""

    image: Image.Image
    type: str = ""


class AnyPreprocessor(Node):
    """Any preprocessor, its options in a line."""

    ID, TITLE, CATEGORY = "SigmaGraftPreprocessor", "SigmaGraft Preprocessor", CATEGORY
    RETURN_TYPES = ("IMAGE",)
    DESCRIPTION = "The hint of a picture, at the picture's size."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        named = PREPROCESSORS.names()
        return {
            "required": {
                **_IMAGE,
                "preprocessor": (named, {"default": "canny", "tooltip": "what makes the hint"}),
                "options": _OPTIONS,
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, preprocessor: str | None = None, options: str | None = None) -> bool | str:
        """True, or which option cannot be."""
        return cls.checked(lambda: preprocessor is None or options_of(preprocessor, options or ""))

    def make(self, image: Any, preprocessor: str, options: str) -> tuple[Any]:
        given = options_of(preprocessor, options)
        return (hints_of(PREPROCESSORS[preprocessor], pictures(image), given),)


def hints_of(spec: Preprocessor, images: Sequence[Image.Image], options: Mapping[str, Any]) -> Any:
    """IMAGE of the hints of pictures."""
    return tensor_of([spec(image, options) for image in images])


def preprocessor_node(spec: Preprocessor) -> type[Node]:
    """The node of one preprocessor."""
    holes: dict[str, Field] = {"mask": ("MASK", {"tooltip": "what is to be repainted"})} if spec.holes else {}
    words = {name: text(told) for name, told in (spec.texts or {}).items()}

    def input_types(cls: type) -> dict[str, dict[str, Field]]:
        return {"required": dict(_IMAGE), "optional": holes | fields_of(spec.options) | words}

    def make(self: Node, image: Any, mask: Any = None, **widgets: Any) -> tuple[Any]:
        given = values_of(spec.options, widgets)
        texts = {name: widgets[name] for name in words if (widgets.get(name) or "").strip()}
        hole = mask_picture(mask)
        return (hints_of(spec, [with_holes(one, hole) for one in pictures(image)], given | texts),)

    return type(
        f"Preprocess_{spec.name}",
        (Node,),
        {
            "ID": f"SigmaGraftPreprocess_{spec.name}",
            "TITLE": f"SigmaGraft {spec.label} Preprocessor",
            "CATEGORY": f"{CATEGORY}/preprocessors",
            "RETURN_TYPES": ("IMAGE",),
            "DESCRIPTION": " ".join(spec.doc.split()),
            "INPUT_TYPES": classmethod(input_types),
            "make": make,
        },
    )


class CollectHints(Node):
    """Hints of several kinds for one control."""

    ID, TITLE, CATEGORY = "SigmaGraftControlHints", "SigmaGraft Collect Hints", CATEGORY
    RETURN_TYPES = (HINTS,)
    DESCRIPTION = (
        "Adds pictures to a list of hints: several types for one pass of a ControlNet-Union, or pictures of different "
        "sizes, one for each image of a batch."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        named = PREPROCESSORS.names()
        return {
            "required": {
                **_IMAGE,
                "preprocessor": (named, {"tooltip": "what makes the hint; none: the image is one"}),
                "options": _OPTIONS,
                "type": ([NO_TYPE, *TYPES], {"tooltip": "of a ControlNet-Union; none for any other control"}),
            },
            "optional": {"hints": (HINTS, {"tooltip": "the ones before"})},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, preprocessor: str | None = None, options: str | None = None) -> bool | str:
        """True, or which option cannot be."""
        return cls.checked(lambda: preprocessor is None or options_of(preprocessor, options or ""))

    def make(
        self, image: Any, preprocessor: str, options: str, type: str, hints: Sequence[Hint] = ()
    ) -> tuple[list[Hint]]:
        kind = "" if type == NO_TYPE else type
        if any(bool(hint.type) != bool(kind) for hint in hints):
            raise OptionError("hints with and without a type", expected="a type for each, or for none")
        spec, given = PREPROCESSORS[preprocessor], options_of(preprocessor, options)
        return ([*hints, *(Hint(spec(one, given), kind) for one in pictures(image))],)
