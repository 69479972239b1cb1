"""What a calibration was fitted to, and what cannot be fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import OptionError
from .fit_check import fingerprint
from .request import Request

if TYPE_CHECKING:
    from .pipeline import Pipeline

LEAST, MOST = 2, 20  # steps
FEWEST_PROMPTS = 4


def check_asked(steps: int, prompts: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raises OptionError for steps, prompts or guidance that cannot be fitted."""
    if isinstance(steps, bool) or not LEAST <= steps <= MOST:
        raise OptionError(f"steps {steps}", expected=f"{LEAST} to {MOST}", todo="5 to 10 are what it is for")
    if prompts and len(set(prompts)) < FEWEST_PROMPTS:
        raise OptionError(
            f"{len(set(prompts))} prompts",
            expected=f"{FEWEST_PROMPTS} or more that differ",
            todo="or give none and take ours",
        )
    if settings.get("guidance", "cfg") != "cfg":
        raise OptionError(f"a calibration with guidance {settings['guidance']}", expected="cfg")


def facts_of(pipe: Pipeline, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The model, the guidance and the size, in JSON's types. OptionError for a setting that cannot work."""
    info = pipe.info
    request = Request.of("", dict(settings))
    request.resolve(info, pipe.model.vae.factor)
    return {
        "model": pipe.model.source,
        "family": info.family,
        "prediction": info.prediction,
        "zero_snr": info.zero_snr,
        "shift": info.shift,
        "guidance": request.cfg,
        "cfg_rescale": request.cfg_rescale,
        "size": [request.width, request.height],
        "fingerprint": fingerprint(pipe.model),
    }
