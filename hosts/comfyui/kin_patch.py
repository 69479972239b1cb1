"""The guidance kin in a walk of ComfyUI: its cfg function, its attention and its output blocks, for that walk alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from ...core.blocks import attend
from ...core.errors import OptionError
from ...core.patch import Branch, EvaluationPatch, OutputPatch, SkipPatch, StepInfo
from ...guidance import Chosen, Kin, Setting
from ..control_config import config_of
from ..guidance import Walk, of_network
from . import comfy
from .levels import sampling_levels

KEY = "sigmagraft_kin"
_BRANCHES: dict[int, Branch] = {0: "cond", 1: "uncond"}


def with_guidance(model: Any, chosen: Chosen) -> Any:
    """A clone of `model` whose walks are guided by this one too. OptionError where it is there already."""
    wrappers = comfy("patcher_extension").WrappersMP
    before: tuple[Chosen, ...] = model.model_options.get(KEY, ())
    if any(one.spec.name == chosen.spec.name for one in before):
        raise OptionError(f"guidance {chosen.spec.name} twice", expected="each once")
    clone = model.clone()
    clone.model_options[KEY] = (*before, chosen)
    if not before:
        clone.add_wrapper_with_key(wrappers.SAMPLER_SAMPLE, KEY, _begin)
    return clone


def _begin(executor: Any, guider: Any, sigmas: Any, extra_args: Any, *rest: Any, **named: Any) -> Any:
    """One walk: its options are the walk's own, so nothing of this stays in the model."""
    options = extra_args["model_options"]
    if "sampler_cfg_function" in options:
        raise OptionError(
            "a node that replaces the cfg function beside guidance of SigmaGraft",
            todo="leave out one of the two",
        )
    base = guider.inner_model
    levels = sampling_levels(base.model_sampling)
    chosen: Sequence[Chosen] = options[KEY]
    config = config_of(base.diffusion_model) if of_network(chosen) else None
    walk = Walk.begin(chosen, sigmas.tolist(), Setting(config, levels.is_flow))
    _patch(options, walk)
    options["sampler_cfg_function"] = partial(_guided, walk)
    return executor(guider, sigmas, extra_args, *rest, **named)


def _guided(walk: Walk, args: dict[str, Any]) -> Tensor:
    """What the host subtracts from x."""
    x, sigma = args["input"], float(args["sigma"].flatten()[0])
    alone = args.get("input_uncond") is None
    guided = walk.denoised(
        x,
        sigma,
        args["cond_denoised"],
        None if alone else args["uncond_denoised"],
        float(args["cond_scale"]),
        partial(_again, args),
    )
    return x - guided


def _again(
    args: dict[str, Any], x: Tensor, negative: bool = False, patches: Sequence[EvaluationPatch] = ()
) -> Tensor:
    """The model's denoised once more, with patches."""
    options = comfy("model_patcher").create_model_options_clone(args["model_options"])
    told = options.setdefault("transformer_options", {})
    told[KEY] = True  # what watches the first evaluation does not look
    _install(told, patches, lambda told: True)
    conds = [args["input_uncond"] if negative else args["input_cond"]]
    (found,) = comfy("samplers").calc_cond_batch(args["model"], conds, x, args["sigma"], options)
    return found


def _patch(options: dict[str, Any], walk: Walk) -> None:
    """What changes the network, and what watches it, while each acts."""
    told = options.setdefault("transformer_options", {})
    for kin in walk.kin:
        acts = partial(_acts, walk, kin)
        _install(told, kin.guidance.patches(), acts)
        _install(told, kin.guidance.watching(), lambda told, acts=acts: not told.get(KEY) and acts(told))


def _acts(walk: Walk, kin: Kin, told: dict[str, Any]) -> bool:
    """Asked by every patched layer; reading a sigma waits for the device, which a guidance of all steps spares."""
    if kin.start <= 0.0 and kin.stop >= 1.0:
        return True
    place = walk.place(float(told["sigmas"].flatten()[0]))
    return kin.acts(place.step, place.steps)


def _install(
    told: dict[str, Any], patches: Sequence[EvaluationPatch], acts: Callable[[dict[str, Any]], bool]
) -> None:
    for patch in patches:
        if isinstance(patch, SkipPatch):
            listed = told["patches"] = dict(told.get("patches", {}))
            listed["output_block_patch"] = [
                *listed.get("output_block_patch", ()),
                partial(_skip, patch, acts),
            ]
        elif isinstance(patch, OutputPatch):
            replaced = told["patches_replace"] = dict(told.get("patches_replace", {}))
            place = (*patch.block, patch.index)
            listed = replaced[patch.attention] = dict(replaced.get(patch.attention, {}))
            listed[place] = partial(_remade, patch, acts, listed.get(place))


def _skip(
    patch: SkipPatch, acts: Any, x: Tensor, skip: Tensor, told: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    here = tuple(told.get("block", ())) == patch.block and acts(told)
    return patch.change(x, skip, StepInfo()) if here else (x, skip)


def _remade(
    patch: OutputPatch,
    acts: Any,
    before: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    told: dict[str, Any],
    **more: Any,
) -> Tensor:
    """What the attention makes, by another's patch where there is one, then changed."""
    out = before(q, k, v, told, **more) if before else attend(q, k, v, told["n_heads"])
    if not acts(told):
        return out
    info = StepInfo(branches=tuple(_BRANCHES[side] for side in told.get("cond_or_uncond", ())))
    return patch.change(out, q, k, v, info)
