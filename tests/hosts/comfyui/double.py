"""A small double of what ComfyUI shows to packs: its lists, its model objects, its way of loading and of sampling."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

SAMPLERS = ["euler", "euler_cfg_pp", "euler_ancestral", "heun", "dpm_2", "lms", "dpm_fast", "dpmpp_2m", "lcm"]
SCHEDULES = ["simple", "sgm_uniform", "karras", "exponential", "beta", "normal"]


class SchedulerHandler(NamedTuple):
    handler: Callable[..., Tensor]
    use_ms: bool = True


class Interrupted(Exception):
    """What the host raises once the user has cancelled."""


class CONST:
    """Rectified flow, as the host marks it."""

    def noise_scaling(self, sigma: float, noise: Tensor, latent: Tensor) -> Tensor:
        return sigma * getattr(self, "noise_scale", 1.0) * noise + (1 - sigma) * latent


class EPS:
    def noise_scaling(self, sigma: float, noise: Tensor, latent: Tensor) -> Tensor:
        return noise * (math.sqrt(1 + sigma**2) if sigma > 14.6 else sigma) + latent


class ModelSamplingContinuousEDM:
    sigma_data = 1.0

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 120.0) -> None:
        self.sigmas = torch.linspace(math.log(sigma_min), math.log(sigma_max), 1000).exp()
        self.sigma_min, self.sigma_max = self.sigmas[0], self.sigmas[-1]


class ModelSamplingContinuousV(ModelSamplingContinuousEDM):
    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma.atan() / math.pi * 2

    def sigma(self, timestep: Tensor) -> Tensor:
        return (timestep * math.pi / 2).tan()


class Discrete(EPS):
    def __init__(self) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        kept = (1 - betas).cumprod(0)
        self.sigmas = ((1 - kept) / kept).sqrt().float()

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]


class Flow(CONST):
    """`log_shift` is how Flux says it."""

    def __init__(
        self, shift: float = 3.0, *, log_shift: bool = False, noise_scale: float | None = None
    ) -> None:
        self.shift = math.log(shift) if log_shift else shift
        t = torch.arange(1, 1001) / 1000
        self.sigmas = shift * t / (1 + (shift - 1) * t)
        if noise_scale is not None:
            self.noise_scale = noise_scale

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]


class KSAMPLER:
    def __init__(self, sampler_function: Any, extra_options: dict = {}, inpaint_options: dict = {}) -> None:  # noqa: B006
        self.sampler_function = sampler_function
        self.extra_options, self.inpaint_options = extra_options, inpaint_options


class WrappersMP:
    SAMPLER_SAMPLE = "sampler_sample"
    PREDICT_NOISE = "predict_noise"


class Executor:
    """Calls wrappers one inside the other."""

    def __init__(self, original: Callable[..., Any], owner: Any, wrappers: list[Callable[..., Any]]) -> None:
        self.original, self.class_obj, self.wrappers = original, owner, wrappers

    def __call__(self, *args: Any, **named: Any) -> Any:
        if not self.wrappers:
            return self.original(*args, **named)
        return self.wrappers[0](Executor(self.original, self.class_obj, self.wrappers[1:]), *args, **named)


class Patcher:
    """MODEL: `predict(x, sigma, positive) -> denoised` and the model_sampling."""

    def __init__(self, sampling: Any, predict: Callable[[Tensor, Tensor, bool], Tensor]) -> None:
        self.sampling, self.predict = sampling, predict
        self.wrappers: dict[str, list[Callable[..., Any]]] = {}

    def clone(self) -> Patcher:
        made = Patcher(self.sampling, self.predict)
        made.wrappers = {kind: list(listed) for kind, listed in self.wrappers.items()}
        return made

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Callable[..., Any]) -> None:
        self.wrappers.setdefault(kind, []).append(wrapper)

    def get_model_object(self, name: str) -> Any:
        assert name == "model_sampling"
        return self.sampling


class Guider:
    """CFGGuider: cfg 1 does not evaluate the negative prompt."""

    def __init__(self, model: Patcher, cfg: float = 1.0, negative: bool = True) -> None:
        self.model, self.cfg = model, cfg
        self.conds = {"positive": ["p"], **({"negative": ["n"]} if negative else {})}
        self.inner_model = SimpleNamespace(model_sampling=model.sampling)
        self.asked: list[tuple[float, float]] = []

    def __call__(self, x: Tensor, sigma: Tensor, model_options: dict, seed: int | None) -> Tensor:
        wrappers = self.model.wrappers.get(WrappersMP.PREDICT_NOISE, [])
        return Executor(self.predict_noise, self, wrappers)(x, sigma, model_options, seed)

    def predict_noise(self, x: Tensor, sigma: Tensor, model_options: dict, seed: int | None) -> Tensor:
        self.asked.append((sigma[0].item(), self.cfg))
        cond = self.model.predict(x, sigma, True)
        if self.cfg == 1.0:
            return cond
        uncond = self.model.predict(x, sigma, False)
        return uncond + self.cfg * (cond - uncond)

    def sample(
        self, noise: Tensor, latent: Tensor, sampler: KSAMPLER, sigmas: Tensor, seed: int | None
    ) -> Tensor:
        """The way down, with what the host's callback was told in `self.told`."""
        self.told: list[int] = []

        def walk(
            guider: Guider, sigmas: Tensor, extra_args: dict, callback: Any, noise: Tensor, latent: Tensor
        ) -> Tensor:
            def model(x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
                return guider(x, sigma, extra["model_options"], extra["seed"])

            shown = _Model(model, guider)
            x = self.model.sampling.noise_scaling(float(sigmas[0]), noise, latent)
            return sampler.sampler_function(
                shown,
                x,
                sigmas,
                extra_args=extra_args,
                callback=callback,
                disable=True,
                **sampler.extra_options,
            )

        extra = {"model_options": {"transformer_options": {}}, "seed": seed, "denoise_mask": None}
        wrappers = self.model.wrappers.get(WrappersMP.SAMPLER_SAMPLE, [])
        tell = lambda state: self.told.append(state["i"])  # noqa: E731
        with torch.inference_mode():
            return Executor(walk, sampler, wrappers)(self, sigmas, extra, tell, noise, latent)


class _Model:
    def __init__(self, call: Callable[..., Tensor], guider: Guider) -> None:
        self.call, self.inner_model = call, guider

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        return self.call(x, sigma, **extra)


def modules() -> dict[str, ModuleType]:
    """ComfyUI's modules by name, as they stand when packs are loaded."""
    samplers = _module("comfy.samplers", KSAMPLER=KSAMPLER, SchedulerHandler=SchedulerHandler)
    samplers.KSAMPLER_NAMES = SAMPLERS[:]
    samplers.SAMPLER_NAMES = [*samplers.KSAMPLER_NAMES, "ddim", "uni_pc", "uni_pc_bh2"]
    samplers.SCHEDULER_HANDLERS = {name: SchedulerHandler(lambda *a, **k: None) for name in SCHEDULES}
    samplers.SCHEDULER_NAMES = list(samplers.SCHEDULER_HANDLERS)
    lists = {"SAMPLERS": samplers.SAMPLER_NAMES, "SCHEDULERS": samplers.SCHEDULER_NAMES}
    samplers.KSampler = type("KSampler", (), lists)
    sampling = _module("comfy.k_diffusion.sampling")
    for name in SAMPLERS:
        setattr(sampling, f"sample_{name}", _native(name))
    kinds = (CONST, EPS, ModelSamplingContinuousEDM, ModelSamplingContinuousV)
    management = _module("comfy.model_management", cancelled=False)

    def throw() -> None:
        if management.cancelled:
            raise Interrupted

    management.throw_exception_if_processing_interrupted = throw
    management.get_torch_device = lambda: torch.device("cpu")
    made = [
        _module("comfy"),
        samplers,
        _module("comfy.k_diffusion", sampling=sampling),
        sampling,
        _module("comfy.model_sampling", **{kind.__name__: kind for kind in kinds}),
        management,
        _module("comfy.patcher_extension", WrappersMP=WrappersMP),
        _module("nodes"),
    ]
    return {module.__name__: module for module in made}


def _module(name: str, **content: Any) -> Any:
    module = ModuleType(name)
    module.__path__ = []
    vars(module).update(content)
    return module


def _native(name: str) -> Callable[..., Tensor]:
    """A sampler of the host: Euler, under whichever name."""

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Any = None,
        callback: Any = None,
        disable: Any = None,
    ) -> Tensor:
        for i in range(len(sigmas) - 1):
            denoised = model(x, sigmas[i] * x.new_ones(len(x)), **(extra_args or {}))
            callback({"i": i, "x": x, "denoised": denoised, "sigma": sigmas[i], "sigma_hat": sigmas[i]})
            x = denoised + (x - denoised) * sigmas[i + 1] / sigmas[i]
        return x

    sample.__name__ = f"sample_{name}"
    return sample


def load(folder: Path) -> ModuleType:
    """A pack as ComfyUI loads it: under its path as the name, with "." written as "_x_"."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
