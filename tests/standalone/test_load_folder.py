"""diffusers folders: variants, shards, pickles, subfolders, single components, and what is wrong with a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sigmagraft.core.errors import FileError, MissingPartError, OptionError
from sigmagraft.standalone.folder import pick_weights, variants
from sigmagraft.standalone.load import load_model

from .files import STEMS, parts, same_weights, write_file, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model")


def add(folder: Path, component: str, variant: str, plus: float) -> None:
    """Another variant of a component, told apart by its values."""
    stem = folder / component / STEMS[component]
    found = {name: value + plus for name, value in load_file(f"{stem}.safetensors").items()}
    save_file(found, f"{stem}.{variant}.safetensors")


def offset(model: object) -> float:
    return float((model.unet.state_dict()["out.2.bias"] - parts()[0]["out.2.bias"]).mean())  # type: ignore[attr-defined]


def test_a_folder(folder: Path) -> None:
    model = load_model(folder)
    same_weights(model)
    assert model.scale_factor == 0.5
    assert model.source == str(folder)


def test_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    same_weights(load_model("."))


def test_a_variant_is_taken_where_there_is_one_and_told_where_not(folder: Path) -> None:
    add(folder, "unet", "fp16", 1.0)
    add(folder, "unet", "non_ema", 2.0)
    assert offset(load_model(folder)) == 0
    assert offset(load_model(folder, variant="fp16")) == pytest.approx(1)
    found = load_model(folder, variant="non_ema")
    assert offset(found) == pytest.approx(2)
    assert any("vae: no non_ema variant" in reason for reason in found.info.reasons)
    with pytest.raises(OptionError, match=r"no component has the variant 'fp8'.*fp16, non_ema"):
        load_model(folder, variant="fp8")


def test_the_only_variant_is_taken(tmp_path: Path) -> None:
    same_weights(load_model(write_folder(tmp_path / "a", variant="fp16")))


def test_pickled_components(folder: Path) -> None:
    for component, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")):
        old = folder / component / f"{STEMS[component]}.safetensors"
        torch.save(load_file(old), folder / component / f"{stem}.bin")
        old.unlink()
    same_weights(load_model(folder))


@pytest.mark.parametrize("index", ["{}.safetensors.index.json", "{}.safetensors.index.fp16.json"])
def test_sharded_components(folder: Path, index: str) -> None:
    stem = folder / "unet" / STEMS["unet"]
    tensors = load_file(f"{stem}.safetensors")
    Path(f"{stem}.safetensors").unlink()
    names = sorted(tensors)
    where = {}
    for i, some in enumerate((names[::2], names[1::2]), start=1):
        file = f"{STEMS['unet']}-0000{i}-of-00002.safetensors"
        save_file({name: tensors[name] for name in some}, folder / "unet" / file)
        where |= dict.fromkeys(some, file)
    Path(index.format(stem)).write_text(json.dumps({"weight_map": where}))
    same_weights(load_model(folder))


def test_subfolder(tmp_path: Path) -> None:
    write_folder(tmp_path / "repo" / "inner")
    same_weights(load_model(tmp_path / "repo", subfolder="inner"))
    with pytest.raises(OptionError, match="there is no folder 'other'"):
        load_model(tmp_path / "repo", subfolder="other")
    with pytest.raises(FileError, match="--subfolder inner"):
        load_model(tmp_path / "repo")


def test_components_are_exchanged_by_folder(folder: Path, tmp_path: Path) -> None:
    bare = write_file(tmp_path / "bare.safetensors", vae=False, text=False)
    model = load_model(bare, vae=folder / "vae", text_encoder=folder / "text_encoder")
    same_weights(model)
    assert model.scale_factor == 0.5
    same_weights(load_model(bare, vae=folder, text_encoder=str(folder)))
    unet = load_model(folder / "unet", vae=folder / "vae", text_encoder=folder / "text_encoder")
    same_weights(unet)
    same_weights(load_model(folder, subfolder="unet", vae=folder, text_encoder=folder))


def test_heads_and_activation_come_from_the_configs(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text(json.dumps({"attention_head_dim": [4, 8]}))
    (folder / "text_encoder" / "config.json").write_text(
        json.dumps({"hidden_act": "gelu", "num_attention_heads": 2})
    )
    model = load_model(folder)
    assert [model.unet.config.heads(width) for width in (32, 64)] == [4, 8]
    assert (model.texts[0].config.act, model.texts[0].config.heads) == ("gelu", 2)


def test_a_unet_with_guidance_embedding_is_refused(folder: Path) -> None:
    """It would run without, and draw something else."""
    path = folder / "unet" / f"{STEMS['unet']}.safetensors"
    save_file(load_file(path) | {"time_embedding.cond_proj.weight": torch.zeros(32, 256)}, path)
    with pytest.raises(FileError, match="LCM"):
        load_model(folder)


def test_missing_parts_of_a_folder(folder: Path) -> None:
    shutil.rmtree(folder / "vae")
    with pytest.raises(MissingPartError, match=r"no VAE.*--vae"):
        load_model(folder)


@pytest.mark.parametrize("there", [[], ["a.safetensors", "b.safetensors"], ["config.json"]])
def test_a_folder_without_model_index(tmp_path: Path, there: list[str]) -> None:
    for name in there:
        (tmp_path / name).write_text("{}")
    with pytest.raises(FileError, match=r"a folder without model_index\.json") as caught:
        load_model(tmp_path)
    assert ("a.safetensors" in str(caught.value)) == ("a.safetensors" in there)
    assert "\n" not in str(caught.value)


def test_a_component_without_weights(folder: Path) -> None:
    (folder / "unet" / f"{STEMS['unet']}.safetensors").unlink()
    with pytest.raises(FileError, match=r"no weights in unet/; it has config\.json"):
        load_model(folder)


@pytest.mark.parametrize("text", ["[1]", "{", ""])
def test_damaged_configs(folder: Path, text: str) -> None:
    (folder / "model_index.json").write_text(text)
    with pytest.raises(FileError, match=r"model_index\.json: not"):
        load_model(folder)


FILES = [
    ({"model.safetensors", "model.fp16.safetensors"}, None, "model.safetensors"),
    ({"model.safetensors", "model.fp16.safetensors"}, "fp16", "model.fp16.safetensors"),
    ({"pytorch_model.bin", "model.safetensors"}, None, "model.safetensors"),
    ({"pytorch_model.fp16.bin", "model.safetensors"}, "fp16", "pytorch_model.fp16.bin"),
    ({"pytorch_model.bin"}, "fp16", "pytorch_model.bin"),
    ({"model.fp16.safetensors", "model.non_ema.safetensors"}, None, None),
    ({"odd.safetensors", "config.json"}, None, "odd.safetensors"),
    ({"a.safetensors", "b.safetensors"}, None, None),
    (
        {
            "diffusion_pytorch_model.safetensors.index.fp16.json",
            "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
        },
        "fp16",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
    ),
    ({"flax_model.msgpack", "model.onnx"}, None, None),
]


@pytest.mark.parametrize(("names", "variant", "expected"), FILES)
def test_which_file_of_a_component_is_read(
    names: set[str], variant: str | None, expected: str | None
) -> None:
    assert pick_weights(names, variant) == expected


def test_variants_among_names() -> None:
    names = [
        "model.safetensors",
        "model.fp16.safetensors",
        "x.non_ema.bin",
        "m.fp32-00001-of-00002.safetensors",
    ]
    assert variants(names) == ["fp16", "fp32", "non_ema"]
    assert variants(["m-00001-of-00002.safetensors", "m.safetensors.index.json", "config.json"]) == []
