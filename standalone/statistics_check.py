"""Whether statistics fit the model and the guidance that they are used with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import OptionError
from ..samplers.dpm_v3 import StatisticsSpec
from ..samplers.spec import SamplerSpec
from .model import Model

if TYPE_CHECKING:
    from .request import Request

FAR = 1.5  # by what factor guidance may differ from that of the measurement without a warning
SAMPLED, TOLERANCE = 64, 1e-3  # tensors and relative difference: more than another dtype's rounding makes


def fingerprint(model: Model) -> list[float]:
    """The mean magnitude of the beginnings of some of the UNet's tensors: the same in any dtype, within rounding."""
    weights = [weight for weight in model.unet.parameters() if weight.numel() >= 256]
    chosen = weights[:: max(len(weights) // SAMPLED, 1)][:SAMPLED]
    return [weight.detach().flatten()[:256].float().abs().mean().item() for weight in chosen]


def check_statistics(spec: SamplerSpec, model: Model, request: Request) -> None:
    """Refuses statistics of another kind of model; warns of those of another model, or of far other guidance.

    Raises OptionError where family, prediction or levels differ, or with cfg++.
    """
    if not isinstance(spec, StatisticsSpec):
        return
    facts, info = spec.statistics.facts, model.info
    if request.guidance != "cfg":
        raise OptionError(
            "cfg++ needs every channel to keep the same share",
            f"sampler {spec.name}",
            todo="use guidance cfg",
        )
    for name in ("family", "prediction", "zero_snr", "shift"):
        if name in facts and facts[name] != getattr(info, name):
            what = f"these statistics are of a model with {name} {facts[name]}, this one's is {getattr(info, name)}"
            raise OptionError(
                what, f"sampler {spec.name}", todo="measure this model's: sigmagraft statistics"
            )
    for said in _doubts(facts, model, request):
        warnings.warn(f"{spec.name}: {said}; sigmagraft statistics measures anew", stacklevel=3)


def _doubts(facts: Mapping[str, Any], model: Model, request: Request) -> list[str]:
    doubts = []
    if "fingerprint" in facts and not _alike(facts["fingerprint"], fingerprint(model)):
        doubts.append(f"measured on another model ({facts.get('model')}), so they may not help")
    measured, cfg = facts.get("guidance"), request.cfg
    if measured is not None and cfg is not None:
        strong, weak = max(abs(measured), abs(cfg), 1.0), max(min(abs(measured), abs(cfg)), 1.0)
        if strong > FAR * weak:
            doubts.append(f"measured at cfg {measured:g}, this is {cfg:g}")
    return doubts


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in zip(one, other, strict=True)
    )
