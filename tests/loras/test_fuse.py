"""Merging changes what it says and nothing else; whatever is taken out leaves every byte as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sigmagraft.core.entry import Pages
from sigmagraft.core.errors import FileError
from sigmagraft.core.safetensors_file import read_safetensors
from sigmagraft.loras import Bound, Forward, Fused, fuse
from sigmagraft.loras.delta import Delta
from sigmagraft.loras.forward import Term
from sigmagraft.loras.full import Full

from .files import lora, matrices, mixed
from .small import Small, targets, write

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, modules = tmp_path_factory.mktemp("adapters"), matrices(targets())
    kept = [m for m in modules if min(m.shapes["weight"][:2]) >= 32 and m.shapes["weight"][1] % 4 == 0]
    return [
        write(folder / "a.safetensors", lora(modules)),
        write(folder / "b.safetensors", mixed(kept)),
        write(folder / "c.safetensors", lora(modules[::3], rank=2, seed=7)),
    ]


def changes(*chosen: tuple[Bound, float]) -> dict[str, list[tuple[Delta, float]]]:
    found: dict[str, list[tuple[Delta, float]]] = {}
    for bound, strength in chosen:
        for key, deltas in bound.deltas.items():
            found.setdefault(key, []).extend((delta, strength) for delta in deltas)
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_merging_and_taking_out_leaves_every_byte(dtype: torch.dtype, paths: list[Path]) -> None:
    small = Small(dtype)
    a, b, c = (small.load(path) for path in paths)
    before = small.hashes()
    seen = []
    for step in ([(a, 1.0)], [(a, 0.5), (b, -0.7)], [(c, 1.0)], [], [(b, 1.0), (c, 0.3)], [(a, 1.0)], []):
        small.fused.apply(changes(*step))
        seen.append(small.hashes())
        assert all(parameter.dtype == dtype for parameter in small.parameters.values())
    assert seen[3] == seen[6] == before
    assert seen[5] == seen[0] != before
    assert not small.fused.originals


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces, channels last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_merged_weight_is_the_sum_rounded_once(
    dtype: torch.dtype,
    pieces: bool,
    paths: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Small(dtype)
    if pieces:
        monkeypatch.setattr(fuse, "_CHUNK", 1000)
        small.networks["unet"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    a, c = small.load(paths[0]), small.load(paths[2])
    originals = {key: small.parameters[key].detach().double().clone() for key in a.deltas}
    small.fused.apply(changes((a, 0.8), (c, -0.5)))
    for key, original in originals.items():
        exact = original.clone()
        for bound, strength in ((a, 0.8), (c, -0.5)):
            for delta in bound.deltas.get(key, ()):
                up, down = delta.up.double().flatten(1), delta.down.double().flatten(1)  # type: ignore[attr-defined]
                exact += strength * 0.5 * (up @ down).reshape(exact.shape)
        spacing = torch.finfo(dtype).eps * exact.abs().clamp_min(torch.finfo(dtype).smallest_normal * 2)
        assert ((small.parameters[key].double() - exact).abs() <= 0.51 * spacing + 1e-6).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exchanging_adapters_takes_no_new_memory(dtype: torch.dtype, paths: list[Path]) -> None:
    small = Small(dtype)
    a, c = small.load(paths[0]), small.load(paths[2])
    small.fused.apply(changes((a, 1.0)))
    places = {key: small.parameters[key].data_ptr() for key in c.deltas}
    small.fused.apply(changes((c, 0.5)))
    assert {key: small.parameters[key].data_ptr() for key in c.deltas} == places
    swapped = small.hashes()
    small.fused.restore()
    assert small.hashes() == Small(dtype).hashes()
    small.fused.apply(changes((c, 0.5)))
    assert small.hashes() == swapped


def test_what_was_taken_out_leaves_its_memory_to_the_next_until_released(paths: list[Path]) -> None:
    small = Small(torch.bfloat16)
    before, change = small.hashes(), changes((small.load(paths[0]), 1.0))
    small.fused.apply(change)
    merged, places = small.hashes(), {key: small.parameters[key].data_ptr() for key in change}
    small.fused.restore()
    assert {key: spare.data_ptr() for key, spare in small.fused.spare.items()} == places
    assert small.hashes() == before
    small.fused.apply(change)
    assert {key: small.parameters[key].data_ptr() for key in change} == places
    assert small.hashes() == merged
    assert not small.fused.spare
    small.fused.restore()
    for network in small.networks.values():
        network.half()
    small.fused.apply(change)  # memory of another dtype is of no use
    assert all(parameter.dtype == torch.float16 for parameter in small.parameters.values())
    small.fused.restore()
    small.fused.release()
    assert not small.fused.spare
    assert small.hashes() == _halved(before)


def _halved(before: dict[str, int]) -> dict[str, int]:
    """The hashes of a model of bf16 weights that was made fp16."""
    small = Small(torch.bfloat16)
    assert small.hashes() == before
    for network in small.networks.values():
        network.half()
    return small.hashes()


def test_a_mapped_weight_stays_mapped_and_its_file_untouched(tmp_path: Path, paths: list[Path]) -> None:
    small = Small()
    file = write(tmp_path / "model.safetensors", dict(small.parameters))
    content = file.read_bytes()
    pages = Pages()
    mapped = {
        key: nn.Parameter(pages.tensor(e), requires_grad=False)
        for key, e in read_safetensors(file)[0].items()
    }
    addresses = {key: parameter.data_ptr() for key, parameter in mapped.items()}
    fused = Fused(mapped)
    fused.apply(changes((small.load(paths[0]), 1.0)))
    assert sum(addresses[key] != mapped[key].data_ptr() for key in mapped) == len(fused.originals) > 20
    fused.restore()
    assert {key: parameter.data_ptr() for key, parameter in mapped.items()} == addresses
    assert file.read_bytes() == content


@dataclass(frozen=True, eq=False)
class Interrupted(Delta):
    """A change at which a person presses Ctrl-C."""

    nothing: Tensor

    family = "interruption"

    def change(self, weight: Tensor) -> Tensor:
        raise KeyboardInterrupt


@pytest.mark.parametrize("already", [False, True], ids=["clean", "with another merged"])
def test_an_interruption_leaves_the_weights_as_they_were(already: bool, paths: list[Path]) -> None:
    small = Small()
    a, b = small.load(paths[0]), small.load(paths[1])
    if already:
        small.fused.apply(changes((b, 0.4)))
    before = small.hashes()
    wanted = changes((a, 1.0))
    middle = list(wanted)[len(wanted) // 2]
    wanted[middle].append((Interrupted(torch.zeros(1)), 1.0))
    with pytest.raises(KeyboardInterrupt):
        small.fused.apply(wanted)
    assert small.hashes() == before
    small.fused.restore()
    assert small.hashes() == Small().hashes()


def test_what_leaves_the_range_of_fp16_is_refused(paths: list[Path]) -> None:
    small = Small(torch.float16)
    before = small.hashes()
    wanted = changes((small.load(paths[0]), 1.0))
    last = list(wanted)[-1]
    wanted[last].append((Full(torch.full(small.parameters[last].shape, 6e4)), 2.0))
    with pytest.raises(FileError, match="leaves the range of float16"):
        small.fused.apply(wanted)
    assert small.hashes() == before


def test_only_what_changes_is_kept_twice(paths: list[Path]) -> None:
    small = Small()
    bound = small.load(paths[2])
    small.fuse(bound)
    assert set(small.fused.originals) == set(bound.deltas)
    small.fuse(bound, 0.0)
    assert not small.fused.originals


def _run(small: Small) -> Tensor:
    torch.manual_seed(2)
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 64)
    return small.networks["unet"](x, torch.tensor([3.0, 700.0]), context)


@torch.no_grad()
def test_apart_and_merged_are_the_same_network(paths: list[Path]) -> None:
    small = Small()
    before, hashes = _run(small), small.hashes()
    bounds = [(small.load(paths[0]), 0.7), (small.load(paths[1]), 1.0), (small.load(paths[2]), -0.4)]
    small.fused.apply(changes(*bounds))
    merged = _run(small)
    small.fused.restore()
    layers = {key: small.layer(key.rpartition(".")[0]) for key in small.parameters if key.startswith("unet.")}
    forward = Forward(layers, small.fused.original)
    terms = {k: [Term(d, s) for d, s in v] for k, v in changes(*bounds).items() if k.startswith("unet.")}
    forward.set(terms)
    apart = _run(small)
    assert small.hashes() == hashes
    assert (merged - before).abs().max() > 1e-2
    assert torch.allclose(apart, merged, atol=2e-4 * merged.abs().max().item())
    forward.clear()
    assert torch.equal(_run(small), before)
    assert not any(layer._forward_hooks for layer in layers.values())


@torch.no_grad()
def test_terms_and_originals_follow_a_network_that_is_converted(paths: list[Path]) -> None:
    small = Small()
    bound = small.load(paths[0])
    unet, x = small.networks["unet"], (torch.randn(1, 4, 8, 8), torch.tensor([3.0]), torch.randn(1, 7, 64))
    layers = {key: small.layer(key.rpartition(".")[0]) for key in bound.deltas if key.startswith("unet.")}
    forward = Forward(layers, small.fused.original)
    forward.set({key: [Term(d, 0.5) for d in bound.deltas[key]] for key in layers})
    apart = unet(*x)
    unet.double()
    assert torch.allclose(unet(*(t.double() for t in x)), apart.double(), atol=1e-4)
    unet.float()
    forward.clear()
    small.fuse(bound)
    for network in small.networks.values():
        network.half()
    small.fused.restore()
    assert small.hashes() == Small(torch.float16).hashes()
