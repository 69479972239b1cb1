"""Every registered type of noise: its moments, one generator an image, and what each type says it is."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import (
    NOISE_TYPES,
    SAMPLERS,
    ImageNoise,
    NoiseLevels,
    NoiseType,
    drive,
    noise_kinds,
    parse_noise,
    schedule,
    step_noise,
)
from sigmagraft.samplers.noise_types import adds_noise

LEVELS = NoiseLevels.discrete()
SIGMAS = [10.0, 5.0, 2.0, 1.0, 0.5, 0.1, 0.0]
every = pytest.mark.parametrize("spec", NOISE_TYPES, ids=lambda spec: spec.name)
NORMAL = [
    spec.name
    for spec in NOISE_TYPES
    if spec.name not in ("uniform", "laplacian", "student_t", "brownian@torchsde")
]


@pytest.fixture(autouse=True)
def torchsde(request: pytest.FixtureRequest) -> None:
    spec = getattr(request.node, "callspec", None)
    if spec and getattr(spec.params.get("spec"), "name", spec.params.get("name")) == "brownian@torchsde":
        pytest.importorskip("torchsde")


def source(name: str, seeds: list[int], shape: tuple[int, ...] = (4, 32, 24), **more):
    images = ImageNoise(seeds, shape, **more)
    return step_noise(SAMPLERS["euler_ancestral"], images, SIGMAS, LEVELS, name)


def draws(name: str, seeds: list[int], shape: tuple[int, ...] = (4, 32, 24), **more) -> torch.Tensor:
    """[steps, images, *shape]."""
    noise = source(name, seeds, shape, **more)
    return torch.stack([noise(a, b) for a, b in pairwise(SIGMAS[:-1])])


@every
def test_mean_and_variance(spec: NoiseType) -> None:
    """Over 320 images of 4 channels, at every pixel: mean 0; variance 1, of perlin on the average over pixels."""
    noise = draws(spec.name, list(range(64)), (4, 12, 10)).flatten(0, 2).double()
    sure = 5 / math.sqrt(len(noise))
    assert noise.mean(0).abs().max().item() < sure
    squares = noise.square()
    error = 5 * squares.std().item() / math.sqrt(len(noise))
    variance = squares.mean(0) if spec.name != "perlin" else squares.mean()
    assert (variance - 1).abs().max().item() < max(error, 0.05 * (spec.name == "perlin"))


@every
def test_options_keep_the_variance(spec: NoiseType) -> None:
    for option in spec.options:
        for value in {"nu": (4.0, 30.0), "alpha": (-3.0, 3.0), "cell": (1.0, 5.5)}.get(
            option.name, (option.low, min(option.high, 1.5) if isinstance(option.default, float) else 3)
        ):
            noise = draws(f"{spec.name}:{option.name}={value}", list(range(40)), (4, 12, 10))
            assert noise.isfinite().all()
            assert noise.double().var().item() == pytest.approx(1.0, abs=0.12), (option.name, value)


@every
@pytest.mark.parametrize("kind", noise_kinds())
def test_alone_or_in_a_batch(spec: NoiseType, kind: str) -> None:
    seeds = [7, 2**64 - 1, 0]
    batch = draws(spec.name, seeds, (4, 9, 14), kind=kind)
    for k, seed in enumerate(seeds):
        assert torch.equal(draws(spec.name, [seed], (4, 9, 14), kind=kind)[:, 0], batch[:, k])
    assert not torch.equal(batch[:, 0], batch[:, 1])
    assert not torch.equal(batch[0], batch[1])


@every
def test_any_dtype_and_device(spec: NoiseType) -> None:
    noise = source(spec.name, [1, 2], dtype=torch.float64)(5.0, 2.0)
    assert noise.dtype == torch.float64
    assert torch.equal(source(spec.name, [1, 2])(5.0, 2.0).double(), noise)
    assert source(spec.name, [1, 2], device="meta")(5.0, 2.0).shape == (2, 4, 32, 24)


@every
def test_every_type_goes_with_a_stochastic_sampler(spec: NoiseType, levels: NoiseLevels) -> None:
    sigmas = schedule("normal", 4, levels)
    for method in ("euler_ancestral", "dpmpp_2m_sde"):
        images = ImageNoise([3], (4, 8, 8))
        x = images.next() * sigmas[0]
        noise = step_noise(SAMPLERS[method], images, sigmas, levels, spec.name)
        end = drive(method, lambda x, s: x / (1 + s * s), x, sigmas, levels=levels, noise=noise)
        assert end.isfinite().all()


@every
def test_frames_are_pictures(spec: NoiseType) -> None:
    """A video's latent [c, t, h, w]; types that work on pictures take the last two."""
    assert source(spec.name, [1], (4, 3, 16, 8))(5.0, 2.0).shape == (1, 4, 3, 16, 8)


@every
def test_declarations_are_complete(spec: NoiseType) -> None:
    assert spec.label
    assert spec.doc
    assert all(option.help for option in spec.options)
    assert parse_noise(spec.name)[0] is spec


def distribution(name: str) -> torch.Tensor:
    return draws(name, [1], (4, 64, 64)).flatten().double().sort().values


@pytest.mark.parametrize("name", ["gaussian", "uniform", "laplacian", "student_t:nu=4"])
def test_distribution_is_the_named_one(name: str) -> None:
    """Kolmogorov's distance to the distribution function, written down here in closed form."""
    x = distribution(name)
    t = x * math.sqrt(2)  # of nu 4, whose deviation is sqrt(2)
    theory = {
        "gaussian": (1 + torch.erf(x / math.sqrt(2))) / 2,
        "uniform": (x / math.sqrt(12) + 0.5).clamp(0, 1),
        "laplacian": 0.5 + 0.5 * x.sign() * -torch.expm1(-math.sqrt(2) * x.abs()),
        "student_t:nu=4": 0.5 + t * (6 + t**2) / (2 * (4 + t**2) ** 1.5),
    }[name]
    steps = torch.arange(1, len(x) + 1) / len(x)
    assert (theory - steps).abs().max().item() < 1.95 / math.sqrt(len(x))  # p = 0.001


@pytest.mark.parametrize("name", NORMAL)
def test_pixels_of_linear_types_are_normal(name: str) -> None:
    """Fourth moment 3, pixel by pixel over many images."""
    noise = draws(name, list(range(100)), (4, 10, 10)).flatten(0, 2).double()
    kurtosis = (noise**4).mean(0) / noise.square().mean(0).square()
    assert kurtosis.mean().item() == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize(
    ("name", "alpha"),
    [
        ("fractal:alpha=1.5", 1.5),
        ("brown", 2.0),
        ("pink", 1.0),
        ("fractal:alpha=0", 0.0),
        ("blue", -1.0),
        ("violet", -2.0),
    ],
)
def test_spectrum_falls_as_declared(name: str, alpha: float) -> None:
    """The slope of log power against log frequency, by least squares."""
    noise = draws(name, [1, 2, 3], (4, 64, 64)).double()
    power = torch.fft.fft2(noise).abs().square().mean(dim=(0, 1, 2))
    frequency = torch.fft.fftfreq(64).double()
    f = torch.hypot(frequency[:, None], frequency).flatten()
    x, y = f[1:].log(), power.flatten()[1:].log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert slope.item() == pytest.approx(-alpha, abs=0.05)


def test_white_is_gaussian() -> None:
    torch.testing.assert_close(draws("fractal:alpha=0", [1]), draws("gaussian", [1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(draws("wavelet:gain=1", [1], (4, 32, 16)), draws("gaussian", [1], (4, 32, 16)))


@pytest.mark.parametrize(
    ("name", "coarser"),
    [
        ("pyramid", True),
        ("perlin", True),
        ("hires_pyramid", True),
        ("wavelet:gain=2", True),
        ("wavelet", False),
    ],
)
def test_coarse_or_fine(name: str, coarser: bool) -> None:
    """Whether neighbouring pixels are alike or opposed."""
    noise = draws(name, list(range(8)), (4, 64, 64))
    alike = (noise[..., 1:] * noise[..., :-1]).mean().item()
    assert alike > 0.005 if coarser else alike < -0.005


def test_wavelet_of_gain_0_has_no_mean_over_a_block() -> None:
    noise = draws("wavelet:gain=0", [1], (4, 32, 32)).flatten(0, 1)
    assert torch.nn.functional.avg_pool2d(noise, 2).abs().max().item() < 1e-5


def test_perlin_is_smooth() -> None:
    """Neighbours of a single octave of 16 pixels a cell are alike."""
    noise = draws("perlin:cell=16,persistence=0", [1], (4, 64, 64))
    assert (noise.diff(dim=-1).square().mean() / noise.square().mean()).item() < 0.05


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("perlim", "'perlin'"),
        ("fractal:alpha=9", "alpha='9'.*-4 to 4"),
        ("fractal:beta=1", "unknown option 'beta'.*alpha"),
        ("pink:alpha=1", "unknown option 'alpha'.*takes none"),
    ],
)
def test_bad_names_and_options(text: str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        parse_noise(text)


def test_types_for_pictures_refuse_a_vector() -> None:
    for name in ("pink", "perlin", "pyramid", "wavelet"):
        with pytest.raises(OptionError, match="height, width"):
            source(name, [1], (6,))(5.0, 2.0)


def test_whether_noise_is_drawn() -> None:
    assert adds_noise(SAMPLERS["euler_ancestral"], None)
    assert not adds_noise(SAMPLERS["euler_ancestral"], {"eta": 0.0})
    assert not adds_noise(SAMPLERS["euler"], {})
    assert adds_noise(SAMPLERS["euler"], {"s_churn": "5"})
    assert not adds_noise(SAMPLERS["heun"], None) or SAMPLERS["heun"].stochastic
