"""SD.Next, which takes scheduler classes of one evaluation a step: our samplers of that kind that it lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modules import script_callbacks, sd_samplers, sd_samplers_diffusers

from ..samplers.spec import SamplerSpec
from ..schedulers.scheduler import Scheduler
from ..schedulers.table_common import NOISY
from ..schedulers.table_sigma import EULER
from .log import guarded, logger
from .offers import SamplerOffer, sampler_offers

HEADING = "── SigmaGraft ──"  # the host's dropdown shows such an entry as a line between groups
# entries of a scheduler's config that the host fills from its own settings
CONFIG = {
    "steps_offset": 0,
    "timestep_spacing": "linspace",
    "final_sigmas_type": "zero",
    "rescale_betas_zero_snr": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}


def start() -> None:
    """Put our samplers into the host's list, once, and take them out when it loads its extensions again."""
    stop()
    listed = sd_samplers_diffusers.samplers_data_diffusers
    found = [offer for offer in sampler_offers([entry.name for entry in listed]) if _fits(offer)]
    if found:
        listed.append(_entry(HEADING, None))
    for offer in found:
        listed.append(_entry(offer.label, _constructor(offer)))
        sd_samplers_diffusers.config[offer.label] = dict(CONFIG)
    sd_samplers.list_samplers()
    script_callbacks.on_script_unloaded(_leave)
    logger.info("SigmaGraft: %d samplers added", len(found))


def stop() -> None:
    """Leave the host's list as it was without us."""
    listed = sd_samplers_diffusers.samplers_data_diffusers
    for entry in [entry for entry in listed if hasattr(entry, "sigmagraft")]:
        sd_samplers_diffusers.config.pop(entry.name, None)
        listed.remove(entry)
    sd_samplers.list_samplers()


def _leave() -> None:
    with guarded("leaving"):
        stop()


def _fits(offer: SamplerOffer) -> bool:
    """A step is one evaluation, on diffusion models: the host's loop asks the model once for each timestep."""
    spec = offer.spec
    plain = offer.name == spec.name and not spec.distilled
    return plain and spec.evaluations == 1 and not spec.extra and not spec.adaptive


def scheduler_class(spec: SamplerSpec) -> type[Scheduler]:
    """A scheduler class with Euler's config and this method."""
    row = replace(EULER, sampler=spec.name, alone=False, kin=False, step=NOISY, refused={})
    name = f"SigmaGraft{''.join(word.title() for word in spec.name.split('_'))}Scheduler"
    return type(name, (Scheduler,), {"__doc__": spec.method.__doc__}, row=row)


def _constructor(offer: SamplerOffer) -> Any:
    kind = scheduler_class(offer.spec)
    return lambda model: sd_samplers_diffusers.DiffusionSampler(offer.label, kind, model)


def _entry(name: str, constructor: Any) -> Any:
    class Entry(sd_samplers_diffusers.SamplerData):
        sigmagraft = True

    return Entry(name, constructor, [], {})
