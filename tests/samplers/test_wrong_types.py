"""Arguments of another type than drive, schedule and ImageNoise take are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import ImageNoise, NoiseLevels, drive, schedule, sigmas_at

LEVELS = NoiseLevels.discrete()
GOOD: dict[str, Any] = {
    "sampler": "euler",
    "denoise": lambda x, sigma: x,
    "x": torch.zeros(1, 4, 8, 8),
    "sigmas": [1.0, 0.0],
    "levels": LEVELS,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampler", 3),
        ("sampler", None),
        ("denoise", 3),
        ("x", 3),
        ("x", [1.0]),
        ("sigmas", "abc"),
        ("sigmas", None),
        ("sigmas", 5),
        ("sigmas", [None, 1]),
        ("levels", 3),
        ("levels", None),
        ("options", [1]),
        ("options", "eta=1"),
        ("noise", 3),
        ("callback", 3),
    ],
)
def test_drive(name: str, value: Any) -> None:
    given = {**GOOD, name: value}
    with pytest.raises(OptionError, match=name):
        drive(given.pop("sampler"), given.pop("denoise"), given.pop("x"), given.pop("sigmas"), **given)


@pytest.mark.parametrize(
    "given",
    [
        (3, 5, LEVELS),
        (None, 5, LEVELS),
        ([1, "a"], None, LEVELS),
        ("karras", "5", LEVELS),
        ("karras", 2.5, LEVELS),
        ("karras", True, LEVELS),
        ("karras", None, LEVELS),
        ("karras", 5, 3),
        ([1.0], None, None),
    ],
)
def test_schedule(given: tuple[Any, ...]) -> None:
    with pytest.raises(OptionError):
        schedule(*given)


def test_options_of_a_schedule() -> None:
    with pytest.raises(OptionError, match="rho"):
        schedule("karras", 5, LEVELS, rho=[1])


@pytest.mark.parametrize(("timesteps", "levels"), [(3, LEVELS), (["a"], LEVELS), ([900], 3)])
def test_timesteps(timesteps: Any, levels: Any) -> None:
    with pytest.raises(OptionError):
        sigmas_at(timesteps, levels)


@pytest.mark.parametrize(
    ("seeds", "shape", "kind"),
    [(3, (4, 8, 8), "cpu"), ("3", (4, 8, 8), "cpu"), ([3], 3, "cpu"), ([3], (4,), 3)],
)
def test_noise(seeds: Any, shape: Any, kind: Any) -> None:
    with pytest.raises(OptionError):
        ImageNoise(seeds, shape, kind=kind)
