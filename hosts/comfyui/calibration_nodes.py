"""A node for solvers fitted to a model: its SAMPLER and its SIGMAS from one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import FileError
from ..calibrations import FOLDER, files_in, offer_in
from ..offers import SamplerOffer
from .fields import Field
from .function import Choice, sampler_function, sampler_object
from .node import Node

NONE = f"none in models/{FOLDER}"  # a dropdown without entries tells nobody what to do
TODO = f"put a file that `sigmagraft calibrate` made into models/{FOLDER}, then choose it"


def folders() -> list[str]:
    """ComfyUI's models/sigmagraft, and what its extra_model_paths.yaml names under `sigmagraft`."""
    paths = sys.modules.get("folder_paths")
    registered = getattr(paths, "folder_names_and_paths", {}).get(FOLDER, ((),))[0]
    models = getattr(paths, "models_dir", None)
    return [*([str(Path(models, FOLDER))] if models else []), *registered]


def chosen(name: str) -> SamplerOffer:
    """The sampler of the file of this name. FileError where it is absent or damaged."""
    path = files_in(folders()).get(name)
    if path is None:
        raise FileError("no such calibration", name, todo=TODO)
    return offer_in(name, path)


class CalibratedNode(Node):
    """A solver fitted to a model, with the levels it walks."""

    ID, TITLE = "SigmaGraftCalibratedSolver", "SigmaGraft Calibrated Solver"
    RETURN_TYPES = ("SAMPLER", "SIGMAS")
    DESCRIPTION = (
        "A solver fitted to one model by `sigmagraft calibrate`: few steps, on levels of its own. Use both outputs "
        "together, at about the guidance and size it was fitted at."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        told = f"a file in models/{FOLDER}; reload the page after adding one"
        return {"required": {"file": (list(files_in(folders())) or [NONE], {"tooltip": told})}}

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None = None) -> bool | str:
        """True, or what is wrong with the file; one that is linked is checked when it runs."""
        return cls.checked(lambda: file is None or chosen(file))

    @classmethod
    def IS_CHANGED(cls, file: str | None = None) -> int:
        """When the file was changed last, so that a new fit under the same name is read."""
        path = files_in(folders()).get(file or "")
        return path.stat().st_mtime_ns if path else 0

    def make(self, file: str) -> tuple[Any, Tensor]:
        offer = chosen(file)
        sampler = sampler_object(sampler_function(Choice(offer)))
        return sampler, torch.tensor(offer.spec.sigmas, dtype=torch.float32)
