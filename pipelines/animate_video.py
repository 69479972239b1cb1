"""A video drawn anew after a prompt, with motion modules in the UNet."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from ..core.errors import OptionError
from ..schedulers.draw import randn
from .animate import CLIP, ClipPipeline
from .guide import Guide
from .loop import from_strength, set_timesteps
from .pixels import to_batch
from .starts import repeated

_TOLD = {name: value for name, value in CLIP.items() if name != "num_frames"}
VIDEO = {
    "video": None,
    "prompt": None,
    "enforce_inference_steps": False,
    "timesteps": None,
    "sigmas": None,
    "strength": 0.8,
}


class AnimateDiffVideoToVideoPipeline(
    ClipPipeline, takes={**VIDEO, **_TOLD}, more=("feature_extractor", "image_encoder")
):
    """Text and the frames of a video to a clip: `strength` says how much of them changes."""

    def frames(self, call: SimpleNamespace) -> int:
        if call.video is None or not len(call.video):
            raise OptionError("no video", type(self).__name__, "video=, a list of pictures")
        call.num_frames = len(call.video)
        return super().frames(call)

    def walked(self, call: SimpleNamespace, guide: Guide, shape: torch.Size, size: tuple[int, int]) -> Tensor:
        """One walk from the noised video, or from the caller's latents."""
        if self.free_init is not None:
            raise OptionError("FreeInit with a video to start from", todo="disable_free_init()")
        steps = call.num_inference_steps
        if call.enforce_inference_steps:
            steps = int(steps / call.strength)
        set_timesteps(self.scheduler, steps, self.device, call.timesteps, call.sigmas)
        own = call.timesteps or call.sigmas
        timesteps = from_strength(self.scheduler, len(own) if own else steps, call.strength)
        latents = self._noised(call, shape, size, timesteps) if call.latents is None else call.latents
        return self.walk(call, guide, latents.to(self.device), timesteps)

    def _noised(
        self, call: SimpleNamespace, shape: torch.Size, size: tuple[int, int], timesteps: Tensor
    ) -> Tensor:
        """The video's latents, drawn from their posteriors, at the first of the timesteps."""
        model, chunk = self.model, call.decode_chunk_size
        pixels = to_batch(list(call.video), *size).to(self.vae.device, self.vae.dtype)
        drawn = [self.vae.posterior(part).sample(call.generator) for part in pixels.split(chunk)]
        scaled = (torch.cat(drawn).float() - model.shift_factor) * model.scale_factor
        clips = repeated(scaled.to(self.device, self.dtype)[None], shape[0])
        noise = randn(clips.shape, call.generator, self.device, self.dtype)
        return self.scheduler.add_noise(clips, noise, timesteps[:1].expand(len(clips))).transpose(1, 2)
