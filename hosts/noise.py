"""Step noise inside a host: image k of a batch gets what its seed gets alone, and never its start noise again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..core.errors import OptionError
from ..samplers.levels import NoiseLevels
from ..samplers.noise import SEED_LIMIT, ImageNoise
from ..samplers.noise_types import parse_noise, step_noise
from ..samplers.spec import Noise, SamplerSpec


def image_seeds(seed: int, count: int) -> list[int]:
    """seed, seed + 1, ...: those the runner and the web hosts give the images of a batch."""
    return [(seed + number) % SEED_LIMIT for number in range(count)]


def seeded_noise(
    spec: SamplerSpec,
    x: Tensor,
    seeds: Sequence[int],
    sigmas: Sequence[float],
    levels: NoiseLevels,
    *,
    kind: str = "cpu",
    noise_type: str | None = None,
) -> Noise:
    """The step noise of a walk that starts at x [b, ...], a generator or path for each of the b seeds.

    The first draw of every generator is left out: it is the start noise, which the host drew from the same seed, so
    the steps get what they get in the runner. Raises OptionError for a spatial type on a latent without places.
    """
    if noise_type:
        check_places(noise_type, x)
    images = ImageNoise(seeds, x.shape[1:], kind=kind, device=x.device, dtype=x.dtype, skip=1)
    return step_noise(spec, images, sigmas, levels, noise_type)


def check_places(noise_type: str, x: Tensor) -> None:
    kind = parse_noise(noise_type)[0]
    if kind.spatial and x.ndim != 4:
        what = f"noise type {kind.name} on a latent of {x.ndim} dimensions"
        raise OptionError(what, expected="images: [batch, channels, height, width]", todo="choose gaussian")


def drawn_noise(draw: Callable[[], Tensor], x: Tensor) -> Noise:
    """Noise that the host's own per-image generators give, a draw for each asking."""
    return lambda sigma, sigma_next: draw().to(device=x.device, dtype=x.dtype)
