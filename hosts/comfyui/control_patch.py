"""Controls and image prompts on a MODEL: wrappers of its walks and of its UNet, and nothing else.

All that acts is made when a walk begins and put into one evaluation's own options, so clones share nothing that
changes, nodes may stand in any order, and taking one out is not connecting it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.patch import Branch, Inputs, StepInfo
from ..control_options import grafted
from ..control_run import Ask, ControlRun
from . import comfy
from .control_host import host_of

KEY = "sigmagraft_control"


def controlled(model: Any, ask: Ask, networks: Sequence[Any] = ()) -> Any:
    """A clone of `model` whose walks do what is asked; `networks` are ModelPatchers it needs on the device."""
    wrappers = comfy("patcher_extension").WrappersMP

    def begin(
        executor: Any,
        guider: Any,
        sigmas: Any,
        extra_args: Any,
        callback: Any,
        noise: Any,
        *rest: Any,
        **named: Any,
    ) -> Any:
        if len(sigmas) > 1:
            _run_of(guider, sigmas, extra_args, noise).add(ask)
        return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)

    clone = model.clone()
    clone.add_wrapper_with_key(wrappers.SAMPLER_SAMPLE, KEY, begin)
    if not clone.get_wrappers(wrappers.DIFFUSION_MODEL, KEY):
        clone.add_wrapper_with_key(wrappers.DIFFUSION_MODEL, KEY, _evaluate)
    kept = clone.get_additional_models_with_key(KEY)
    new = [
        one for one in networks if not any(one.model is other.model for other in kept)
    ]  # kept ones are clones
    clone.set_additional_models(KEY, [*kept, *new])
    return clone


def _run_of(guider: Any, sigmas: Any, extra_args: Any, noise: Any) -> ControlRun:
    """The run of this walk, the same for all nodes."""
    told = extra_args["model_options"].setdefault("transformer_options", {})
    if KEY not in told:
        seed = extra_args.get("seed")
        told[KEY] = ControlRun(
            lambda evaluate: host_of(guider, sigmas.tolist(), noise, seed, evaluate), grafted
        )
        told[f"{KEY}_roles"] = _roles(guider)
    return told[KEY]


def _roles(guider: Any) -> dict[Any, Branch]:
    """Whose conditioning is whose: guiders with several prompts number them in orders of their own."""
    return {
        cond.get("uuid"): "uncond" if "negative" in name else "cond"
        for name, conds in getattr(guider, "conds", {}).items()
        for cond in conds or ()
        if isinstance(cond, Mapping)
    }


def _evaluate(
    executor: Any,
    x: Any,
    timesteps: Any,
    context: Any,
    y: Any = None,
    control: Any = None,
    transformer_options: Any = None,
    **rest: Any,
) -> Any:
    options = transformer_options or {}
    run = options.get(KEY)
    if run is None:
        return executor(x, timesteps, context, y, control, options, **rest)

    def call(inputs: Inputs, told: Any) -> Any:
        return executor(inputs.x, inputs.timesteps, inputs.context, inputs.vector, None, told, **rest)

    sigma = float(options["sigmas"].flatten()[0])
    rows = options.get(f"{KEY}_rows", ())  # of a window over frames
    info = StepInfo(sigma, branches=_branches(options), inputs=Inputs(x, timesteps, context, y), rows=rows)
    with run.around(executor.class_obj, info, options, call) as told:
        return executor(x, timesteps, context, y, control, told, **rest)


def _branches(options: Mapping[str, Any]) -> tuple[Branch, ...]:
    numbers = options.get("cond_or_uncond", (0,))
    names = options.get("uuids") or [None] * len(numbers)
    roles = options.get(f"{KEY}_roles", {})
    return tuple(
        roles.get(name, "uncond" if number else "cond") for name, number in zip(names, numbers, strict=True)
    )
