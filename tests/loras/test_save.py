"""Adapters written under another naming: the same bits back, and diffusers and PEFT load what is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from sigmagraft.core.errors import FileError
from sigmagraft.loras import Module, Targets, bind, read_lora
from sigmagraft.loras.save import NAMINGS, placed
from sigmagraft.loras.save_files import read_adapter, save_lora

from .files import kohya_name, lora, matrices, mixed
from .small import Small, targets, write
from .test_diffusers import Pair, agree, answers, kohya, pair

__all__ = ["pair"]
FAMILIES = ("LoRA", "DoRA")
UNHELD = ("oft_blocks", "on_input")


def convert(source: Path, out: Path, naming: str, there: Targets) -> Path:
    file = read_adapter(source)
    bind(file, there)
    save_lora(out, placed(file, there), there, naming, file.metadata, file.embeddings)
    return out


def adapter(kind: str, modules: list[Module], alpha: bool = True) -> dict[str, Tensor]:
    """On every module, in fp16; ranks and alphas differ from module to module."""
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for i, module in enumerate(modules):
        own = {key.partition(".")[2]: value for key, value in lora([module], rank=2 + i % 3, seed=i).items()}
        own["alpha"] = torch.tensor(1.0 + i % 2)
        if kind == "DoRA":
            shape = module.shapes["weight"]
            own["dora_scale"] = torch.rand(shape[0], *(1,) * (len(shape) - 1)) + 1
        if not alpha:
            del own["alpha"]
        stem = next(iter(module.names["kohya (diffusers names)" if module.network == "unet" else "kohya"]))
        tensors |= {f"{stem}.{key}": value.half() for key, value in own.items()}
    return tensors


@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("naming", ["diffusers", "peft", "onetrainer"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_there_and_back_every_bit_is_the_same(kind: str, naming: str, texts: int, tmp_path: Path) -> None:
    there, tensors = targets(texts), adapter(kind, matrices(targets(texts)))
    source = write(tmp_path / "ink.safetensors", tensors, {"ss_note": "kept"})
    away = convert(source, tmp_path / ("away" if naming == "peft" else "away.safetensors"), naming, there)
    back = convert(away, tmp_path / "back.safetensors", "kohya", there)
    found = load_file(back)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], value) for key, value in tensors.items())
    assert {value.dtype for value in found.values()} == {torch.float16}
    assert read_lora(back).metadata["ss_note"] == "kept"


def test_without_alpha_nothing_is_added(tmp_path: Path) -> None:
    tensors = adapter("LoRA", matrices(targets()), alpha=False)
    away = convert(
        write(tmp_path / "a.safetensors", tensors), tmp_path / "b.safetensors", "diffusers", targets()
    )
    assert "lora_adapter_metadata" not in read_lora(away).metadata
    assert load_file(convert(away, tmp_path / "c.safetensors", "kohya", targets())).keys() == tensors.keys()


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_model_answers_the_same(kind: str, naming: str, tmp_path: Path) -> None:
    small = Small()
    source = write(tmp_path / "ink.safetensors", adapter(kind, matrices(targets())))
    away = convert(
        source, tmp_path / ("away" if naming == "peft" else "away.safetensors"), naming, small.targets
    )
    changed = []
    for path in (source, away):
        small.fuse(bind(read_adapter(path), small.targets))
        changed.append(small.hashes())
        small.fused.restore()
    assert changed[0] == changed[1]


@pytest.mark.parametrize("naming", [name for name, own in NAMINGS.items() if own.inline])
def test_names_with_alphas_hold_the_other_families_they_have_words_for(naming: str, tmp_path: Path) -> None:
    small = Small()
    tensors = mixed(matrices(small.targets))
    stems = {key.partition(".")[0] for key in tensors if key.endswith(UNHELD)}
    kept = {key: value for key, value in tensors.items() if key.partition(".")[0] not in stems}
    source = write(tmp_path / "a.safetensors", kept)
    away = convert(source, tmp_path / "b.safetensors", naming, small.targets)
    changed = []
    for path in (source, away):
        small.fuse(bind(read_lora(path), small.targets))
        changed.append(small.hashes())
        small.fused.restore()
    assert changed[0] == changed[1]
    assert read_lora(away).families == read_lora(source).families
    assert len(read_lora(away).families) == 5


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("family", range(2, 7))
def test_what_a_naming_cannot_hold_is_refused_and_nothing_written(
    naming: str, family: int, tmp_path: Path
) -> None:
    name = kohya_name(matrices(targets())[family])
    tensors = {k: v for k, v in mixed(matrices(targets())[:7]).items() if k.startswith(f"{name}.")}
    path = write(tmp_path / "a.safetensors", tensors)
    out = tmp_path / ("out" if naming == "peft" else "out.safetensors")
    if NAMINGS[naming].inline and not any(key.endswith(UNHELD) for key in tensors):
        convert(path, out, naming, targets())
        assert load_file(out)
        return
    with pytest.raises(FileError, match="cannot hold"):
        convert(path, out, naming, targets())
    assert not out.exists()


def test_dora_beside_lora_is_refused_where_one_configuration_cannot_say_both(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", mixed(matrices(targets())[:2]))
    with pytest.raises(FileError, match="stands beside"):
        convert(path, tmp_path / "out", "peft", targets())
    assert not (tmp_path / "out").exists()


def test_diffusers_loads_what_is_written(pair: Pair, tmp_path: Path) -> None:
    """Alphas in the header: diffusers answers as we do with kohya's file."""
    source = write(tmp_path / "kohya.safetensors", kohya(pair))
    away = convert(source, tmp_path / "away.safetensors", "diffusers", pair.ours.loras.targets)
    before = answers(pair)[1]
    pair.theirs.load_lora_weights(str(tmp_path), weight_name=away.name)
    pair.ours.load_lora_weights(source)
    try:
        agree(pair, True, before)
    finally:
        pair.theirs.unload_lora_weights()
        pair.ours.unload_lora_weights()


@pytest.mark.parametrize("kind", FAMILIES)
def test_peft_loads_what_is_written(kind: str, pair: Pair, tmp_path: Path) -> None:
    """PEFT's own loader on diffusers' UNet; ranks and alphas differ from layer to layer."""
    there = pair.ours.loras.targets
    modules = [m for m in matrices(there) if m.network == "unet"][::3]
    tensors = adapter(kind, modules)
    source = write(tmp_path / "ink.safetensors", {key: value.float() for key, value in tensors.items()})
    convert(source, tmp_path / "peft", "peft", there)
    before = answers(pair)[1]
    theirs = PeftModel.from_pretrained(pair.theirs.unet, tmp_path / "peft")
    pair.ours.load_lora_weights(source)
    try:
        agree(pair, True, before)
    finally:
        theirs.unload()
        pair.ours.unload_lora_weights()


def test_columns_of_magnitudes_and_tucker_cores_stay_with_kohya(tmp_path: Path) -> None:
    linear = next(m for m in matrices(targets()) if len(m.shapes["weight"]) == 2)
    stem, (out, width) = kohya_name(linear), linear.shapes["weight"]
    tensors = {
        f"{stem}.lora_up.weight": torch.ones(out, 2),
        f"{stem}.lora_down.weight": torch.ones(2, width),
        f"{stem}.dora_scale": torch.ones(1, width),
    }
    path = write(tmp_path / "a.safetensors", tensors)
    if out != width:
        with pytest.raises(FileError, match="cannot hold DoRA"):
            convert(path, tmp_path / "b.safetensors", "diffusers", targets())
    found = load_file(convert(path, tmp_path / "c.safetensors", "kohya", targets()))
    assert next(value for key, value in found.items() if key.endswith("dora_scale")).shape == (1, width)


ONETRAINER = (  # what its key tables call a convolution of the UNet and a layer of each text encoder
    ("unet.middle_block.0.in_layers.2", "lora_unet.mid_block.resnets.0.conv1"),
    ("clip_l.text_model.encoder.layers.1.mlp.fc1", "lora_te1.text_model.encoder.layers.1.mlp.fc1"),
    ("clip_l.text_model.encoder.layers.0.mlp.fc2", "lora_te1.text_model.encoder.layers.0.mlp.fc2"),
)


@pytest.mark.parametrize("layout", ["OMI", "inside", "legacy"])
def test_onetrainers_layouts_are_read_and_the_first_is_written(layout: str, tmp_path: Path) -> None:
    there = targets(2)
    sizes = {name: module.shapes["weight"] for module in matrices(there) for name in _all_names(module)}
    tensors: dict[str, Tensor] = {}
    for omi, inside in ONETRAINER:
        stem = {"OMI": omi, "inside": inside, "legacy": inside.replace(".", "_")}[layout]
        out, *rest = sizes[omi]
        own = {"lora_up.weight": torch.randn(out, 2, *(1,) * (len(rest) - 1))}
        own |= {"lora_down.weight": torch.randn(2, *rest), "alpha": torch.tensor(1.0)}
        tensors |= {f"{stem}.{key}": value for key, value in own.items()}
    source = write(tmp_path / "a.safetensors", tensors)
    assert bind(read_lora(source), there).report.unused == []
    found = load_file(convert(source, tmp_path / "b.safetensors", "onetrainer", there))
    assert {key.rpartition(".lora_up")[0] for key in found if "lora_up" in key} == {
        omi for omi, _ in ONETRAINER
    }


def _all_names(module: Module) -> list[str]:
    return [name for names in module.names.values() for name in names]
