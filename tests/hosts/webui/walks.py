"""Doubles of a walk in Automatic1111 and in the Forges: how each asks its UNet, and no more."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.standalone.conditioning import Conditioning
from sigmagraft.standalone.unet import UNet

from .. import control_files as files
from ..patched_unet import PatchedUNet
from .double import TABLE

CONFIG = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 1), 1, 16, None, False, 8, None)
SIGMAS = [14.0, 3.0, 1.0, 0.0]
Prompts = Sequence[Sequence[tuple[Tensor, float]]]  # for each image, (context, weight) of each part
FORGE = "backend.sampling.sampling_function"


def unets() -> tuple[UNet, PatchedUNet]:
    """One UNet as Automatic1111 has it and as the Forges do."""
    state = files.filled(UNet(CONFIG), 1)
    made = UNet(CONFIG), PatchedUNet(CONFIG)
    for one in made:
        one.load_state_dict(state)
        one.eval().requires_grad_(False)
    return made


def contexts(count: int, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 5, 16, generator=draw) for _ in range(count)]


def euler(model: Any, x: Tensor, sigmas: Sequence[float], **extra: Any) -> Tensor:
    """A host's sampler."""
    for sigma, after in pairwise(sigmas):
        denoised = model(x, torch.full((len(x),), float(sigma)), **extra)
        x = x + (x - denoised) / sigma * (after - sigma)
    return x


class Inner(nn.Module):
    """(x, sigma) -> denoised by a network that predicts noise."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet, self.inner_model = unet, SimpleNamespace()
        self.register_buffer("sigmas", TABLE.clone())
        self.register_buffer("log_sigmas", TABLE.log())

    def time(self, sigma: float) -> float:
        logs = self.sigmas.double().log()
        low = min(max(int((logs < math.log(sigma)).sum()) - 1, 0), len(logs) - 2)
        return low + float((math.log(sigma) - logs[low]) / (logs[low + 1] - logs[low]))

    def forward(self, x: Tensor, sigma: Tensor, cond: dict[str, Any], **told: Any) -> Tensor:
        level = float(sigma[0])
        times = torch.full((len(x),), self.time(level))
        eps = self.unet(x / math.hypot(1, level), times, context=cond["c_crossattn"][0], **told)
        return x - level * eps


class Ldm(nn.Module):
    """Automatic1111's denoiser: all parts of all prompts, then the negative ones, in one call or in several."""

    def __init__(self, unet: nn.Module, together: bool = True, skip: bool = False) -> None:
        super().__init__()
        self.inner_model, self.together, self.skip = Inner(unet), together, skip

    def combine_denoised(self, out: Tensor, parts: Any, uncond: Any, scale: float) -> Tensor:
        found = out[-len(uncond) :].clone()
        for image, rows in enumerate(parts):
            for row, weight in rows:
                found[image] += (out[row] - out[-len(uncond) :][image]) * (weight * scale)
        return found

    def forward(self, x: Tensor, sigma: Tensor, uncond: Tensor, cond: Any, cond_scale: float) -> Tensor:
        parts, rows = [], []
        for image in cond.batch:
            parts.append([(len(rows) + k, weight) for k, (_, weight) in enumerate(image)])
            rows += [context for context, _ in image]
        of = [image for image, own in enumerate(parts) for _ in own]
        x_in, context = x[of], torch.cat(rows)
        if not self.skip:
            x_in, context = torch.cat([x_in, x]), torch.cat([context, uncond])
        step = len(x_in) if self.together else len(x)
        out = torch.cat(
            [
                self.inner_model(
                    x_in[k : k + step],
                    sigma[:1].expand(len(x_in[k : k + step])),
                    cond={"c_crossattn": [context[k : k + step]]},
                )
                for k in range(0, len(x_in), step)
            ]
        )
        if self.skip:
            out = torch.cat([out, out[[rows[0][0] for rows in parts]]])
        return self.combine_denoised(out, parts, uncond, 1.0 if self.skip else cond_scale)


class Patcher:
    """The Forges' patcher of a UNet."""

    def __init__(self, model: Any, options: dict[str, Any] | None = None) -> None:
        self.model, self.model_options, self.load_device = model, options or {}, "cpu"

    def clone(self) -> Patcher:
        return Patcher(self.model, copy.deepcopy(self.model_options))

    def add_extra_torch_module_during_sampling(self, modules: nn.Module, cast_to_unet_dtype: bool) -> None:
        assert not cast_to_unet_dtype

    def add_conditioning_modifier(self, modifier: Any) -> None:
        self.model_options.setdefault("conditioning_modifiers", []).append(modifier)


class Forge(nn.Module):
    """The Forges' denoiser: the prompts' parts as conds of a whole batch, and what a patcher's options ask."""

    def __init__(self, p: Any, unet: nn.Module) -> None:
        super().__init__()
        self.p, self.inner_model = p, Inner(unet)

    def forward(self, x: Tensor, sigma: Tensor, uncond: Tensor, cond: Any, cond_scale: float) -> Tensor:
        patcher = self.p.sd_model.forge_objects.unet
        strengths = [weight for _, weight in cond.batch[0]]
        conds: Any = [
            {"context": torch.cat([image[k][0] for image in cond.batch]), "strength": strength}
            for k, strength in enumerate(strengths)
        ]
        told = (
            self.inner_model,
            x,
            sigma,
            [{"context": uncond}],
            conds,
            cond_scale,
            patcher.model_options,
            0,
        )
        for modifier in patcher.model_options.get("conditioning_modifiers", []):
            told = modifier(*told)
        model, x, sigma, negative, conds, cond_scale, options, _ = told
        alone = math.isclose(cond_scale, 1.0)
        found, other = calc_cond_uncond_batch(model, conds, None if alone else negative, x, sigma, options)
        if "sampler_cfg_function" not in options:
            return other + (found - other) * cond_scale * sum(strengths)
        args = {"cond": x - found, "uncond": x - other, "cond_scale": cond_scale, "input": x, "sigma": sigma}
        args |= {"cond_denoised": found, "uncond_denoised": other, "model": model, "model_options": options}
        return x - options["sampler_cfg_function"](args)


def calc_cond_uncond_batch(
    model: Any, cond: Any, uncond: Any, x: Tensor, sigma: Tensor, options: Any
) -> tuple[Tensor, Tensor]:
    """As the Forges': the weighted mean of the prompts' answers, and the negative one's, 0 where there is none."""
    found = [torch.zeros_like(x), torch.zeros_like(x)]
    run = [(one, 0) for one in cond] + [(one, 1) for one in uncond or ()]
    if not run:
        return found[0], found[1]
    told = {
        **options.get("transformer_options", {}),
        "cond_or_uncond": [side for _, side in run],
        "sigmas": sigma,
    }
    context = torch.cat([one["context"] for one, _ in run])
    out = model(x.repeat(len(run), 1, 1, 1), sigma, {"c_crossattn": [context]}, transformer_options=told)
    total = sum(one.get("strength", 1.0) for one in cond) or 1.0
    for (one, side), answer in zip(run, out.chunk(len(run)), strict=True):
        found[side] += answer * (one.get("strength", 1.0) / total if side == 0 else 1.0)
    return found[0], found[1]


def processing(family: str, **more: Any) -> tuple[Any, Any, nn.Module]:
    """(p, its denoiser, its UNet) as they are when a walk begins."""
    ldm, patched = unets()
    p = SimpleNamespace(steps=len(SIGMAS) - 1, sampler=SimpleNamespace(func=euler), seeds=[1, 2])
    if family == "a1111":
        p.sd_model = SimpleNamespace(model=SimpleNamespace(diffusion_model=ldm), cond_stage_key="txt")
        return p, Ldm(ldm, **more), ldm
    network = SimpleNamespace(diffusion_model=patched, computation_dtype=torch.float32, predictor=Predictor())
    p.sd_model = SimpleNamespace(forge_objects=SimpleNamespace(unet=Patcher(network)))
    module: Any = ModuleType(FORGE)
    module.calc_cond_uncond_batch = calc_cond_uncond_batch
    sys.modules[FORGE] = module
    return p, Forge(p, patched), patched


def walked(p: Any, model: Any, x: Tensor, prompts: Prompts, uncond: Tensor, scale: float = 4.0) -> Tensor:
    """A walk as the host begins it."""
    extra = {"cond": SimpleNamespace(batch=prompts), "uncond": uncond, "cond_scale": scale}
    with torch.no_grad():
        return p.sampler.func(model, x, sigmas=SIGMAS, **extra)


def hooks(unet: nn.Module) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in unet.modules())


def sides(prompts: Sequence[Tensor], negatives: Sequence[Tensor]) -> list[Conditioning]:
    """The same as the runner has them."""
    pairs: Any = ((prompts, "cond"), (negatives, "uncond"))
    return [Conditioning(torch.cat(list(rows)), branches=(branch,)) for rows, branch in pairs]


class Predictor(nn.Module):
    """What the Forges keep their levels in."""

    def __init__(self) -> None:
        super().__init__()
        self.prediction_type = "epsilon"
        self.register_buffer("sigmas", TABLE.clone())
        self.register_buffer("log_sigmas", TABLE.log())
