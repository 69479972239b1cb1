"""A web UI's model and processing as a walk needs them: noise levels, and noise from the host's own generators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from modules import rng as host_rng
from torch import Tensor

from ...samplers.levels import NoiseLevels
from ...samplers.noise import SEED_LIMIT, Draw, ImageNoise, Shape, to_device
from ...samplers.noise_types import step_noise
from ...samplers.spec import Noise, SamplerSpec
from ..levels import levels_from_table
from ..noise import check_places, drawn_noise


def levels_of(inner: Any) -> NoiseLevels:
    """The levels of what the hosts call inner_model, from the table of sigmas it carries."""
    table = inner.sigmas.tolist()
    flow = is_flow(inner)
    return levels_from_table(table, is_flow=flow, shift=_shift(table) if flow else None)


def is_flow(inner: Any) -> bool:
    """Whether x = (1 - sigma) x0 + sigma noise: each host says it in another place."""
    predictor = getattr(inner, "predictor", None)
    if predictor is not None:  # Forge, Forge Neo
        return getattr(predictor, "prediction_type", None) == "const"
    model = getattr(inner, "inner_model", None)
    if hasattr(model, "add_noise_to_latent"):  # Automatic1111
        return True
    unet = getattr(getattr(model, "forge_objects", None), "unet", None)  # reForge
    sampling = getattr(getattr(unet, "model", None), "model_sampling", None)
    return any(kind.__name__ == "CONST" for kind in type(sampling).__mro__)


def _shift(table: list[float]) -> float | None:
    """The s of sigma = s t / (1 + (s - 1) t) that the middle of the table would have."""
    place = (len(table) + 1) // 2
    time, sigma = place / len(table), table[place - 1]
    return sigma * (1 - time) / (time * (1 - sigma)) if 0 < time < 1 and 0 < sigma < 1 else None


class RngNoise(ImageNoise):
    """Unit noise from the processing's own generators, one per image: seeds, ENSD and source as the host made them."""

    def __init__(self, rng: Any, x: Tensor) -> None:
        self.seeds = [int(seed) % SEED_LIMIT for seed in rng.seeds]
        self.shape, self.kind, self.drawn = tuple(x.shape[1:]), "host", 0
        self.device, self.dtype = x.device, x.dtype
        self._draws = [_draw(generator) for generator in rng.generators]
        self._rng = rng

    def next(self) -> Tensor:
        self.drawn += 1
        return to_device(self._rng.next(), self.device, self.dtype)


def _draw(generator: Any) -> Draw:
    def draw(shape: Shape) -> Tensor:
        return torch.as_tensor(host_rng.randn_without_seed(shape, generator=generator)).to(torch.float32)

    return draw


def step_noise_of(
    spec: SamplerSpec, p: Any, x: Tensor, sigmas: list[float], levels: NoiseLevels, noise_type: str | None
) -> Noise:
    """The step noise of a walk: what the host's own samplers would draw, or the path or type that was asked for.

    Raises OptionError for a spatial type on a latent without places.
    """
    if noise_type:
        check_places(noise_type, x)
    if noise_type is None and not spec.brownian:
        draw: Callable[[], Tensor] = p.rng.next
        return drawn_noise(draw, x)
    return step_noise(spec, RngNoise(p.rng, x), sigmas, levels, noise_type)
