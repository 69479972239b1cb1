"""Adapters exchanged on compiled networks, text encoders among them: the same code runs on, and answers the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from sigmagraft.loras import Module, parse_expression
from sigmagraft.loras.curve import Place
from sigmagraft.standalone import compiled
from sigmagraft.standalone.lora_stack import Loras
from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.unet import UNet, UNetConfig

from ..loras.files import lora, matrices, mixed
from ..loras.small import write

UNET = UNetConfig(
    model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,), context_dim=64
)
TEXT = TextConfig(vocab=64, width=64, layers=1, heads=1, intermediate=128)
Maker = Callable[[list[Module]], dict[str, Tensor]]


class Twins:
    """A UNet and two text encoders compiled (traced, then run as they stand), and the same three as they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        plain: dict[str, nn.Module] = {"unet": UNet(UNET)}
        plain |= {name: TextEncoder(TEXT) for name in ("text_encoder", "text_encoder_2")}
        for network in plain.values():
            network.eval().requires_grad_(False)
        made: dict[str, nn.Module] = {
            name: torch.compile(copy.deepcopy(network), backend="eager", dynamic=False)  # type: ignore[misc]
            for name, network in plain.items()
        }
        self.networks = [made, plain]
        self.loras = [Loras(lambda own=own: own) for own in self.networks]
        torch.manual_seed(1)
        self.x, self.context = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 64)
        self.ids = torch.tensor([[1, 5, 9, 2]])

    def answers(self) -> list[Tensor]:
        """What the compiled networks answer; the others must answer the same."""
        with torch.inference_mode():
            found = [self._answers(own) for own in self.networks]
        for one, other in zip(*found, strict=True):
            assert torch.allclose(one, other, atol=1e-4 * other.abs().max().item())
        return found[0]

    def _answers(self, networks: dict[str, nn.Module]) -> list[Tensor]:
        texts = [networks[name] for name in ("text_encoder", "text_encoder_2")]
        read = [text(text.embed(self.ids), torch.tensor([3]))[0] for text in texts]  # type: ignore[operator]
        return [networks["unet"](self.x, torch.tensor([300.0]), self.context), *read]

    def load(self, name: str, make: Maker) -> None:
        path = write(self.folder / f"{name}.safetensors", make(matrices(self.loras[0].targets)))
        for own in self.loras:
            own.load(path, name)
            own.set({})

    def set(self, **weights: str) -> None:
        strengths = {name: parse_expression(f"x:{text}")[1] for name, text in weights.items()}
        for own in self.loras:
            own.set(strengths)

    def at(self, sigma: float) -> None:
        for own in self.loras:
            own.at(Place(sigma))


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twins]:
    monkeypatch.setattr(compiled, "_THAWED", [])
    torch.compiler.reset()
    counters.clear()
    yield Twins(tmp_path)
    torch.compiler.reset()


def graphs() -> int:
    """How many graphs have been compiled."""
    return counters["stats"]["unique_graphs"]


def different(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_adapters_of_any_family_and_rank_are_exchanged_without_compiling(twins: Twins) -> None:
    plain = twins.answers()
    compiled_once = graphs()
    assert compiled_once >= 2  # the text encoders may share theirs
    twins.load("a", lambda modules: lora(modules, rank=4))
    twins.load("b", lambda modules: lora(modules, rank=13, seed=1))
    twins.load("c", lambda modules: mixed([m for m in modules if min(m.shapes["weight"]) % 4 == 0]))
    seen = [plain]
    for weights in ({"a": "1"}, {"b": "0.5:te=-1"}, {"a": "0.3", "b": "0.2"}, {"c": "0.5"}, {"a": "1"}):
        twins.set(**weights)
        seen.append(twins.answers())
        assert different(seen[-1], seen[-2])
    for own in twins.loras:
        own.fuse()
    assert not different(twins.answers(), seen[-1])
    for own in twins.loras:
        own.unfuse()
        own.clear()
    assert all(torch.equal(a, b) for a, b in zip(twins.answers(), plain, strict=True))
    assert graphs() == compiled_once


@pytest.mark.slow
def test_adapters_that_move_share_code_with_the_largest_before_them(twins: Twins) -> None:
    """The first makes its layers compile anew, a larger one too; then none, smaller, equal or strong as they are."""
    twins.load("small", lambda modules: lora(modules, rank=3))
    twins.load("large", lambda modules: lora(modules, rank=11, seed=1))
    twins.load("other", lambda modules: lora(modules, rank=14, seed=2))
    twins.answers()
    seen = []
    for name in ("small", "large", "other", "small", "large"):
        twins.set(**{name: "0.5:sigma=0@10,1@1"})
        for sigma in (5.0, 1.0):
            twins.at(sigma)
            twins.answers()
        seen.append(graphs())
    assert seen[0] < seen[1] == seen[2] == seen[3] == seen[4]
