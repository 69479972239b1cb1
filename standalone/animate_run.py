"""A clip's run: the run of a batch whose images are the frames, with attention between them."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..animate.acting import MotionActing
from ..animate.files import MotionFile
from ..animate.norms import over_frames
from ..animate.travel import spread
from ..animate.windows import Plan, Window, fused
from ..core.errors import OptionError
from ..core.patch import EvaluationPatch, rows_of
from . import latents
from .animate_settings import ClipSettings
from .conditioning import Conditioning
from .denoiser import Denoiser
from .motion import motion_levels
from .prompt_run import Known
from .request import Request
from .run import Run, StepState

if TYPE_CHECKING:
    from .pipeline import Pipeline


class ClipDenoiser(Denoiser):
    """The denoiser of a batch [branches * frames], evaluated window by window where the clip is cut.

    Attributes:
        plan: how it is cut.
        sigmas: of the walk.
        places: frames that a prompt was given for; between them the words go over.
        sequences: branches of the evaluation at hand.
    """

    plan: Plan | None = None
    sigmas: Sequence[float] = ()
    places: Sequence[int] = ()
    sequences: int = 1
    _travelled: tuple[Conditioning, Conditioning] | None = None

    def output(
        self, x: Tensor, sigma: float, cond: Conditioning, patches: Sequence[EvaluationPatch] = ()
    ) -> Tensor:
        self.sequences = parts = max(len(cond.branches), 1)
        cond, frames = self._told(cond), len(x) // parts
        if self.plan is None:
            return super().output(x, sigma, cond, patches)

        def see(window: Window) -> Tensor:
            def own(rows: Tensor) -> Tensor:
                return rows_of(rows.unflatten(0, (parts, frames)), window.rows, 1).flatten(0, 1)

            self.rows = () if len(window.rows) == frames else window.rows
            vector = None if cond.vector is None else own(cond.vector)
            seen = replace(cond, context=own(cond.context), vector=vector)
            found = super(ClipDenoiser, self).output(own(x), sigma, seen, patches)
            return found.unflatten(0, (parts, -1))

        windows = self.plan.windows(frames, bisect_left([-value for value in self.sigmas], -sigma))
        try:
            return fused(windows, see, x.unflatten(0, (parts, frames)), 1).flatten(0, 1)
        finally:
            self.rows = ()

    def _told(self, cond: Conditioning) -> Conditioning:
        """The words of each frame, on the way from one prompt to the next."""
        if len(self.places) < 2:
            return cond
        if self._travelled is None or self._travelled[0] is not cond:
            context, vector = (
                self._between(x, max(len(cond.branches), 1)) for x in (cond.context, cond.vector)
            )
            assert context is not None
            self._travelled = cond, replace(cond, context=context, vector=vector)
        return self._travelled[1]

    def _between(self, rows: Tensor | None, parts: int) -> Tensor | None:
        if rows is None:
            return None
        return torch.cat([spread(part[list(self.places)], self.places) for part in rows.chunk(parts)])


@dataclass
class Round:
    """One of FreeInit's walks: its number, the noise the first one began with, where the last one ended; what words
    are encoded already.
    """

    index: int = 0
    noise: Tensor | None = None
    end: Tensor | None = None
    known: Known = field(default_factory=dict)


class ClipRun(Run):
    """The stages of one clip on one model."""

    def __init__(
        self, pipe: Pipeline, request: Request, clip: ClipSettings, file: MotionFile, turn: Round
    ) -> None:
        assert pipe.model.motion is not None
        self.clip, self.file, self.turn = clip, file, turn
        seen = copy.copy(pipe)
        if clip.betas == "motion":
            seen.levels = motion_levels(file, pipe.levels)
        super().__init__(seen, request)
        self.speech.known = turn.known
        over = clip.free_noise.over if clip.free_noise else None
        joint, unet = clip.norms == "diffusers", getattr(pipe.model.unet, "_orig_mod", pipe.model.unet)
        motion = MotionActing(
            pipe.model.motion, unet.config, joint=joint, over=over, strength=clip.motion_strength
        )
        self.adapters = [motion, *self.adapters]
        self.seeing: ClipDenoiser | None = None
        self.begun: Tensor | None = None  # what the walk began with

    def sample(self, callback: Callable[[StepState], None] | None = None) -> Tensor:
        with self._norms():
            return super().sample(callback)

    def _norms(self) -> AbstractContextManager[None]:
        if self.clip.norms != "authors" or self.file.config.version != "v1":
            return nullcontext()
        unet = getattr(self.model.unet, "_orig_mod", self.model.unet)
        return over_frames(unet, lambda: self.seeing.sequences if self.seeing else 1)

    def denoiser(self) -> Denoiser:
        made = ClipDenoiser(self.model.unet, self.levels, self.model.info.prediction, self.model.dtype)
        made.plan = self.clip.windows if isinstance(self.clip.windows, Plan) else None
        made.sigmas, made.places = self.sigmas, list(self.clip.travel)
        self.seeing = made
        return made

    def start(self) -> Tensor:
        """Noise of each frame's own seed; FreeNoise's order of it; FreeInit's low frequencies."""
        noise = [self.noise.next() for _ in range(self.turn.index + 1)][-1]
        if self.clip.free_noise is not None:
            source = torch.Generator().manual_seed(self.request.seeds[0] % 2**63)
            noise = self.clip.free_noise.rescheduled(noise, 0, lambda n: torch.randperm(n, generator=source))
        self.begun = begun = noise if self.turn.end is None else self._low_of_last(noise)
        return begun

    def _low_of_last(self, noise: Tensor) -> Tensor:
        """The last walk's clip noised to the highest level, for the low frequencies; `noise` for the high ones."""
        end, first = self.turn.end, self.turn.noise
        assert end is not None
        assert first is not None
        if self.levels.is_flow:
            raise OptionError("FreeInit with a rectified-flow model", todo="leave free_init out")
        bar = 1 / (1 + self.levels.sigma_max**2)
        noised = end * bar**0.5 + first * (1 - bar) ** 0.5
        mixed = self.clip.free_init.mixed(noised.transpose(0, 1), noise.transpose(0, 1))
        return mixed.transpose(0, 1).to(noise)

    def _init_latent(self) -> Tensor | None:
        video = self.clip.video
        if video is None:
            return super()._init_latent()
        return torch.cat([self._encode(latents.to_tensor(self._fitted(image))) for image in video])
