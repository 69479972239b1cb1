"""Clips from a prompt: motion modules put on a pipeline's model, and all frames drawn together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image
from torch import Tensor

from ..animate.files import MotionFile
from ..animate.free_init import FreeInit
from ..animate.travel import at_frames
from ..animate.windows import Plan
from ..core.errors import OptionError
from . import latents
from .animate_run import ClipRun, Round
from .animate_settings import ClipSettings
from .hub import Hub
from .memory import memory_errors
from .motion import load_motion
from .offload import freeing
from .request import Request
from .run import StepState

if TYPE_CHECKING:
    from .pipeline import Pipeline

_NO_CLIP = ("batch", "mask", "only_masked", "mask_blur", "soft", "hires", "refiner", "switch")
_WHOLE = ("sag",)  # guidances that look at all of a batch in one evaluation


@dataclass(frozen=True)
class Clip:
    """Finished frames and what makes them again."""

    frames: list[Image.Image]
    fps: float
    seeds: list[int]
    settings: dict[str, Any]
    latents: Tensor


class AnimateVerbs:
    """For a pipeline: `load_motion`, then `animate`."""

    motion_file: MotionFile | None = None

    def load_motion(self, source: str | Path, *, revision: str | None = None) -> MotionFile:
        """Put motion modules on the model: a file (AnimateDiff's or diffusers' layout), a folder or a hub id.

        Pictures are drawn as before; LoRAs loaded after this may change the modules. FileError where they do not fit.
        """
        pipe = cast("Pipeline", self)
        file, network = load_motion(source, pipe.model, Hub(revision) if revision else None)
        self.motion_file, pipe.model.motion = file, network
        pipe.loras.renew()
        return file

    def unload_motion(self) -> None:
        """Let go of the motion modules."""
        pipe = cast("Pipeline", self)
        self.motion_file = pipe.model.motion = None
        pipe.loras.renew()

    @torch.inference_mode()
    def animate(
        self,
        prompt: str | list[str] | dict[int, str],
        *,
        callback: Callable[[StepState], None] | None = None,
        decoded: Callable[[int], None] | None = None,
        **settings: Any,
    ) -> Clip:
        """A clip. `prompt`: one, one for each frame, or {frame: text}, between which the words go over.

        ``settings`` are those of a picture (see `Pipeline.__call__`; frame k has seed + k, a control or an image
        prompt one picture or one for each frame), and those of `ClipSettings`: frames (16), fps, windows, free_init,
        free_noise, motion_strength, norms, betas, video with strength, loop. OptionError for one that cannot work,
        OutOfMemory with what to lower.
        """
        pipe, file = cast("Pipeline", self), self.motion_file
        if file is None:
            raise OptionError("no motion modules", todo="call load_motion(FILE) first")
        if barred := [name for name in _NO_CLIP if name in settings]:
            raise OptionError(f"the setting {barred[0]} means nothing to a clip")
        settings.setdefault("frames", min(ClipSettings.frames, file.config.length))
        clip = ClipSettings.taken(settings)
        clip.resolve(file.config.length)
        request = _request(pipe, prompt, clip, settings)
        what = f"drawing {clip.frames} frames of {request.width}x{request.height}"
        with freeing(pipe.offload), memory_errors(what, pipe.model.device):
            run = _sampled(pipe, request, clip, file, callback)
            end = cast("Tensor", run.turn.end)
            frames = latents.decode(pipe.model, end, decoded)
        told = {**run.request.settings(), **clip.settings(), "motion": Path(file.source).name}
        told |= {"model": Path(pipe.model.source).name}
        if clip.travel:
            told["prompt"] = [f"{frame}: {text}" for frame, text in clip.travel.items()]
        return Clip(frames, clip.fps, request.seeds, told, end)


def _request(
    pipe: Pipeline, prompt: str | list[str] | dict[int, str], clip: ClipSettings, settings: dict[str, Any]
) -> Request:
    if isinstance(prompt, dict):
        clip.travel = at_frames(prompt, clip.frames)
        prompt = [clip.travel[max(k for k in clip.travel if k <= frame)] for frame in range(clip.frames)]
    if clip.video is not None:
        settings = {**settings, "image": clip.video[0]}
    elif settings.get("image") is None and "strength" in settings:
        raise OptionError("strength without a picture", todo="give video=, or image=")
    request = Request.of(prompt, {**pipe.with_image_prompts(settings), "batch": clip.frames})
    request.resolve(pipe.info, pipe.model.vae.factor)
    cut = isinstance(clip.windows, Plan) and clip.frames > clip.windows.length
    if cut and (barred := [one.spec.label for one in request.kin if one.spec.name in _WHOLE]):
        raise OptionError(f"{barred[0]} in windows", todo="leave it out, or take free_noise for windows")
    return request


def _sampled(
    pipe: Pipeline,
    request: Request,
    clip: ClipSettings,
    file: MotionFile,
    callback: Callable[[StepState], None] | None,
) -> ClipRun:
    """The last walk, ended: the only one, or FreeInit's last."""
    free, turn = clip.free_init or FreeInit(1), Round()
    full = ClipRun(pipe, copy.copy(request), clip, file, turn).request.steps if free.coarse else None
    run: ClipRun | None = None
    for turn.index in range(free.rounds):
        one = copy.copy(request)
        one.steps = free.steps(full, turn.index) if full else request.steps
        run = ClipRun(pipe, one, clip, file, turn)
        turn.end = run.sample(callback)
        turn.noise = run.begun if turn.noise is None else turn.noise
    assert run is not None
    return run
