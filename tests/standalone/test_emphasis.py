"""Emphasis: each convention's arithmetic against its formula, element by element."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.standalone.emphasis import EMPHASIS, find_emphasis


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 5, 3, generator=generator) - 0.4
    empty = torch.randn(5, 3, generator=generator)
    weights = torch.tensor([[1.0, 1.3, 0.5, 1.0, 1.0], [1.0, 1.0, -1.0, 0.0, 2.0]])
    return z, weights, empty


def one_by_one(name: str, z, weights, empty):
    """The formulas, one number at a time in float64."""
    out = torch.zeros_like(z, dtype=torch.float64)
    for c in range(z.shape[0]):
        for i in range(z.shape[1]):
            for k in range(z.shape[2]):
                value, w, e = float(z[c, i, k]), float(weights[c, i]), float(empty[i, k])
                out[c, i, k] = {"comfyui": (value - e) * w + e, "none": value, "diffusers": value}.get(
                    name, value * w
                )
        if name == "a1111":
            values = [float(v) for v in z[c].flatten()]
            weighed = [float(v) for v in out[c].flatten()]
            out[c] *= (sum(values) / len(values)) / (sum(weighed) / len(weighed))
    return out


@pytest.mark.parametrize("name", EMPHASIS)
def test_arithmetic(name, states):
    found = EMPHASIS[name].weigh(*states)
    torch.testing.assert_close(found.double(), one_by_one(name, *states), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EMPHASIS)
def test_weight_one_changes_nothing(name, states):
    z, _, empty = states
    torch.testing.assert_close(EMPHASIS[name].weigh(z, torch.ones(z.shape[:2]), empty), z)


def test_a1111_keeps_each_chunks_mean(states):
    z, weights, empty = states
    found = EMPHASIS["a1111"].weigh(z, weights, empty)
    torch.testing.assert_close(found.mean(dim=(1, 2)), z.mean(dim=(1, 2)))


def test_a1111_where_there_is_no_mean(states):
    z, weights, empty = states
    z = z - z.mean(dim=(1, 2), keepdim=True)
    found = EMPHASIS["a1111"].weigh(z, weights, empty)
    torch.testing.assert_close(found, z * weights[..., None])
    assert torch.isfinite(EMPHASIS["a1111"].weigh(torch.zeros_like(z), weights, empty)).all()


@pytest.mark.parametrize(
    ("name", "hint"), [("a111", "'a1111'"), ("comfy", "'comfyui'"), ("zzz", "choose from: a1111")]
)
def test_unknown(name, hint):
    with pytest.raises(OptionError, match=f"unknown emphasis '{name}'.*{hint}"):
        find_emphasis(name)
