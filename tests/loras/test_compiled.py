"""Terms on compiled layers: new strengths and other adapters run in the same compiled code."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from sigmagraft.loras import Forward, Fused
from sigmagraft.loras.curve import Place
from sigmagraft.loras.forward import Term
from sigmagraft.loras.lowrank import LowRank

KEYS = ("unet.0.weight", "unet.2.weight")


class Compiled:
    """Two layers compiled (traced as for any backend, run as they stand), and the same two as they are."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).requires_grad_(False)
        self.twin = copy.deepcopy(self.net)
        self.counter = CompileCounter()
        self.compiled = torch.compile(self.net, backend=self.counter, dynamic=False)
        self.x = torch.randn(3, 8)
        self.fused = [Fused({key: _layer(net, key).weight for key in KEYS}) for net in (self.net, self.twin)]
        self.forward = [
            Forward({key: _layer(net, key) for key in KEYS}, fused.original)
            for net, fused in zip((self.net, self.twin), self.fused, strict=True)
        ]

    def answer(self) -> Tensor:
        """What the compiled layers answer; the twin must answer the same."""
        with torch.inference_mode():
            found = self.compiled(self.x)
            assert torch.allclose(found, self.twin(self.x), atol=1e-5)
        return found


def _layer(net: nn.Module, key: str) -> nn.Linear:
    return net.get_submodule(key.split(".")[1])  # type: ignore[return-value]


def pair(rank: int) -> LowRank:
    return LowRank(torch.randn(8, rank), torch.randn(rank, 8))


@pytest.fixture
def two() -> Iterator[Compiled]:
    torch.compiler.reset()
    yield Compiled()
    torch.compiler.reset()


def test_merged_adapters_are_exchanged_in_the_same_code(two: Compiled) -> None:
    plain = two.answer()
    for strength in (1.0, -0.5):
        change = {key: [(pair(4), strength)] for key in KEYS}
        for fused in two.fused:
            fused.apply(change)
        assert not torch.equal(two.answer(), plain)
    for fused in two.fused:
        fused.restore()
    assert torch.equal(two.answer(), plain)
    assert two.counter.frame_count == 1


def _put(two: Compiled, rank: int, moving: Callable[[Place], float] | None = None) -> bool:
    terms = {key: [Term(pair(rank), 1.0, moving)] for key in KEYS}
    told = {forward.put(forward.prepare(terms)) for forward in two.forward}
    assert len(told) == 1
    return told.pop()


def test_terms_of_ranks_that_pad_to_one_share_code_whatever_their_strength(two: Compiled) -> None:
    assert _put(two, 4)
    seen = [two.answer()]
    for rank in (4, 7, 8):
        assert not _put(two, rank, lambda place: place.sigma)
        for sigma in (3.0, 1.0):
            for forward in two.forward:
                forward.at(Place(sigma))
            seen.append(two.answer())
    assert two.counter.frame_count == 1
    assert all(not torch.equal(a, b) for a, b in pairwise(seen))
    for forward in two.forward:
        forward.clear()
    two.answer()


def test_after_the_largest_rank_smaller_ones_share_its_code(two: Compiled) -> None:
    for forward in two.forward:
        forward.keep_ranks = True
    seen = []
    for rank in (4, 13, 4, 16, 1):
        _put(two, rank)
        two.answer()
        seen.append(two.counter.frame_count)
    assert seen == [1, 2, 2, 2, 2]


def test_layers_that_get_their_first_term_are_told_of(two: Compiled) -> None:
    """Compiled code does not notice them: who compiled it must compile anew."""
    two.answer()
    assert _put(two, 4)
    torch.compiler.reset()
    two.answer()
