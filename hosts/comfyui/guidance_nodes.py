"""How strongly the prompt pulls at each sigma, as patches of a MODEL: CFG++ and the guidance interval.

Both set the guider's cfg for one evaluation, so they go with whatever else changes guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...core.errors import OptionError
from ...samplers.guidance_weight import Interval, plus_plus, within
from ...samplers.spec import SAMPLERS, SamplerSpec
from ..offers import EXACT_ON_FLOW
from . import comfy
from .fields import Field
from .function import choice_of
from .levels import sampling_levels
from .node import Node

KEY = "sigmagraft_guidance"
Pull = Callable[[float, float], float]  # (cfg so far, sigma) -> cfg
PullOf = Callable[[Any, Any, list[float]], Pull]  # (guider, sampler, sigmas) -> Pull


def patched(model: Any, pull_of: PullOf, rank: int) -> Any:
    """A clone of `model` under which every walk asks `pull_of` once and its Pull before each evaluation.

    Args:
        rank: which of several acts first.
    """
    wrappers = comfy("patcher_extension").WrappersMP

    def begin(executor: Any, guider: Any, sigmas: Any, extra_args: Any, *rest: Any, **named: Any) -> Any:
        told = extra_args["model_options"].setdefault("transformer_options", {})
        pull = pull_of(guider, executor.class_obj, sigmas.tolist())
        told[KEY] = [*told.get(KEY, ()), (rank, pull)]
        return executor(guider, sigmas, extra_args, *rest, **named)

    clone = model.clone()
    clone.add_wrapper_with_key(wrappers.SAMPLER_SAMPLE, KEY, begin)
    clone.add_wrapper_with_key(wrappers.PREDICT_NOISE, KEY, _predict)
    return clone


def _predict(
    executor: Any, x: Any, timestep: Any, model_options: Any = None, *rest: Any, **named: Any
) -> Any:
    pulls: Sequence[tuple[int, Pull]] = (model_options or {}).get("transformer_options", {}).get(KEY, ())
    guider = executor.class_obj
    before = guider.cfg
    sigma = float(timestep.flatten()[0])
    for _, pull in sorted(pulls, key=lambda ranked: ranked[0]):
        guider.cfg = pull(guider.cfg, sigma)
    try:
        return executor(x, timestep, model_options, *rest, **named)
    finally:
        guider.cfg = before


def _needs_negative(guider: Any, what: str) -> None:
    if not getattr(guider, "conds", {}).get("negative"):
        raise OptionError(
            f"{what} without a negative prompt", type(guider).__name__, "a CFGGuider or KSampler"
        )


def spec_of(sampler: Any, is_flow: bool) -> tuple[SamplerSpec, dict[str, Any]]:
    """Our description of a SAMPLER, with its options. Raises OptionError where there is none."""
    function = getattr(sampler, "sampler_function", None)
    choice = choice_of(function)
    given = dict(getattr(sampler, "extra_options", {}))
    if choice is not None:
        return choice.offer.spec, {**choice.offer.preset, **choice.options, **given}
    name = getattr(function, "__name__", "").removeprefix("sample_")
    if name not in SAMPLERS or (is_flow and SAMPLERS[name].name in EXACT_ON_FLOW):
        raise OptionError(
            f"CFG++ with sampler {name or type(sampler).__name__}",
            todo="take a sampler of SigmaGraft, or one of ComfyUI's whose name ends in cfg_pp without this node",
        )
    known = {option.name for option in SAMPLERS[name].options}
    return SAMPLERS[name], {key: value for key, value in given.items() if key in known}


class PlusPlusNode(Node):
    """CFG++ with any sampler whose steps are known."""

    ID, TITLE = "SigmaGraftCFGPP", "SigmaGraft CFG++"
    CATEGORY = "SigmaGraft/guidance"
    RETURN_TYPES = ("MODEL",)
    DESCRIPTION = (
        "CFG++ (arXiv:2406.08070): steps with the guided image and the unconditional noise. Takes the place of the "
        "sampler's cfg; 0.6 pulls about as strongly as cfg 7."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        scale = {"default": 0.6, "min": 0.0, "max": 3.0, "step": 0.05, "round": False}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "the model to guide"}),
                "scale": ("FLOAT", {**scale, "tooltip": "how strongly the prompt pulls; 0 is not at all"}),
            }
        }

    def make(self, model: Any, scale: float) -> tuple[Any]:
        def pull_of(guider: Any, sampler: Any, sigmas: list[float]) -> Pull:
            _needs_negative(guider, "CFG++")
            if len(sigmas) < 2:
                return lambda cfg, sigma: cfg
            levels = sampling_levels(guider.inner_model.model_sampling)
            spec, options = spec_of(sampler, levels.is_flow)
            weight = plus_plus(scale, spec, levels.check(sigmas), levels, options)
            return lambda cfg, sigma: weight(sigma)

        return (patched(model, pull_of, rank=0),)


class IntervalNode(Node):
    """Guidance only within an interval."""

    ID, TITLE = "SigmaGraftGuidanceInterval", "SigmaGraft Guidance Interval"
    CATEGORY = "SigmaGraft/guidance"
    RETURN_TYPES = ("MODEL",)
    DESCRIPTION = (
        "Guides only within an interval (arXiv:2404.07724); outside the prompt acts alone, as at cfg 1."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        told = "20%-80% of the steps, or 0.3-5.4 in sigma"
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "the model to guide"}),
                "interval": ("STRING", {"default": "20%-80%", "tooltip": told}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, interval: str | None = None) -> bool | str:
        """True, or why this is no interval."""
        return cls.checked(lambda: interval is None or Interval.read(interval))

    def make(self, model: Any, interval: str) -> tuple[Any]:
        read = Interval.read(interval)

        def pull_of(guider: Any, sampler: Any, sigmas: list[float]) -> Pull:
            if len(sigmas) < 2:
                return lambda cfg, sigma: cfg
            inside = within(lambda sigma: 0.0, read, sigmas)
            return lambda cfg, sigma: cfg if inside(sigma) == 0.0 else 1.0

        return (patched(model, pull_of, rank=1),)
