"""Whether what was fitted to a model (statistics, a calibration) fits the model and the guidance it is used with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.errors import OptionError
from ..samplers.calibration import CalibratedSpec
from ..samplers.dpm_v3 import StatisticsSpec
from ..samplers.spec import SamplerSpec
from .model import Model

if TYPE_CHECKING:
    from .request import Request

FAR = 1.5  # by what factor guidance, or a side of the picture, may differ without a warning
SAMPLED, TOLERANCE = 64, 1e-3  # tensors and relative difference: more than another dtype's rounding makes


class Words(NamedTuple):
    """How messages speak of one kind of fit."""

    these: str
    made: str
    command: str
    plus_plus: str


WORDS: dict[type[SamplerSpec], Words] = {
    StatisticsSpec: Words(
        "these statistics are",
        "measured",
        "sigmagraft statistics",
        "cfg++ needs every channel to keep the same share",
    ),
    CalibratedSpec: Words(
        "this calibration is", "fitted", "sigmagraft calibrate", "it was fitted under cfg, not cfg++"
    ),
}


def fingerprint(model: Model) -> list[float]:
    """The mean magnitude of the beginnings of some of the UNet's tensors: the same in any dtype, within rounding."""
    weights = [weight for weight in model.unet.parameters() if weight.numel() >= 256]
    chosen = weights[:: max(len(weights) // SAMPLED, 1)][:SAMPLED]
    return [weight.detach().flatten()[:256].float().abs().mean().item() for weight in chosen]


def check_fit(spec: SamplerSpec, model: Model, request: Request) -> None:
    """Refuses a fit to another kind of model; warns of one to another model, or to far other guidance or size.

    Raises OptionError where family, prediction or levels differ, or with cfg++.
    """
    if not isinstance(spec, StatisticsSpec | CalibratedSpec):
        return
    facts, info, words = spec.facts, model.info, WORDS[type(spec)]
    if request.base != "cfg":
        raise OptionError(words.plus_plus, f"sampler {spec.name}", todo="use guidance cfg")
    for name in ("family", "prediction", "zero_snr", "shift"):
        if name in facts and facts[name] != getattr(info, name):
            what = f"{words.these} of a model with {name} {facts[name]}, this one's is {getattr(info, name)}"
            raise OptionError(what, f"sampler {spec.name}", todo=f"make one for this model: {words.command}")
    for said in _doubts(facts, model, request, isinstance(spec, CalibratedSpec)):
        warnings.warn(f"{spec.name}: {words.made} {said}; {words.command} makes it anew", stacklevel=3)


def _doubts(facts: Mapping[str, Any], model: Model, request: Request, sized: bool) -> Iterator[str]:
    if "fingerprint" in facts and not _alike(facts["fingerprint"], fingerprint(model)):
        yield f"on another model ({facts.get('model')}), so it may not help"
    fitted, cfg = facts.get("guidance"), request.cfg
    if fitted is not None and cfg is not None:
        strong, weak = max(abs(fitted), abs(cfg), 1.0), max(min(abs(fitted), abs(cfg)), 1.0)
        if strong > FAR * weak:
            yield f"at cfg {fitted:g}, this is {cfg:g}"
    size = facts.get("size")
    if (
        sized
        and size
        and not all(a <= FAR * b <= FAR**2 * a for a, b in zip(size, _size(request), strict=True))
    ):
        yield "at {}x{}, this is {}x{}".format(*size, *_size(request))


def _size(request: Request) -> tuple[int, int]:
    return request.width, request.height


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in zip(one, other, strict=True)
    )
