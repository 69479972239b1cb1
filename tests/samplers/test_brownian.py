"""Brownian paths: their law, and that nothing but the seed decides them."""

from __future__ import annotations

import math
import random
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import BrownianNoise, NoiseLevels, drive, schedule
from sigmagraft.samplers.brownian import (
    LOWEST,
    OCTAVE,
    BrownianPath,
    SharePath,
    place_of,
    terms,
    value_of,
    width,
)
from sigmagraft.samplers.counter import box_muller, normals
from sigmagraft.samplers.noise_paths import TorchsdeNoise

SEEDS = [7, 2**64 - 1, 0]
SHAPE = (4, 6, 5)
SIZE = 20000


def unit(path: BrownianPath, low: float, high: float) -> np.ndarray:
    way, variance = path.way(low, high)
    return way / math.sqrt(variance)


def weights(u: float) -> dict[tuple[int, ...], float]:
    """W(u) as a combination of independent normal draws."""
    place = place_of(u)
    below = {
        (OCTAVE, octave - LOWEST + 1, 0, 0): width(octave) ** 0.5 for octave in range(LOWEST - 1, place[0])
    }
    return below | {draw: weight for weight, draw in terms(place)}


def covariance(a: float, b: float) -> float:
    first, second = weights(a), weights(b)
    return sum(weight * second.get(draw, 0.0) for draw, weight in first.items())


@pytest.mark.parametrize("a", [3e-8, 0.3, 1.0, 1.37, 5.0, 100.0, 1e7])
@pytest.mark.parametrize("ratio", [1.0, 1.01, 1.3, 2.0, 17.3])
def test_covariance_of_two_places_is_the_smaller(a: float, ratio: float) -> None:
    """Cov(W(a), W(b)) = min(a, b), computed from the weights and not measured."""
    b = a * ratio
    assert covariance(a, b) == pytest.approx(value_of(place_of(a)), rel=1e-12)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1e-7), (0.3, 0.31), (0.9, 40.0), (1.0, 2.0), (5.0, 5.001), (5.0, 5.00001)]
)
def test_steps_are_unit_normal(low: float, high: float) -> None:
    ordered = torch.from_numpy(unit(BrownianPath(3, SIZE), low, high)).sort().values
    theory = torch.distributions.Normal(0.0, 1.0).cdf(ordered)
    gap = (theory - torch.arange(1, SIZE + 1) / SIZE).abs().max().item()
    assert gap < 1.95 / math.sqrt(SIZE)  # Kolmogorov, p = 0.001


def test_steps_of_parts_are_independent_and_add_up() -> None:
    path = BrownianPath(11, SIZE)
    points = [0.02, 0.021, 0.5, 0.77, 3.0, 3.5, 90.0]
    parts, variances = zip(*(path.way(*pair) for pair in pairwise(points)), strict=True)
    whole, variance = path.way(points[0], points[-1])
    np.testing.assert_allclose(sum(parts), whole, atol=1e-5)
    assert sum(variances) == pytest.approx(variance, rel=1e-12)
    correlations = np.corrcoef(np.stack(parts))[np.triu_indices(len(parts), 1)]
    assert np.abs(correlations).max() < 4 / math.sqrt(SIZE)


def questions(count: int) -> list[tuple[float, float]]:
    rng = random.Random(1)
    return [tuple(sorted((rng.uniform(0.0, 30.0), rng.uniform(0.0, 30.0)))) for _ in range(count)]


def test_the_order_of_the_questions_does_not_matter() -> None:
    path = BrownianPath(5, 100)
    asked = {question: path.way(*question)[0] for question in questions(30)}
    again = BrownianPath(5, 100)
    for question in random.Random(2).sample(list(asked), len(asked)):
        assert np.array_equal(again.way(*question)[0], asked[question])
        assert np.array_equal(BrownianPath(5, 100).way(*question)[0], asked[question])


def test_what_was_given_stays_what_it_was() -> None:
    path = BrownianPath(5, 100)
    ways = [path.way(*question)[0] for question in [*questions(40), (1.0, 1.00001), (1.0, 1.00001)]]
    kept = [way.copy() for way in ways]
    for way in ways:
        way *= 2
    assert all(
        np.array_equal(path.way(*q)[0], copy) for q, copy in zip(questions(40), kept[:40], strict=True)
    )


def test_the_two_halves_meet() -> None:
    """Steps below, across and above 1 / 2 are independent and add up."""
    path, shares = SharePath(9, SIZE), [1e-7, 0.2, 0.49, 0.5, 0.53, 0.9, 1 - 1e-7, 1.0]
    steps = [path.step((a, 1 - a), (b, 1 - b)) * math.sqrt(b - a) for a, b in pairwise(shares)]
    whole = path.step((shares[0], 1 - shares[0]), (1.0, 0.0)) * math.sqrt(1 - shares[0])
    np.testing.assert_allclose(sum(steps), whole, atol=2e-3)  # ends are rounded to 2^-12 of an octave
    for step, (a, b) in zip(steps, pairwise(shares), strict=True):
        assert step.std() == pytest.approx(math.sqrt(b - a), rel=0.03)
    correlations = np.corrcoef(np.stack(steps))[np.triu_indices(len(steps), 1)]
    assert np.abs(correlations).max() < 4 / math.sqrt(SIZE)


def test_rounding_of_a_sigma_hardly_moves_the_path(levels: NoiseLevels) -> None:
    """Sigmas in single precision, or of another machine's exp, get the noise of the same places."""
    noise, same = BrownianNoise([5], SHAPE, levels), 0
    for pair in pairwise(schedule("karras", 40, levels)[:-1]):
        same += torch.equal(noise(*pair), noise(*(float(np.float32(sigma)) for sigma in pair)))
    assert same >= 36


def reference_philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds in Python's integers, from the paper."""
    mask = 2**64 - 1
    for _ in range(10):
        left, right = counter[0] * 0xD2E7470EE14C6C93, counter[2] * 0xCA5A826395121157
        counter = [
            (right >> 64) ^ counter[1] ^ key[0],
            right & mask,
            (left >> 64) ^ counter[3] ^ key[1],
            left & mask,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    return counter


def test_the_reference_gives_the_published_words() -> None:
    """The first vector for philox4x64-10 that comes with the Random123 library."""
    words = reference_philox4x64([0] * 4, [0] * 2)
    assert words == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]


def test_draws_are_box_muller_of_philox() -> None:
    """Words 1 to 4 come of counter 1, and the sine and logarithm of our own are those of the library."""
    seed, place = 12345, (3, 2**63 + 5, 17, 2)
    words = [w for block in (1, 2) for w in reference_philox4x64([block, *place[1:]], [seed, place[0]])]
    halves = np.array(words, dtype="<u8").view("<i4").astype(np.float64)
    u, angle = halves[:8] * 2.0**-32 + 0.5 + 2.0**-33, halves[8:] * (math.pi * 2.0**-31)
    radius = np.sqrt(-2 * np.log(u))
    expected = np.concatenate([radius * np.sin(angle), radius * np.cos(angle)])
    drawn = normals(seed, place, np.empty(16, dtype=np.float32))
    np.testing.assert_allclose(drawn, expected, atol=1e-5)


def test_a_long_draw_is_normal_far_out() -> None:
    drawn = torch.from_numpy(normals(1, (0, 0, 0, 0), np.empty(400_000, dtype=np.float32))).double()
    assert drawn.mean().item() == pytest.approx(0.0, abs=0.006)
    assert drawn.std().item() == pytest.approx(1.0, abs=0.005)
    for limit in (2.0, 3.0, 4.0):
        expected = len(drawn) * math.erfc(limit / math.sqrt(2))
        assert (drawn.abs() > limit).sum().item() == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_extreme_words_give_finite_numbers() -> None:
    words = np.array([0, 2**63 - 1, 2**63, 2**64 - 1, 0x7FFFFFFF80000000, 0x80000000], dtype=np.uint64)
    out = np.empty(12, dtype=np.float32)
    box_muller(words, out)
    assert np.isfinite(out).all()
    assert np.abs(out).max() < 7


def test_alone_or_in_a_batch(levels: NoiseLevels) -> None:
    sigmas = schedule("karras", 6, levels)
    batch = BrownianNoise(SEEDS, SHAPE, levels)
    given = [batch(*pair) for pair in pairwise(sigmas)]
    for k, seed in enumerate(SEEDS):
        alone = BrownianNoise([seed], SHAPE, levels)
        assert all(
            torch.equal(alone(*pair)[0], noise[k])
            for pair, noise in zip(pairwise(sigmas), given, strict=True)
        )
    assert not torch.equal(given[0][0], given[0][1])


def test_noise_put_back_is_drawn_anew(levels: NoiseLevels) -> None:
    noise = BrownianNoise([5], (4, 50, 50), levels)
    down, up, again = noise(0.8, 0.4), noise(0.4, 0.8), noise(0.4, 0.8)
    for one, other in ((down, up), (up, again), (down, again)):
        assert abs((one * other).mean().item()) < 0.05
    assert torch.equal(noise(0.8, 0.4), down)


def test_from_pure_noise_to_none(levels: NoiseLevels) -> None:
    noise = BrownianNoise([5], (4, 50, 50), levels)
    for pair in ((levels.sigma_max, 0.5), (0.5, 1e-4), (1e-4, 0.0), (levels.sigma_max, 0.0), (1e-9, 0.0)):
        assert noise(*pair).std().item() == pytest.approx(1.0, abs=0.04)


def test_an_empty_way_is_refused(levels: NoiseLevels) -> None:
    for pair in ((0.5, 0.5), (0.5, -0.1)):
        with pytest.raises(OptionError, match=r"no Brownian path from sigma 0\.5 to"):
            BrownianNoise([5], SHAPE, levels)(*pair)


def test_the_number_of_steps_does_not_choose_the_picture(levels: NoiseLevels) -> None:
    """Of data N(0, 1) the SDE's step is known: x_next = f x + sqrt(v (1 - f alpha / alpha_next)) noise.

    f = alpha / alpha_next v_next / v and v = alpha^2 + sigma^2: 3 steps and 48 end in the same latent.
    """
    high, low = (1.0, 0.05) if levels.is_flow else (10.0, 0.1)
    start = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def end(steps: int) -> torch.Tensor:
        noise, x = BrownianNoise([1, 2], SHAPE, levels, dtype=torch.float64), start * high
        for a, b in pairwise(high * (low / high) ** (i / steps) for i in range(steps + 1)):
            share = levels.alpha(a) / levels.alpha(b)
            v, v_next = (levels.alpha(s) ** 2 + s**2 for s in (a, b))
            x = x * (share * v_next / v) + noise(a, b) * math.sqrt(v_next * (1 - share**2 * v_next / v))
        return x

    torch.testing.assert_close(end(3), end(48), rtol=0, atol=1e-3)


def test_a_solver_refines_its_picture_at_its_own_order(levels: NoiseLevels) -> None:
    """Steps halved, a solver of order 2 comes four times as near; k-diffusion's path over sigma allows twice."""
    high, low = (0.95, 0.02) if levels.is_flow else (12.0, 0.05)

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        alpha = levels.alpha(sigma)
        return x * (alpha / (alpha**2 + sigma**2))

    def end(steps: int) -> torch.Tensor:
        sigmas = [high * (low / high) ** (i / steps) for i in range(steps + 1)]
        noise = BrownianNoise([1], (4, 32, 32), levels, dtype=torch.float64)
        x = torch.full((1, 4, 32, 32), high, dtype=torch.float64)
        return drive("dpmpp_2m_sde", denoise, x, sigmas, levels=levels, noise=noise)

    ends = [end(steps) for steps in (20, 40, 80)]
    coarse, fine = ((a - b).norm().item() for a, b in pairwise(ends))
    assert coarse / fine > 3.3


def test_torchsdes_tree_is_k_diffusions(k_diffusion) -> None:
    pytest.importorskip("torchsde")
    levels = NoiseLevels.discrete()
    sigmas = torch.tensor(schedule("karras", 6, levels))
    x = torch.zeros(3, *SHAPE)
    seeds = [7, 8, 2**40]
    theirs = k_diffusion.sampling.BrownianTreeNoiseSampler(
        x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seeds
    )
    ours = TorchsdeNoise(seeds, SHAPE, sigmas.tolist())
    for a, b in [*pairwise(sigmas[:-1]), (sigmas[3], sigmas[1])]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torchsde warns where it clamps
            noise = ours(a.item(), b.item())
        assert torch.equal(noise, theirs(a, b))


def test_torchsdes_tree_refuses_what_it_would_clamp() -> None:
    pytest.importorskip("torchsde")
    noise = TorchsdeNoise([5], SHAPE, [10.0, 1.0, 0.0])
    for pair in ((17.0, 11.0), (2.0, 2.0), (1.0, 0.0)):
        with pytest.raises(OptionError, match="no Brownian path"):
            noise(*pair)


def test_torchsde_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchsde", None)
    with pytest.raises(OptionError, match="pip install torchsde"):
        TorchsdeNoise([5], SHAPE, [10.0, 1.0])
