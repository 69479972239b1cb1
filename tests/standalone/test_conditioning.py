"""Conditioning: contexts of different lengths in one batch, and the vector of sizes."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.embeddings import Timesteps
from torch.nn import functional as F

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.standalone.conditioning import (
    Conditioning,
    aligned,
    repeat_to,
    sinusoids,
    size_vector,
    stacked,
)
from sigmagraft.standalone.textrules import Sizes


def attention(x, context):
    return F.scaled_dot_product_attention(x[None], context[None], context[None] * 0.7)[0]


def test_repeating_a_context_leaves_cross_attention_as_it_is():
    torch.manual_seed(0)
    x, context = torch.randn(10, 8), torch.randn(77, 8)
    torch.testing.assert_close(attention(x, repeat_to(context, 77 * 6)), attention(x, context))
    padded = torch.cat([context, torch.randn(77, 8)])
    assert not torch.allclose(attention(x, padded), attention(x, context), atol=1e-2)


def test_stacked():
    contexts = [torch.randn(77 * n, 4) for n in (2, 3, 1)]
    stack = stacked(contexts)
    assert stack.shape == (3, 77 * 6, 4)
    for row, context in zip(stack, contexts, strict=True):
        for part in row.split(len(context)):
            assert torch.equal(part, context)


def test_one_length_is_not_repeated():
    assert stacked([torch.zeros(154, 4)] * 2).shape == (2, 154, 4)
    assert stacked([torch.zeros(77 * 500, 1)]).shape == (1, 77 * 500, 1)


def test_lengths_without_a_reasonable_common_one():
    with pytest.raises(OptionError, match="prompts of 11, 13 chunks"):
        stacked([torch.zeros(77 * n, 1) for n in (11, 13)])


def test_aligned():
    cond = Conditioning(torch.randn(2, 77 * 3, 4), torch.randn(2, 5))
    uncond = Conditioning(torch.randn(2, 77 * 2, 4), torch.randn(2, 5))
    a, b = aligned(cond, uncond)
    assert a.context.shape == b.context.shape == (2, 77 * 6, 4)
    assert a.vector is cond.vector
    assert len(a) == 2
    assert a[1:].context.shape == (1, 77 * 6, 4)


def test_sinusoids_equal_diffusers():
    values = [1024.0, 768.0, 0.0, 13.0, 6.0, 2.5]
    reference = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)(torch.tensor(values)).flatten()
    torch.testing.assert_close(sinusoids(values), reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "pooled", "width"), [("target", 1280, 2816), ("aesthetic", 1280, 2560)])
def test_size_vector_of_sdxl(kind, pooled, width):
    text = torch.randn(pooled)
    vector = size_vector(text, Sizes().values(kind, (1216, 832)), width)
    assert vector.shape == (width,)
    assert torch.equal(vector[:pooled], text)


def test_order_of_the_numbers():
    sizes = Sizes(original=(1, 2), crop=(3, 4), target=(5, 6))
    assert sizes.values("target", (9, 9)) == [2, 1, 4, 3, 6, 5]
    assert sizes.values("aesthetic", (9, 9)) == [2, 1, 4, 3, 6.0]
    assert sizes.values("aesthetic", (9, 9), negative=True) == [2, 1, 4, 3, 2.5]
    assert Sizes(aesthetic=7).values("aesthetic", (8, 9), negative=True) == [9, 8, 0, 0, 7]
    assert Sizes().values("target", (8, 9)) == [9, 8, 0, 0, 9, 8]


@pytest.mark.parametrize("width", [1280, 2815, 100])
def test_a_vector_that_does_not_fit(width):
    with pytest.raises(FileError, match=f"vector of {width}, this text encoder gives 1280"):
        size_vector(torch.zeros(1280), [1.0] * 6, width)
