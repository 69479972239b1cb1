"""AnimateDiff's pipelines: a UNet with motion modules in it draws all frames of a clip together (arXiv:2307.04725)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..animate.acting import MotionActing
from ..animate.free_init import FreeInit
from ..animate.free_noise import FreeNoise
from ..animate.network import check_fit
from ..animate.travel import Between
from ..controlnet.settings import Control
from ..core.errors import OptionError
from ..core.patch import EvaluationPatch
from ..standalone.conditioning import Conditioning
from ..standalone.lora_networks import networks_of
from ..standalone.model import Model
from .adapting import hooks_for, levels_of_scheduler, sigmas_of
from .animate_start import again, per_frame, start_noise
from .arguments import RUN, SIZE, START, XL
from .base import Found
from .control import CONTROL, WithControls
from .guide import Guide
from .latent import LatentPipeline
from .loop import Loop, set_timesteps
from .motion import MotionAdapter
from .output import Output
from .pixels import finished
from .prompts import Prompter
from .stable_diffusion import XLWords

Self = TypeVar("Self", bound="ClipPipeline")
_LEFT_OUT = ("num_images_per_prompt", "timesteps", "sigmas", "guidance_rescale")
CLIP = {"num_frames": 16, **SIZE, **{name: value for name, value in RUN.items() if name not in _LEFT_OUT}}
CLIP |= {"num_videos_per_prompt": 1, "decode_chunk_size": 16}
XL_CLIP = {**START, "num_frames": 16, **SIZE, **RUN, "guidance_scale": 5.0, **XL, "num_videos_per_prompt": 1}
XL_CLIP.pop("num_images_per_prompt")


@dataclass
class AnimateDiffPipelineOutput(Output):
    """`frames[clip][frame]`: lists of PIL images, an array [b, f, H, W, 3], a tensor [b, f, 3, H, W], or latents."""

    frames: Any


class ClipLoop(Loop):
    """The loop on latents [b, c, frames, h, w], which the UNet sees frame by frame."""

    def _network(
        self,
        timestep: Tensor,
        sigma: float,
        x: Tensor,
        cond: Conditioning,
        patches: Sequence[EvaluationPatch] = (),
    ) -> Tensor:
        rows = x.transpose(1, 2)
        found = super()._network(timestep, sigma, rows.flatten(0, 1), cond, patches)
        return found.unflatten(0, rows.shape[:2]).transpose(1, 2)


class ClipPipeline(LatentPipeline, more=("motion_adapter",)):
    """What both families' pipelines of clips have: motion modules, FreeInit, FreeNoise."""

    motion_adapter: MotionAdapter

    def __init__(self, *components: Any, **named: Any) -> None:
        super().__init__(*components, **named)
        self.free_init: FreeInit | None = None
        self.free_noise: FreeNoise | None = None
        self.between: Between | None = None
        if self.motion_adapter is None:
            todo = "from_pretrained(..., motion_adapter=MotionAdapter.from_pretrained(...))"
            raise OptionError("no motion_adapter", type(self).__name__, todo=todo)
        check_fit(self.motion_adapter.network.config, self.unet.network.config)
        self.motion_adapter.to(self.model.home, self.unet.dtype)
        self.loras.renew(lambda: networks_of(self.model))

    @classmethod
    def build(cls: type[Self], found: Found, components: dict[str, Any]) -> Self:
        folder = found.path / MotionAdapter.folder
        if "motion_adapter" not in components and folder.is_dir():
            components["motion_adapter"] = MotionAdapter.load(folder, found.variant, found.dtype)
        return super().build(found, components)  # type: ignore[misc]

    @property
    def model(self) -> Model:
        adapter = getattr(self, "motion_adapter", None)
        return replace(super().model, motion=None if adapter is None else adapter.network)

    def enable_free_init(
        self,
        num_iters: int = 3,
        use_fast_sampling: bool = False,
        method: str = "butterworth",
        order: float = 4,
        spatial_stop_frequency: float = 0.25,
        temporal_stop_frequency: float = 0.25,
    ) -> None:
        """FreeInit: `num_iters` walks, each from noise with the low frequencies of the last one's clip."""
        stops = spatial_stop_frequency, temporal_stop_frequency
        self.free_init = FreeInit(num_iters, method, order, *stops, use_fast_sampling)

    def disable_free_init(self) -> None:
        """One walk again."""
        self.free_init = None

    @property
    def free_init_enabled(self) -> bool:
        """Whether FreeInit is on."""
        return self.free_init is not None

    def enable_free_noise(
        self,
        context_length: int | None = 16,
        context_stride: int = 4,
        weighting_scheme: str = "pyramid",
        noise_type: str = "shuffle_context",
        prompt_interpolation_callback: Between | None = None,
    ) -> None:
        """FreeNoise: clips of any length, attention over frames in windows of `context_length`."""
        length = context_length or self.motion_adapter.network.config.length
        self.free_noise = FreeNoise(length, context_stride, weighting_scheme, noise_type)
        self.between = prompt_interpolation_callback

    def disable_free_noise(self) -> None:
        """All frames attend to each other again."""
        self.free_noise = self.between = None

    @property
    def free_noise_enabled(self) -> bool:
        """Whether FreeNoise is on."""
        return self.free_noise is not None

    def drawn(self, call: SimpleNamespace, size: tuple[int, int]) -> Tensor:
        """The finished latents [b, c, frames, h, w]."""
        frames = self.frames(call)
        call.num_images_per_prompt = call.num_videos_per_prompt
        prompter = Prompter(self.model, self.embeddings, (size[1], size[0]), call.clip_skip)
        words = self.words(call, size)
        cond, uncond = per_frame(prompter, words, call, call.guidance_scale > 1, self.between)
        model = self.model
        sides = (side // model.vae.factor for side in size)
        clips = len(cond.context) // frames
        shape = torch.Size((clips, model.info.latent_channels, frames, *sides))
        return self.walked(call, self.guide(call, cond, uncond), shape, size)

    def walked(self, call: SimpleNamespace, guide: Guide, shape: torch.Size, size: tuple[int, int]) -> Tensor:
        """One walk from noise; with FreeInit as many as it has rounds."""
        start = start_noise(call, shape, self.free_noise, self)
        free, first, end = self.free_init or FreeInit(1), start, start
        for index in range(free.rounds):
            steps = free.steps(call.num_inference_steps, index)
            given = [getattr(call, name, None) for name in ("timesteps", "sigmas")]
            timesteps = set_timesteps(self.scheduler, steps, self.device, *given)
            levels = levels_of_scheduler(self.scheduler)
            if index:
                start = again(free, end, first, 1 / (1 + levels.sigma_max**2), call.generator)
            end = self.walk(call, guide, start * self.scheduler.init_noise_sigma, timesteps)
        return end

    def walk(self, call: SimpleNamespace, guide: Guide, latents: Tensor, timesteps: Tensor) -> Tensor:
        """From latents at the first of the timesteps to the end."""
        timesteps, levels = self.until(call, timesteps), levels_of_scheduler(self.scheduler)
        rows = latents.transpose(1, 2).flatten(0, 1)
        sigmas, motion = sigmas_of(levels, timesteps), self._acting(len(latents))
        hooks = hooks_for(self, call, self.controls(call), levels, sigmas, rows, [motion])
        loop = ClipLoop(
            self,
            guide,
            call.generator,
            call.eta,
            hooks=hooks,
            on_step_end=call.callback_on_step_end,
            told=call.callback_on_step_end_tensor_inputs,
        )
        return loop.run(latents, timesteps)

    def _acting(self, clips: int) -> MotionActing:
        """The motion modules in a run; their norms go over all frames, as diffusers has them."""
        over = self.free_noise.over if self.free_noise else None
        unet = self.unet.network.config
        return MotionActing(self.motion_adapter.network, unet, clips, joint=True, over=over)

    def frames(self, call: SimpleNamespace) -> int:
        """How many a call asks for.

        OptionError for more than the motion modules have positions for, where nothing cuts them.
        """
        longest = self.motion_adapter.network.config.length
        together = min(call.num_frames, self.free_noise.length) if self.free_noise else call.num_frames
        if not 1 <= together <= longest:
            todo = "call enable_free_noise() for longer clips"
            raise OptionError(f"{together} frames at once", type(self).__name__, f"1 to {longest}", todo)
        return call.num_frames

    def finish(self, call: SimpleNamespace, latents: Tensor) -> AnimateDiffPipelineOutput | tuple[Any, ...]:  # type: ignore[override]
        """Decode clip by clip."""
        rows = latents.transpose(1, 2)
        frames: Any = [finished(self.model, clip, call.output_type) for clip in rows]
        if call.output_type == "latent":
            frames = latents
        elif call.output_type != "pil":
            frames = (torch.stack if call.output_type == "pt" else np.stack)(frames)
        return AnimateDiffPipelineOutput(frames) if call.return_dict else (frames,)


class AnimateDiffPipeline(ClipPipeline, takes={**START, **CLIP}, more=("feature_extractor", "image_encoder")):
    """Text to clips with SD1 and motion modules v1, v2, v3 or AnimateLCM's."""


class AnimateDiffSDXLPipeline(ClipPipeline, XLWords, takes=XL_CLIP):
    """Text to clips with SDXL and its motion modules."""


class AnimateDiffControlNetPipeline(
    ClipPipeline,
    WithControls,
    takes={**START, **CLIP, "conditioning_frames": None, **CONTROL},
    more=("feature_extractor", "image_encoder"),
):
    """Text and a picture for each frame (`conditioning_frames`; a list of them for several ControlNets) to clips."""

    def controls(self, call: SimpleNamespace) -> list[Control]:
        several = isinstance(self.controlnet, (list, tuple)) and len(self.controlnet) > 1
        given = list(call.conditioning_frames or [])
        lists = given if several else [given]
        for pictures in lists:
            if len(pictures) != call.num_frames:
                raise OptionError(
                    f"{len(pictures)} conditioning_frames for {call.num_frames} frames",
                    expected="one for each frame",
                )
        told = SimpleNamespace(**{**vars(call), "image": lists if len(lists) > 1 else lists[0]})
        return super().controls(told)
