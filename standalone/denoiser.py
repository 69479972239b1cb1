"""A UNet with its noise levels as a denoiser: denoised = c_skip * x + c_out * network(c_in * x, timestep)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..core.adapters import with_more
from ..core.patch import EvaluationPatch, Hooks, Inputs, StepInfo
from ..guidance.spec import Setting
from ..samplers.levels import NoiseLevels
from .conditioning import Conditioning
from .memory import memory_format
from .unet import UNet


class Denoiser:
    """Predicts x0 from x [b, c, h, w] at one sigma, for whatever the network itself predicts.

    ``concat`` [1, extra, h, w] are the further input channels of inpainting and depth models; ``hooks`` answers the
    adapters' patches for one evaluation, of which it is told sigma, branches and the network's inputs.
    """

    def __init__(self, unet: UNet, levels: NoiseLevels, prediction: str, dtype: torch.dtype) -> None:
        self.unet = unet
        self.levels = levels
        self.prediction = prediction
        self.dtype = dtype
        self.layout = memory_format(unet)
        self.told: Callable[[float], float] = levels.timestep
        self.concat: Tensor | None = None
        self.rows: tuple[int, ...] = ()  # which images of the run x holds, where not all of them
        self.hooks: Callable[[StepInfo], Hooks | None] = lambda info: None

    @property
    def setting(self) -> Setting:
        """What a guidance may know of the network."""
        return Setting(getattr(self.unet, "config", None), self.levels.is_flow)

    def output(
        self, x: Tensor, sigma: float, cond: Conditioning, patches: Sequence[EvaluationPatch] = ()
    ) -> Tensor:
        """The network's raw output [b, c, h, w] in x's dtype; `patches` act in this evaluation alone."""
        _, _, c_in = self.levels.scalings(self.prediction, sigma)
        scaled = (x * c_in if c_in != 1.0 else x).to(self.dtype)
        if self.concat is not None:
            scaled = torch.cat([scaled, self.concat.to(self.dtype).expand(len(x), -1, -1, -1)], dim=1)
        timesteps = torch.full((len(x),), self.told(sigma), device=x.device, dtype=torch.float32)
        scaled = scaled.contiguous(memory_format=self.layout)
        inputs = Inputs(scaled, timesteps, cond.context, cond.vector)
        info = StepInfo(sigma, branches=cond.branches, inputs=inputs, rows=self.rows)
        hooks = with_more(self.hooks(info), patches, info)
        # What is compiled goes without hooks: they change from step to step.
        unet = self.unet if hooks is None else getattr(self.unet, "_orig_mod", self.unet)
        return unet(scaled, timesteps, cond.context, cond.vector, hooks).to(x.dtype)

    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """c_skip * x + c_out * output."""
        c_skip, c_out, _ = self.levels.scalings(self.prediction, sigma)
        if c_skip == 0.0:
            return output * c_out
        return torch.add(x if c_skip == 1.0 else x * c_skip, output, alpha=c_out)

    def output_of(self, denoised: Tensor, x: Tensor, sigma: float) -> Tensor:
        """The raw output that says so: (denoised - c_skip * x) / c_out."""
        c_skip, c_out, _ = self.levels.scalings(self.prediction, sigma)
        return (denoised if c_skip == 0.0 else torch.sub(denoised, x, alpha=c_skip)) / c_out

    def __call__(self, x: Tensor, sigma: float, cond: Conditioning) -> Tensor:
        return self.denoised(self.output(x, sigma, cond), x, sigma)
