"""A sampler of ours as an entry of a web UI's list: its constructor, its function, and how long a walk is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from modules import sd_samplers_common, sd_samplers_kdiffusion, sd_schedulers
from torch import Tensor

from ...samplers.levels import NoiseLevels
from ...samplers.spec import Noise
from ..offers import SamplerOffer
from ..run import host_function
from .calibration import own_levels
from .choice import choice_of, current, set_current
from .model import is_flow, levels_of, step_noise_of

ON_FLOW = (
    "simple"  # what Automatic means on rectified flow, where the schedules of diffusion models are wrong
)


class Entry(sd_samplers_common.SamplerData):
    """A list entry that tells how many evaluations a walk takes: refiner, prompt editing and NGMS count in them."""

    sigmagraft_offer: SamplerOffer

    def total_steps(self, steps: int) -> int:
        return max(self.sigmagraft_offer.spec.cost(steps), steps)


class Walker(sd_samplers_kdiffusion.KDiffusionSampler):
    """The host's own sampler class around our function: it samples, inpaints, interrupts and writes as for its own."""

    def get_sigmas(self, p: Any, steps: int) -> Tensor:
        """As the host's, with the options chosen for the schedule; a sampler with levels of its own has no other."""
        spec = self.config.sigmagraft_offer.spec
        if spec.sigmas:
            return torch.tensor(own_levels(spec, steps), dtype=torch.float32)
        if is_flow(self.model_wrap_cfg.inner_model):
            self.config = _with_schedule(self.config, ON_FLOW)
        before = current()
        set_current(choice_of(p))
        try:
            return super().get_sigmas(p, steps)
        finally:
            set_current(before)


def _with_schedule(entry: Any, schedule: str) -> Any:
    changed = entry._replace(options={**entry.options, "scheduler": schedule})
    changed.sigmagraft_offer = entry.sigmagraft_offer
    return changed


def sampler_data(offer: SamplerOffer, label: str) -> Entry:
    """The entry for the host's list. Option values are texts and flags only: others break a host's API for all."""
    function = walk(offer)
    default = offer.spec.default_schedule
    known = sd_schedulers.schedulers_map
    options: dict[str, Any] = {"scheduler": default if default in known else "karras"}
    # its pictures tell the seed delta, which the host's generators, not a path, are moved by
    if (offer.spec.stochastic or offer.spec.noise_option) and not offer.spec.brownian:
        options["uses_ensd"] = True
    return Entry(label, lambda model: Walker(function, model), [offer.name], options)


def walk(offer: SamplerOffer) -> Callable[..., Tensor]:
    """sample(model, x, sigmas, extra_args, callback, disable).

    No option stands in the signature: a host would fill those it knows by name with its own global values.
    """

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        choice = choice_of(model.p)
        options = choice.options_for(offer, bool(getattr(model.p, "is_hr_pass", False)))
        spec = choice.around(offer.spec) if offer.name == choice.sampler else offer.spec
        run = SamplerOffer(offer.name, offer.label, spec, offer.preset)
        noise_type = choice.noise_type

        def noise(model: Any, x: Tensor, sigmas: list[float], levels: NoiseLevels, extra: object) -> Noise:
            return step_noise_of(spec, model.p, x, sigmas, levels, noise_type)

        inner = host_function(run, lambda model, sigmas: levels_of(model.inner_model), noise, options)
        return inner(model, x, sigmas, extra_args, callback, disable)

    sample.__name__ = sample.__qualname__ = f"sample_{offer.name}"
    return sample
