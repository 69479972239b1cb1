"""base + what is extracted is the tuned model; each factor pair is the best there is of its rank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sigmagraft.core.errors import OptionError
from sigmagraft.loras import bind
from sigmagraft.loras.extract import KINDS, Extract, Models, common
from sigmagraft.loras.resize import Keep, low_rank
from sigmagraft.loras.save import NAMINGS
from sigmagraft.loras.save_files import read_adapter, save_lora
from sigmagraft.standalone.load import load_model
from sigmagraft.standalone.lora_networks import networks_of
from sigmagraft.standalone.lora_stack import wire
from sigmagraft.standalone.lora_targets import named

from ..standalone.files import tensors as tensors_of_file
from ..standalone.files import write_file
from .small import targets

RANK = 3
PREFIXES = ("model.diffusion_model.", "cond_stage_model.")
Change = Callable[[str, Tensor], Tensor]


def low(name: str, value: Tensor) -> Tensor:
    """Every matrix changed by rank 3, unevenly; nothing else."""
    if value.ndim < 2 or "embedding" in name:
        return value
    matrix = value.flatten(1)
    up, down = torch.randn(len(matrix), RANK), torch.randn(RANK, matrix.shape[1])
    return value + (up * torch.tensor([0.1, 0.03, 0.01]) @ down).reshape(value.shape)


def whole(name: str, value: Tensor) -> Tensor:
    """Everything changed."""
    return value + 0.05 * torch.randn_like(value)


def tuned_file(path: Path, change: Change, dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(1)
    plain = {name: value.to(dtype) for name, value in tensors_of_file().items()}
    changed = {
        name: change(name, value.float()).to(dtype)
        for name, value in plain.items()
        if name.startswith(PREFIXES) and value.is_floating_point()
    }
    return write_file(path, plain | changed)


def same(name: str, value: Tensor) -> Tensor:
    return value


def extracted(base: Path, tuned: Path, out: Path, extract: Extract, naming: str = "kohya") -> Path:
    one, other = named(str(base)), named(str(tuned))
    there = common(one.targets, other.targets)
    save_lora(out, list(extract.parts(Models(there, one.stored, other.stored))), there, naming)
    return out


def apart(base: Path, tuned: Path, adapter: Path | None) -> dict[str, float]:
    """Patch key -> the largest difference between base with the adapter in it and tuned."""
    models = [load_model(path) for path in (base, tuned)]
    wiring = wire(networks_of(models[0]))
    if adapter is not None:
        bound = bind(read_adapter(adapter), targets())
        assert not bound.report.unused
        wiring.fused.apply({key: [(delta, 1.0) for delta in own] for key, own in bound.deltas.items()})
    found = {}
    for network, other in networks_of(models[1]).items():
        for name, value in other.named_parameters():
            ours = wiring.fused.parameters[f"{network}.{name}"]
            found[f"{network}.{name}"] = float((ours.float() - value.float()).abs().max())
    return found


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_lora_of_enough_rank_makes_the_tuned_model(naming: str, tmp_path: Path) -> None:
    base = tuned_file(tmp_path / "base.safetensors", same)
    tuned = tuned_file(tmp_path / "tuned.safetensors", low)
    assert max(apart(base, tuned, None).values()) > 0.1
    out = tmp_path / ("out" if naming == "peft" else "out.safetensors")
    extract = Extract("locon", Keep(RANK))
    adapter = extracted(base, tuned, out, extract, naming)
    assert not extract.left
    assert max(apart(base, tuned, adapter).values()) < 1e-5
    assert set(read_adapter(adapter).ranks) == {RANK}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_whole_difference_is_the_tuned_model_up_to_its_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    base = tuned_file(tmp_path / "base.safetensors", same, dtype)
    tuned = tuned_file(tmp_path / "tuned.safetensors", whole, dtype)
    adapter = extracted(base, tuned, tmp_path / "out.safetensors", Extract("full"))
    allowed = 0.0 if dtype.itemsize == 2 else torch.finfo(dtype).eps
    left = apart(base, tuned, adapter)
    assert len(left) == len(targets().shapes)
    assert max(left.values()) <= allowed * 4


def test_a_lora_leaves_out_what_it_cannot_hold_and_says_so(tmp_path: Path) -> None:
    base = tuned_file(tmp_path / "base.safetensors", same)
    tuned = tuned_file(tmp_path / "tuned.safetensors", whole)
    extract = Extract("lora", Keep(4))
    found = read_adapter(extracted(base, tuned, tmp_path / "a.safetensors", extract))
    shapes = [shape for module in targets().modules for shape in module.shapes.values()]
    assert extract.left["biases and norms"] == sum(len(shape) < 2 for shape in shapes)
    assert extract.left["convolutions"] == sum(len(shape) == 4 and shape[2] > 1 for shape in shapes)
    assert extract.left["tables of tokens and positions"] == 2
    assert len(found.parts) == len(shapes) - sum(extract.left.values())


def test_energy_keeps_as_many_ranks_as_hold_it(tmp_path: Path) -> None:
    base = tuned_file(tmp_path / "base.safetensors", same)
    tuned = tuned_file(tmp_path / "tuned.safetensors", whole)
    one, other = named(str(base)), named(str(tuned))
    models = Models(common(one.targets, other.targets), one.stored, other.stored)
    for module, part in Extract("locon", Keep(energy=0.7)).parts(models):
        (_, delta), values = (
            part.deltas[0],
            torch.linalg.svdvals(models.change(module.key("weight")).flatten(1)),
        )
        share = values.square().cumsum(0) / values.square().sum()
        assert share[delta.rank - 1] >= 0.7 - 1e-5  # type: ignore[operator]
        assert delta.rank == 1 or share[delta.rank - 2] < 0.7 + 1e-5  # type: ignore[operator]


def test_convolutions_may_have_a_rank_of_their_own(tmp_path: Path) -> None:
    base = tuned_file(tmp_path / "base.safetensors", same)
    tuned = tuned_file(tmp_path / "tuned.safetensors", whole)
    path = extracted(base, tuned, tmp_path / "a.safetensors", Extract("locon", Keep(4), Keep(2)))
    for key, deltas in bind(read_adapter(path), targets()).deltas.items():
        shape = targets().shapes[key]
        assert deltas[0].rank == (2 if len(shape) == 4 and shape[2] > 1 else 4)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_are_the_same_are_left_out(kind: str, tmp_path: Path) -> None:
    base = tuned_file(tmp_path / "base.safetensors", same)
    tuned = tuned_file(
        tmp_path / "tuned.safetensors",
        lambda name, value: low(name, value) if "attn2.to_k" in name else value,
    )
    found = read_adapter(extracted(base, tuned, tmp_path / "a.safetensors", Extract(kind, Keep(2))))
    assert found.parts
    assert all(stem.endswith("attn2_to_k") for stem in found.parts)


def test_one_model_in_two_dtypes_is_one_model(tmp_path: Path) -> None:
    """What rounding alone makes different is no change."""
    base = tuned_file(tmp_path / "base.safetensors", same)
    half = tuned_file(tmp_path / "half.safetensors", same, torch.float16)
    one, other = named(str(base)), named(str(half))
    for pair in ((one, other), (other, one)):
        models = Models(common(one.targets, other.targets), pair[0].stored, pair[1].stored)
        assert not list(Extract("full").parts(models))


def test_models_of_two_kinds_are_refused(tmp_path: Path) -> None:
    base = named(str(tuned_file(tmp_path / "base.safetensors", same)))
    wide = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}
    other = named(str(write_file(tmp_path / "inpaint.safetensors", wide)))
    with pytest.raises(OptionError, match=r"32 x 4 x 3 x 3 and 32 x 9 x 3 x 3"):
        common(base.targets, other.targets)


@pytest.mark.parametrize("shape", [(48, 40), (40, 48), (32, 16, 3, 3)])
def test_factors_are_those_that_lycoris_extracts(shape: tuple[int, ...]) -> None:
    theirs = pytest.importorskip("lycoris.utils", reason="the package lycoris-lora is the oracle")
    torch.manual_seed(0)
    change = torch.randn(shape)
    take = theirs.extract_linear if len(shape) == 2 else theirs.extract_conv
    (down, up, _), kind = take(change.double(), "fixed", 5)
    assert kind == "low rank"
    ours = low_rank(change, Keep(5))
    expected = up.flatten(1) @ down.flatten(1)
    assert (ours.up.flatten(1) @ ours.down.flatten(1) - expected).abs().max() < 1e-5
