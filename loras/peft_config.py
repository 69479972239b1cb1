"""What a PEFT configuration adds to the tensors: alpha, rank patterns, rank-stabilised scale, OFT's series.

It stands in adapter_config.json beside the file, or in the header of a file that diffusers wrote.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import FileError

HEADER = "lora_adapter_metadata"


class PeftConfig:
    """The fields of one network's configuration, or of several by prefix (`unet.`, `text_encoder.`)."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields

    def get(self, name: str, stem: str = "", default: Any = None) -> Any:
        """A field, of the network that the module ``stem`` belongs to where they differ."""
        network = stem.partition(".")[0]
        return self.fields.get(f"{network}.{name}", self.fields.get(name, default))

    def alpha_of(self, stem: str) -> float | None:
        """lora_alpha (of other tuners: alpha) of a module, its pattern first."""
        found = self._pattern("alpha_pattern", stem)
        if found is None:
            found = self.get("lora_alpha", stem, self.get("alpha", stem))
        return None if found is None else float(found)

    def scale(self, stem: str, rank: int) -> float:
        """alpha / rank, or alpha / sqrt(rank) where it is rank-stabilised (arXiv:2312.03732)."""
        alpha = self.alpha_of(stem)
        divisor = math.sqrt(rank) if self.get("use_rslora", stem) else rank
        return 1.0 if alpha is None else alpha / divisor

    def saves_whole(self, stem: str) -> bool:
        """Whether this module was trained whole, and its weight stored as it stands."""
        names = self.get("modules_to_save", stem) or ()
        return any(stem == name or stem.endswith(f".{name}") for name in names)

    def _pattern(self, name: str, stem: str) -> Any:
        """PEFT's patterns: keys are regular expressions that match the end of a module's name."""
        patterns = self.get(name, stem) or {}
        return next((v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", stem)), None)


def find_config(path: Path, metadata: Mapping[str, str]) -> PeftConfig | None:
    """The configuration in a file's header, or in adapter_config.json beside it; FileError where it is no JSON."""
    beside = path.parent / "adapter_config.json"
    if HEADER in metadata:
        return PeftConfig(_object(metadata[HEADER], path))
    if path.stem == "adapter_model" and beside.is_file():
        return PeftConfig(_object(beside.read_text(encoding="utf-8"), beside))
    return None


def _object(text: str, where: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FileError(f"its adapter configuration is not JSON: {error}", where) from error
    if not isinstance(found, dict):
        raise FileError("its adapter configuration is no JSON object", where)
    return found
