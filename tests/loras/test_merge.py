"""Merging and resizing beside PEFT's own and beside the singular values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from sigmagraft.core.errors import FileError
from sigmagraft.loras import Module, bind, read_lora
from sigmagraft.loras.dora import DoRA
from sigmagraft.loras.full import Full
from sigmagraft.loras.lora_file import Part
from sigmagraft.loras.lowrank import LowRank
from sigmagraft.loras.measure import dense_change
from sigmagraft.loras.merge import METHODS, Merge, Source
from sigmagraft.loras.resize import Keep, factored, low_rank, resized
from sigmagraft.loras.save import Placed, placed

from .files import matrices, mixed
from .small import Small, write

WEIGHTS = (1.5, -0.5)
PATH = Path("ink")
THEIRS = {
    "linear": "linear",
    "cat": "cat",
    "svd": "svd",
    "ties": "ties_svd",
    "magnitude_prune": "magnitude_prune_svd",
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(12, 10), nn.Conv2d(4, 6, 3)


def module(name: str, *shape: int) -> Module:
    return Module("unet", name, {"weight": shape}, {})


SHAPES = {"a": (10, 12), "c": (6, 4, 3, 3)}


def theirs() -> Any:
    torch.manual_seed(0)
    model = peft.get_peft_model(Net(), peft.LoraConfig(r=4, lora_alpha=2, target_modules=["a", "c"]), "x")
    model.add_adapter("y", peft.LoraConfig(r=4, lora_alpha=8, target_modules=["a", "c"]))
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data = torch.randn_like(value)
    return model


def sources(model: Any) -> list[Source]:
    """PEFT's two adapters as we read them."""
    found = []
    for adapter, weight in zip("xy", WEIGHTS, strict=True):
        parts = []
        for name, shape in SHAPES.items():
            layer = getattr(model.base_model.model, name)
            up, down = layer.lora_B[adapter].weight.detach(), layer.lora_A[adapter].weight.detach()
            parts.append(Placed(module(name, *shape), part(name, LowRank(up, down, layer.scaling[adapter]))))
        found.append(Source(PATH, parts, weight))
    return found


def part(name: str, *deltas: Any) -> Part:
    return Part(name, [("weight", delta) for delta in deltas], [])


def changes(parts: list[Placed]) -> dict[str, Tensor]:
    found = {}
    for there, own in parts:
        change = dense_change(own.deltas[0][1], there.shapes["weight"])
        assert change is not None
        found[there.path] = change
    return found


@pytest.mark.parametrize("method", THEIRS)
def test_merging_is_pefts(method: str) -> None:
    model = theirs()
    pruning = {"density": 0.4} if method in ("ties", "magnitude_prune") else {}
    rank = {"svd_rank": 3} if THEIRS[method].endswith("svd") else {}
    model.base_model.add_weighted_adapter(
        ["x", "y"], list(WEIGHTS), "merged", combination_type=THEIRS[method], **pruning, **rank
    )
    ours = changes(Merge(method, Keep(rank=3), **pruning).merged(sources(model)))
    for name in SHAPES:
        expected = getattr(model.base_model.model, name).get_delta_weight("merged")
        assert (ours[name] - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_is_random_by_its_seed_and_dare_linear_right_in_the_mean(method: str) -> None:
    own = sources(theirs())
    runs = [changes(Merge(method, Keep(), 0.5, seed).merged(own))["a"] for seed in (0, 0, *range(1, 300))]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    if method == "dare_linear":
        expected = changes(Merge("svd", Keep()).merged(own))["a"]
        spread = torch.stack(runs).std(0) / len(runs) ** 0.5
        assert ((torch.stack(runs).mean(0) - expected).abs() < 5 * spread + 1e-4).all()


def test_a_random_state_outside_stays() -> None:
    own = sources(theirs())
    before = torch.random.get_rng_state()
    Merge("dare_linear", Keep(2)).merged(own)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(10, 12), (12, 10), (6, 4, 3, 3)])
@pytest.mark.parametrize("rank", [1, 4, 50])
def test_a_low_rank_is_the_nearest_there_is(shape: tuple[int, ...], rank: int) -> None:
    torch.manual_seed(0)
    change = torch.randn(shape)
    u, values, v = torch.linalg.svd(change.flatten(1), full_matrices=False)
    kept = min(rank, len(values))
    expected = (u[:, :kept] * values[:kept]) @ v[:kept]
    found = low_rank(change, Keep(rank))
    assert found.rank == kept
    assert (found.matrix(change) - expected).abs().max() < 1e-5
    up, down = torch.randn(shape[0], 5), torch.randn(5, change[0].numel())
    u, values, v = torch.linalg.svd(up @ down, full_matrices=False)
    thin, kept = factored([up], [down], Keep(rank)), min(rank, 5)
    assert (thin.matrix(change) - (u[:, :kept] * values[:kept]) @ v[:kept]).abs().max() < 1e-4


@pytest.mark.parametrize("energy", [0.3, 0.9, 0.999, 1.0])
def test_energy_is_of_the_squares(energy: float) -> None:
    torch.manual_seed(0)
    change = torch.randn(10, 12)
    found = low_rank(change, Keep(energy=energy))
    squares = torch.linalg.svdvals(change).square()
    held = squares.cumsum(0) / squares.sum()
    assert held[found.rank - 1] >= energy - 1e-6
    assert found.rank == 1 or held[found.rank - 2] < energy
    assert low_rank(change, Keep(2, energy)).rank == min(2, found.rank)


def test_resizing_keeps_magnitudes_and_alpha_is_the_rank() -> None:
    torch.manual_seed(0)
    inner, magnitude = LowRank(torch.randn(10, 4), torch.randn(4, 12), 0.25), torch.rand(10, 1)
    cut = resized(Placed(module("a", 10, 12), part("a", DoRA(inner, magnitude))), Keep(2)).part
    delta = cut.deltas[0][1]
    assert isinstance(delta, DoRA)
    assert delta.magnitude is magnitude
    assert (cut.alpha, delta.rank) == (2.0, 2)
    whole = resized(Placed(module("a", 10, 12), part("a", inner)), Keep(64)).part.deltas[0][1]
    assert (whole.change(torch.zeros(10, 12)) - inner.change(torch.zeros(10, 12))).abs().max() < 1e-5


def test_every_family_becomes_one_lora(tmp_path: Path) -> None:
    """Ranks left whole, the merged adapter changes the weights as both do together."""
    small = Small()
    modules = matrices(small.targets)[:14]
    files = [read_lora(write(tmp_path / f"{n}.safetensors", mixed(modules, n))) for n in (1, 2)]
    given = [Source(f.path, placed(f, small.targets), s) for f, s in zip(files, WEIGHTS, strict=True)]
    with pytest.raises(FileError, match="depends on the weights"):
        Merge("svd", Keep()).merged(given)
    found = Merge("svd", Keep(), weight_of=lambda key: small.parameters[key].data).merged(given)
    bound = [bind(file, small.targets) for file in files]
    for there, own in found:
        key = there.key("weight")
        weight = small.parameters[key].data
        both = zip(bound, WEIGHTS, strict=True)
        expected = sum(delta.change(weight) * s for one, s in both for delta in one.deltas[key])
        assert (own.deltas[0][1].change(weight) - expected).abs().max() < 2e-4  # type: ignore[operator]


@pytest.mark.filterwarnings("ignore:The density 1.0")
@pytest.mark.parametrize("method", METHODS)
def test_a_module_of_one_adapter_alone_and_a_vector(method: str) -> None:
    bias = Full(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    there = module("n", 4)
    found = Merge(method, Keep(1), density=1.0).merged([Source(PATH, [Placed(there, part("n", bias))], 0.5)])
    delta = found[0].part.deltas[0][1]
    assert delta.change(torch.zeros(4)).tolist() == [0.5, 1.0, 1.5, 2.0]


def test_linear_wants_one_rank_and_factors() -> None:
    one, two = (
        Source(PATH, [Placed(module("a", 3, 3), part("a", LowRank(torch.ones(3, r), torch.ones(r, 3))))], 1.0)
        for r in (1, 2)
    )
    with pytest.raises(FileError, match="ranks 1 and 2"):
        Merge("linear", Keep()).merged([one, two])
    full = Source(PATH, [Placed(module("a", 3, 3), part("a", Full(torch.ones(3, 3))))], 1.0)
    for method in ("linear", "cat"):
        with pytest.raises(FileError, match="full difference has no factors"):
            Merge(method, Keep()).merged([one, full])
