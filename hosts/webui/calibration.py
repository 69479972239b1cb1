"""Calibrations in a web UI: the files in its folder of models, and their own levels in the place of a schedule."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import OptionError
from ...samplers.spec import SamplerSpec
from ..calibrations import FOLDER, calibration_offers
from ..offers import SamplerOffer


def folders() -> list[Path]:
    """models/sigmagraft, wherever this web UI has its models."""
    models = getattr(sys.modules.get("modules.paths"), "models_path", None)
    return [Path(models, FOLDER)] if models else []


def fitted_offers(taken: Sequence[str]) -> list[SamplerOffer]:
    """The calibrations whose file names nothing in the host's list has."""
    known = {name.lower() for name in taken}
    return [offer for offer in calibration_offers(folders()) if offer.name.lower() not in known]


def own_levels(spec: SamplerSpec, steps: int) -> list[float]:
    """The levels of a sampler that has some. OptionError where another number of steps was asked for."""
    own = len(spec.sigmas) - 1
    if steps != own:
        raise OptionError(
            f"{steps} steps",
            f"sampler {Path(spec.name).name}",
            f"its own {own} steps",
            f"ask for {own}; hires fix walks the end of steps / denoising: there ask for {own} x denoising",
        )
    return list(spec.sigmas)
