"""Motion modules on a MODEL: attention over the frames of a batch, windows over long batches, the levels they know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ...animate.files import MotionFile
from ...animate.norms import over_frames
from ...animate.windows import Plan, Window, fused
from ...samplers.levels import NoiseLevels
from ..motion import MotionAsk
from ..picking import picked
from . import comfy
from .control_patch import KEY as CONTROL
from .control_patch import controlled

KEY = "sigmagraft_motion"


def animated(model: Any, ask: MotionAsk, networks: Sequence[Any], plan: Plan, model_betas: bool) -> Any:
    """A clone of `model` whose batches are clips."""
    wrappers = comfy("patcher_extension").WrappersMP
    clone = controlled(model, ask, networks)
    longest = ask.file.config.length

    def evaluate(executor: Any, x: Any, timesteps: Any, context: Any, *rest: Any, **named: Any) -> Any:
        return _windowed(executor, plan, longest, ask.volume, (x, timesteps, context, *rest), named)

    others = {key: found for key, found in clone.wrappers[wrappers.DIFFUSION_MODEL].items() if key != KEY}
    # before those of controls, which then see one window as everything else does
    clone.wrappers[wrappers.DIFFUSION_MODEL] = {KEY: [evaluate], **others}
    if (sampling := None if model_betas else _sampling(model, ask.file)) is not None:
        clone.add_object_patch("model_sampling", sampling)
    return clone


def _sampling(model: Any, file: MotionFile) -> Any:
    """The model's sampling on the levels the modules were trained on; None where they are the model's."""
    now = model.get_model_object("model_sampling")
    discrete = comfy("model_sampling").ModelSamplingDiscrete
    if file.betas is None or not isinstance(now, discrete):
        return None
    made = type(now)(model.model.model_config)
    made.set_sigmas(torch.tensor(NoiseLevels.discrete(**file.betas).sigmas))
    return made


def _windowed(
    executor: Any,
    plan: Plan,
    longest: int,
    volume: bool,
    given: tuple[Any, ...],
    named: Mapping[str, Any],
) -> Any:
    """One evaluation of [branches * frames], window by window where the frames are too many for one."""
    names = ("x", "timesteps", "context", "y", "control", "transformer_options")
    told = {**dict(zip(names, given, strict=False)), **named}
    x, options = told.pop("x"), told.pop("transformer_options", None) or {}
    parts = len(options.get("cond_or_uncond", (0,)))
    frames, network = len(x) // parts, executor.class_obj
    fits = frames <= min(longest, plan.length)
    windows = [Window(tuple(range(frames)), ())] if fits else plan.windows(frames, _step(options))

    def see(window: Window) -> Tensor:
        rows = [part * frames + row for part in range(parts) for row in window.rows]
        whole = len(rows) == len(x)
        one = options if whole else {**options, f"{CONTROL}_rows": window.rows}
        seen = {name: value if whole else picked(value, rows, len(x)) for name, value in told.items()}
        found = executor(x if whole else x[rows], **seen, transformer_options=one)
        return found.unflatten(0, (parts, -1))

    with over_frames(network, lambda: parts) if volume else nullcontext():
        return fused(windows, see, x.unflatten(0, (parts, frames)), 1).flatten(0, 1)


def _step(options: Mapping[str, Any]) -> int:
    """Which step of the walk an evaluation is of."""
    walk, now = options.get("sample_sigmas"), options.get("sigmas")
    return 0 if walk is None or now is None else int((walk > now.flatten()[0].to(walk)).sum())
