"""Every sampler, called as a host calls it, gives what it gives alone; noise is per image and never the start's."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sigmagraft.core.errors import OptionError
from sigmagraft.hosts.noise import drawn_noise, image_seeds, seeded_noise
from sigmagraft.hosts.offers import SamplerOffer, sampler_offers
from sigmagraft.hosts.run import host_function
from sigmagraft.samplers import NOISE_TYPES, SAMPLERS, ImageNoise, NoiseLevels, drive, schedule, step_noise

LEVELS = NoiseLevels.discrete()
OFFERS = sampler_offers([])
SIGMAS = schedule("karras", 5, LEVELS)


def model(x: Tensor, sigma: Tensor, **extra: object) -> Tensor:
    """Denoised of data N(0.5, 0.25): linear, different at every sigma."""
    variance = sigma.view(-1, *[1] * (x.ndim - 1)) ** 2
    return (0.25 * x + variance * 0.5) / (0.25 + variance)


def noise_of(model, x, sigmas, levels, extra):
    return seeded_noise(SAMPLERS[extra["name"]], x, extra["seeds"], sigmas, levels)


def walk(offer: SamplerOffer, seeds: list[int]) -> Tensor:
    start = ImageNoise(seeds, (4, 3, 5)).next() * SIGMAS[0]
    function = host_function(offer, lambda model, sigmas: LEVELS, noise_of)
    extra = {"name": offer.spec.name, "seeds": seeds}
    return function(model, start, torch.tensor(SIGMAS), extra, disable=True)


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.name)
def test_as_alone(offer: SamplerOffer) -> None:
    seeds = [5, 11]
    images = ImageNoise(seeds, (4, 3, 5))
    start = images.next() * SIGMAS[0]
    sigmas = torch.tensor(SIGMAS).tolist()
    noise = step_noise(offer.spec, images, sigmas, LEVELS)
    alone = drive(
        offer.spec,
        lambda x, sigma: model(x, torch.full((2,), sigma)),
        start,
        sigmas,
        levels=LEVELS,
        noise=noise,
    )
    assert torch.equal(walk(offer, seeds), alone)


@pytest.mark.parametrize(
    "offer", [offer for offer in OFFERS if not offer.spec.adaptive], ids=lambda offer: offer.name
)
def test_in_a_batch_as_alone(offer: SamplerOffer) -> None:
    both = walk(offer, [5, 11])
    assert torch.allclose(both[1:], walk(offer, [11]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_sde"])
def test_step_noise_is_not_the_start_noise(name: str) -> None:
    x = ImageNoise([3], (4, 8, 8)).next()
    noise = seeded_noise(SAMPLERS[name], x, [3], SIGMAS, LEVELS)
    for sigma, sigma_next in pairwise(SIGMAS[:-1]):
        drawn = noise(sigma, sigma_next)
        assert abs((drawn * x).mean()) < 0.3
        assert not torch.equal(drawn, x)


@pytest.mark.parametrize("kind", [kind for kind in NOISE_TYPES if kind.spatial], ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", [(1, 1, 64), (1, 4, 2, 8, 8)], ids=["packed", "video"])
def test_spatial_noise_needs_places(kind, shape: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=f"noise type {kind.name} on a latent of {len(shape)} dimensions"):
        seeded_noise(
            SAMPLERS["euler_ancestral"], torch.zeros(shape), [0], SIGMAS, LEVELS, noise_type=kind.name
        )


@pytest.mark.parametrize("shape", [(2, 1, 64), (2, 4, 2, 8, 8)], ids=["packed", "video"])
@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_sde"])
def test_other_noise_takes_any_latent(name: str, shape: tuple[int, ...]) -> None:
    noise = seeded_noise(SAMPLERS[name], torch.zeros(shape), image_seeds(2**64 - 1, 2), SIGMAS, LEVELS)
    assert noise(SIGMAS[0], SIGMAS[1]).shape == shape


def test_options_of_the_call_win_over_chosen_ones_and_those_over_the_preset() -> None:
    spec = SAMPLERS["ddim"]
    got = {}

    def levels_of(model, sigmas):
        return LEVELS

    offer = SamplerOffer("x", "X", spec, {"eta": 1.0})
    x = torch.ones(1, 4, 2, 2) * SIGMAS[0]
    for key, chosen, given in [
        ("preset", {}, {}),
        ("chosen", {"eta": 0.5}, {}),
        ("call", {"eta": 0.5}, {"eta": 0.0}),
    ]:
        function = host_function(offer, levels_of, noise_of, chosen)
        extra = {"name": "ddim", "seeds": [0]}
        got[key] = function(model, x, torch.tensor(SIGMAS), extra, disable=True, **given)
    plain = drive(
        spec, lambda x, s: model(x, torch.full((1,), s)), x, torch.tensor(SIGMAS).tolist(), levels=LEVELS
    )
    assert torch.equal(got["call"], plain)
    assert len({tuple(value.flatten().tolist()) for value in got.values()}) == 3


def test_an_option_the_sampler_lacks_is_refused_before_the_run() -> None:
    with pytest.raises(OptionError, match="gamma"):
        host_function(OFFERS[0], lambda model, sigmas: LEVELS, noise_of, {"gamma": 1})


@pytest.mark.parametrize("count", [0, 1])
def test_no_step_no_change(count: int) -> None:
    x = torch.ones(1, 4, 2, 2)
    function = host_function(OFFERS[0], lambda model, sigmas: LEVELS, noise_of)
    assert function(model, x, torch.ones(count), {}) is x


def test_a_hosts_own_generators_are_asked_once_a_draw() -> None:
    drawn = [torch.full((1, 4, 2, 2), float(k), dtype=torch.float64) for k in range(3)]
    noise = drawn_noise(iter(drawn).__next__, torch.zeros(1, 4, 2, 2))
    assert [noise(2.0, 1.0).mean().item() for _ in drawn] == [0.0, 1.0, 2.0]
