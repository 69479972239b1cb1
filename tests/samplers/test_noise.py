"""Image k of a batch gets bit for bit the noise of its seed alone, whatever draws it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import (
    SAMPLERS,
    BrownianNoise,
    ImageNoise,
    NoiseLevels,
    SamplerSpec,
    drive,
    noise_kinds,
    schedule,
    step_noise,
)
from sigmagraft.samplers.philox import PhiloxGenerator, philox4x32

SEEDS = [7, 2**40 + 3, 0]
SHAPE = (4, 6, 5)
# an adaptive method chooses one length of step for the whole batch, so an image alone takes other steps
NOISY = [spec for spec in SAMPLERS if (spec.stochastic or spec.noise_option) and not spec.adaptive]


@pytest.mark.parametrize("kind", noise_kinds())
def test_alone_or_in_a_batch(kind: str) -> None:
    batch = ImageNoise(SEEDS, SHAPE, kind=kind)
    drawn = [batch.next() for _ in range(3)]
    for k, seed in enumerate(SEEDS):
        alone = ImageNoise([seed], SHAPE, kind=kind)
        for noise in drawn:
            assert torch.equal(alone.next()[0], noise[k])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0][0], drawn[0][1])


@pytest.mark.parametrize("kind", noise_kinds())
def test_skip_leaves_out_the_first_draws(kind: str) -> None:
    whole = ImageNoise(SEEDS, SHAPE, kind=kind)
    whole.next()
    later = ImageNoise(SEEDS, SHAPE, kind=kind, skip=1)
    assert torch.equal(whole.next(), later(1.0, 0.5))


@pytest.mark.parametrize("kind", noise_kinds())
def test_noise_is_normal(kind: str) -> None:
    noise = ImageNoise([1], (4, 100, 100), kind=kind).next()
    ordered = noise.flatten().sort().values.double()
    theory = torch.distributions.Normal(0.0, 1.0).cdf(ordered)
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    assert (theory - steps).abs().max().item() < 1.95 / math.sqrt(len(ordered))  # Kolmogorov, p = 0.001


def test_dtype_changes_the_rounding_only() -> None:
    full, half = (ImageNoise([3], SHAPE, dtype=dtype).next() for dtype in (torch.float32, torch.float16))
    assert torch.equal(full.half(), half)


@pytest.mark.parametrize("seeds", [[-1], [2**64], [1.5], [True], ["7"]])
def test_bad_seeds(seeds: list) -> None:
    with pytest.raises(OptionError, match="seed"):
        ImageNoise(seeds, SHAPE)


def test_unknown_kind() -> None:
    with pytest.raises(OptionError, match=r"'cpuu'.*'cpu'"):
        ImageNoise([1], SHAPE, kind="cpuu")


class Recorded:
    """A noise source that keeps what it gave."""

    def __init__(self, source) -> None:
        self.source, self.given = source, []

    def __call__(self, sigma: float, sigma_next: float) -> torch.Tensor:
        self.given.append(self.source(sigma, sigma_next))
        return self.given[-1]


def picture(spec: SamplerSpec, levels: NoiseLevels, seeds: list[int], brownian: bool):
    # the rule of restarts has none in a short walk
    sigmas = schedule("normal", 20 if spec.family == "Restart" else 6, levels)
    images = ImageNoise(seeds, SHAPE)
    x = images.next() * sigmas[0]
    source = BrownianNoise(seeds, SHAPE, levels) if brownian else images
    recorded = Recorded(source)
    options = {}
    if spec.noise_option:
        options[spec.noise_option] = 3.0 if spec.noise_option == "s_churn" else 1.0
    end = drive(spec, lambda x, s: x / (1 + s * s), x, sigmas, levels=levels, noise=recorded, options=options)
    return end, recorded.given


@pytest.mark.parametrize("brownian", [False, True], ids=["gaussian", "brownian"])
@pytest.mark.parametrize("spec", NOISY, ids=lambda spec: spec.name)
def test_every_stochastic_sampler(spec: SamplerSpec, levels: NoiseLevels, brownian: bool) -> None:
    end, noises = picture(spec, levels, SEEDS, brownian)
    assert noises
    for k, seed in enumerate(SEEDS):
        alone, its_noises = picture(spec, levels, [seed], brownian)
        assert len(its_noises) == len(noises)
        for mine, batch in zip(its_noises, noises, strict=True):
            assert torch.equal(mine[0], batch[k])
        torch.testing.assert_close(alone[0], end[k], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, expected) -> None:
    """The vectors for philox4x32-10 that come with the Random123 library."""
    assert tuple(philox4x32(np.array(counter, dtype=np.uint32)[:, None], key)[:, 0]) == expected


def test_philox_is_cudas_randn() -> None:
    """torch.manual_seed(0); torch.randn(3, 4, device="cuda"), as people have printed it."""
    seen = [-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564]
    seen += [-0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497]
    assert PhiloxGenerator(0).randn((3, 4)).flatten().tolist() == pytest.approx(seen, abs=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
def test_philox_on_a_card() -> None:
    """Three calls of one latent's size, so that the call counter is proven too."""
    card = torch.Generator("cuda").manual_seed(2**35 + 11)
    ours = PhiloxGenerator(2**35 + 11)
    for shape in ((4, 64, 64), (4, 128, 96), (16, 32, 32)):
        expected = torch.randn(shape, generator=card, device="cuda").cpu().numpy()
        np.testing.assert_allclose(ours.randn(shape), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_a_walk_gets_the_noise_its_sampler_asks_for(spec: SamplerSpec, levels: NoiseLevels) -> None:
    sigmas = [0.9, 0.4, 0.0]
    images = ImageNoise(SEEDS, SHAPE)
    given = step_noise(spec, images, sigmas, levels)(0.9, 0.4)
    if spec.brownian:
        assert torch.equal(given, BrownianNoise(SEEDS, SHAPE, levels)(0.9, 0.4))
    else:
        assert torch.equal(given, ImageNoise(SEEDS, SHAPE).next())
