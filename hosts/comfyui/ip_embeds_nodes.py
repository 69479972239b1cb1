"""Nodes for what an image encoder found: encode, combine, keep in a file, read from one."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, ClassVar

from ...controlnet.ip_features import COMBINE, Features, combined, joined, load_features, save_features
from ...controlnet.ip_image import CROPS
from ...core.errors import FileError, OptionError
from .control_fields import text
from .control_pictures import pictures
from .fields import Field
from .ip_nodes import ADAPTER, CATEGORY, EMBEDS
from .node import Node

FOLDER = "sigmagraft_embeds"
ENDINGS = (".safetensors", ".ipadpt")
NONE = "none in ComfyUI's input folder"


class EncodeImages(Node):
    """Pictures -> embeds."""

    ID, TITLE, CATEGORY = "SigmaGraftIPAdapterEncode", "SigmaGraft Encode Images", CATEGORY
    RETURN_TYPES = (EMBEDS,)
    DESCRIPTION = "What the image encoder finds in images, for the adapter that is connected."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        return {
            "required": {
                "ipadapter": (ADAPTER, {"tooltip": "whose image encoder's features it takes"}),
                "image": ("IMAGE", {"tooltip": "the images"}),
                "crop": (
                    list(CROPS),
                    {"tooltip": "where the encoder's square is cut from an image; pad: all of it"},
                ),
            },
            "optional": {"clip_vision": ("CLIP_VISION", {"tooltip": "the image encoder"})},
        }

    def make(self, ipadapter: Any, image: Any, crop: str, clip_vision: Any = None) -> tuple[Features]:
        wanted = [name for name in ipadapter.file.inputs if name != "face"]
        if not wanted:
            raise OptionError("images for an adapter that takes faces alone", ipadapter.file.source)
        return (ipadapter.encode(clip_vision)(pictures(image), wanted, crop),)


class CombineEmbeds(Node):
    """Embeds of several images as one list, or as those of one image."""

    ID, TITLE, CATEGORY = "SigmaGraftIPAdapterCombine", "SigmaGraft Combine Embeds", CATEGORY
    RETURN_TYPES = (EMBEDS,)
    DESCRIPTION = "concat keeps all images side by side; the others make one of them."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        return {
            "required": {
                "first": (EMBEDS, {"tooltip": "of subtract: what the others are taken from"}),
                "second": (EMBEDS, {"tooltip": "the others"}),
                "method": (list(COMBINE), {"tooltip": "how several images become one"}),
            },
        }

    def make(self, first: Features, second: Features, method: str) -> tuple[Features]:
        kinds = [[name for name, _ in one.given()] for one in (first, second)]
        if kinds[0] != kinds[1]:
            raise OptionError(
                f"embeds of {' and '.join(kinds[0])} with {' and '.join(kinds[1])}", expected="alike"
            )
        return (combined(joined([first, second]), method),)


class SaveEmbeds(Node):
    """Embeds into a file."""

    ID, TITLE, CATEGORY = "SigmaGraftIPAdapterSave", "SigmaGraft Save Embeds", CATEGORY
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    OUTPUT_NODE = True
    DESCRIPTION = f"Writes embeds to output/{FOLDER}; copied into the input folder they can be loaded."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        return {
            "required": {
                "embeds": (EMBEDS, {"tooltip": "what to write"}),
                "name": text("of the file", "embeds"),
            }
        }

    def make(self, embeds: Features, name: str) -> dict[str, Any]:
        folder = Path(sys.modules["folder_paths"].get_output_directory(), FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        save_features(embeds, _free(folder, re.sub(r"[^\w.-]+", "_", Path(name).name) or "embeds"))
        return {}


def _free(folder: Path, name: str) -> Path:
    """The first NAME_00001.safetensors that is not there."""
    return next(
        path for n in range(1, 100000) if not (path := folder / f"{name}_{n:05}.safetensors").exists()
    )


class LoadEmbeds(Node):
    """Embeds from a file."""

    ID, TITLE, CATEGORY = "SigmaGraftIPAdapterLoad", "SigmaGraft Load Embeds", CATEGORY
    RETURN_TYPES = (EMBEDS,)
    DESCRIPTION = (
        "Image embeds, or face embeddings [n, 512], from a file in ComfyUI's input folder or of Save Embeds: "
        "this package's own, or .ipadpt."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        return {
            "required": {"file": (list(_files()) or [NONE], {"tooltip": "reload the page after adding one"})}
        }

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None = None) -> bool | str:
        """True, or what is wrong with the file."""
        return cls.checked(lambda: file is None or load_features(_chosen(file)))

    @classmethod
    def IS_CHANGED(cls, file: str | None = None) -> int:
        found = _files().get(file or "")
        return found.stat().st_mtime_ns if found else 0

    def make(self, file: str) -> tuple[Features]:
        return (load_features(_chosen(file)),)


def _files() -> dict[str, Path]:
    paths = sys.modules.get("folder_paths")
    if paths is None:
        return {}
    folders = (Path(paths.get_input_directory()), Path(paths.get_output_directory(), FOLDER))
    found = (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()))
    return {path.name: path for path in found if path.suffix.lower() in ENDINGS}


def _chosen(name: str) -> Path:
    found = _files().get(name)
    if found is None:
        raise FileError("no such file", name, todo="put it into ComfyUI's input folder")
    return found
