"""A checkpoint with adapters baked in is the checkpoint with them merged, bit for bit, in its own layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sigmagraft.core.errors import FileError, OptionError, SigmaGraftError
from sigmagraft.loras import Strength, bind, parse_expression, read_lora
from sigmagraft.standalone.load import load_model
from sigmagraft.standalone.lora_bake import BAKED, Baking, stored
from sigmagraft.standalone.lora_networks import networks_of
from sigmagraft.standalone.lora_stack import merge_into, wire
from sigmagraft.standalone.lora_targets import named

from ..loras.files import lora, matrices, mixed
from ..loras.small import write
from .families import Reference
from .families import write as write_family
from .files import tensors, write_file

EXPRESSION = "ink:0.8:te=-0.5:blocks=IN=0.5"


@pytest.fixture(
    scope="module", params=["sdxl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sd1", "sd2"))]
)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return write_family(request.param, tmp_path_factory.mktemp(request.param))


def adapter(model: Path, out: Path, kind: Callable[..., dict[str, Tensor]] = lora) -> Path:
    """On every third layer."""
    return write(out, kind(matrices(named(str(model)).targets)[::3]))


def bake(model: Path, ink: Path, out: Path, expression: str = EXPRESSION, **options: Any) -> Path:
    strength = parse_expression(expression)[1]
    Baking([(read_lora(ink), strength)], expression, **options).write(str(model), out)
    return out


def merged(model: Path, ink: Path, strength: Strength) -> dict[str, nn.Module]:
    """The networks of a model with an adapter merged as a run does it."""
    networks = networks_of(load_model(model))
    changes: dict[str, Any] = {}
    merge_into(changes, bind(read_lora(ink), named(str(model)).targets), strength)
    wire(networks).fused.apply(changes)
    return networks


def same(one: dict[str, nn.Module], other: dict[str, nn.Module]) -> None:
    assert one.keys() == other.keys()
    for name, network in one.items():
        theirs = other[name].state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("layout", ["file", "folder"])
def test_what_is_baked_loads_as_what_is_merged(layout: str, reference: Reference, tmp_path: Path) -> None:
    model: Path = getattr(reference, layout)
    ink = adapter(model, tmp_path / "ink.safetensors")
    before = load_model(model)
    out = bake(model, ink, tmp_path / ("out.safetensors" if layout == "file" else "out"))
    made = load_model(out)
    same(networks_of(made), merged(model, ink, parse_expression(EXPRESSION)[1]))
    pairs = zip(made.unet.parameters(), before.unet.parameters(), strict=True)
    assert sum(not torch.equal(one, other) for one, other in pairs) > 20
    for name, value in made.vae.state_dict().items():
        assert torch.equal(value, before.vae.state_dict()[name])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"ink.safetensors", out.name})


def test_diffusers_reads_a_baked_folder_back(reference: Reference, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    ink = adapter(reference.folder, tmp_path / "ink.safetensors")
    out = bake(reference.folder, ink, tmp_path / "out")
    theirs = diffusers.UNet2DConditionModel.from_pretrained(out / "unet")
    state, plain = theirs.state_dict(), reference.unet.state_dict()
    changed = bind(read_lora(ink), named(str(reference.folder)).targets)
    assert sum(not torch.equal(state[name], plain[name]) for name in plain) == sum(
        key.startswith("unet.") for key in changed.deltas
    )
    texts = [
        type(text).from_pretrained(out / _text_folder(reference, i)) for i, text in enumerate(reference.texts)
    ]
    for text, before in zip(texts, reference.texts, strict=True):
        after = text.state_dict()
        assert any(not torch.equal(after[name], value) for name, value in before.state_dict().items())
    assert (out / "scheduler" / "scheduler_config.json").is_file()
    assert json.loads((out / "model_index.json").read_text()) == json.loads(
        (reference.folder / "model_index.json").read_text()
    )


def _text_folder(reference: Reference, index: int) -> str:
    return "text_encoder" if index == 0 else "text_encoder_2"


def test_diffusers_reads_a_baked_file_back(tmp_path: Path) -> None:
    """Its own conversion of single files finds in ours what merging by hand makes."""
    convert = pytest.importorskip("diffusers.loaders.single_file_utils").convert_ldm_unet_checkpoint
    reference = write_family("sd1", tmp_path)
    ink = adapter(reference.file, tmp_path / "ink.safetensors")
    found = load_file(bake(reference.file, ink, tmp_path / "out.safetensors", "ink:1"))
    theirs = convert(dict(found), dict(reference.unet.config) | {"layers_per_block": 2})
    whole = merged(reference.folder, ink, Strength())["unet"].state_dict()
    before = reference.unet.state_dict()
    assert theirs.keys() == before.keys()
    different = [name for name, value in before.items() if not torch.equal(value, theirs[name])]
    ours = {value.double().sum().item() for value in whole.values()}
    assert different
    assert all(theirs[name].double().sum().item() in ours for name in different)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_files_dtype_header_and_other_tensors_stay(dtype: torch.dtype, tmp_path: Path) -> None:
    change = {name: value.to(dtype) for name, value in tensors().items()}
    change["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    header = {"modelspec.title": "Dreams", "modelspec.hash_sha256": "0x1", "note": "é"}
    model = write_file(tmp_path / "model.safetensors", change, header)
    content = model.read_bytes()
    ink = adapter(model, tmp_path / "ink.safetensors", mixed)
    out = bake(model, ink, tmp_path / "out.safetensors")
    found, plain = load_file(out), load_file(model)
    assert {n: (v.dtype, v.shape) for n, v in found.items()} == {
        n: (v.dtype, v.shape) for n, v in plain.items()
    }
    targets = bind(read_lora(ink), named(str(model)).targets).deltas
    different = [name for name, value in plain.items() if not torch.equal(found[name], value)]
    assert 0 < len(different) <= len(targets)
    assert all(name.startswith(("model.diffusion_model.", "cond_stage_model.")) for name in different)
    with safe_open(out, "pt") as file:
        assert file.metadata() == {
            "modelspec.title": "Dreams",
            "note": "é",
            "format": "pt",
            BAKED: EXPRESSION,
        }
    assert model.read_bytes() == content


def test_a_pickle_and_the_shards_of_an_index_become_one_file(tmp_path: Path) -> None:
    model = write_file(tmp_path / "model.safetensors")
    ink = adapter(model, tmp_path / "ink.safetensors")
    expected = load_file(bake(model, ink, tmp_path / "a.safetensors"))
    torch.save({"state_dict": tensors()}, tmp_path / "model.ckpt")
    names = sorted(tensors())
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: tensors()[name].contiguous() for name in own}, tmp_path / file)
    index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for source in ("model.ckpt", "model.safetensors.index.json"):
        found = load_file(bake(tmp_path / source, ink, tmp_path / "b.safetensors"))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_training_average_gets_the_adapter_too(tmp_path: Path) -> None:
    average = {
        f"model_ema.{name.removeprefix('model.').replace('.', '')}": value * 1.01
        for name, value in tensors(vae=False, text=False).items()
    }
    model = write_file(tmp_path / "model.safetensors", average)
    ink = adapter(model, tmp_path / "ink.safetensors")
    out = bake(model, ink, tmp_path / "out.safetensors", "ink:1")
    found = {variant: load_model(out, variant=variant).unet.state_dict() for variant in ("ema", "non_ema")}
    for key, deltas in bind(read_lora(ink), named(str(model)).targets).deltas.items():
        network, _, name = key.partition(".")
        plain = tensors().get(f"model.diffusion_model.{name}")
        if network == "unet" and plain is not None:
            change = deltas[0].change(torch.zeros_like(plain))
            assert torch.allclose(found["ema"][name], plain * 1.01 + change, atol=1e-5)
            assert torch.allclose(found["non_ema"][name], plain + change, atol=1e-5)


def test_weights_stored_with_a_scale_keep_it(tmp_path: Path) -> None:
    """ComfyUI's scaled fp8: what is stored times its scale is the merged weight, rounded once."""
    change: dict[str, Tensor] = {}
    keys = [n for n, v in tensors().items() if n.startswith("model.") and v.ndim == 2 and "attn" in n]
    for name in keys:
        scale = tensors()[name].abs().max() / 300
        change[name] = (tensors()[name] / scale).to(torch.float8_e4m3fn)
        change[name.replace(".weight", ".scale_weight")] = scale.reshape(1)
    model = write_file(tmp_path / "model.safetensors", change)
    ink = write(tmp_path / "ink.safetensors", lora(matrices(named(str(model)).targets), size=0.01))
    found = load_file(bake(model, ink, tmp_path / "out.safetensors", "ink:1"))
    bound = bind(read_lora(ink), named(str(model)).targets)
    for name in keys:
        scale = change[name.replace(".weight", ".scale_weight")]
        assert torch.equal(found[name.replace(".weight", ".scale_weight")], scale)
        (delta,) = bound.deltas[name.replace("model.diffusion_model", "unet")]
        exact = (delta.change(torch.zeros(found[name].shape)) + change[name].float() * scale) / scale
        assert torch.equal(found[name].float(), exact.to(torch.float8_e4m3fn).float())


def _refused(
    model: Path, ink: Path, out: Path, error: type[SigmaGraftError], match: str, **more: Any
) -> None:
    there = sorted(out.parent.rglob("*"))
    with pytest.raises(error, match=match):
        bake(model, ink, out, **more)
    assert sorted(out.parent.rglob("*")) == there


def test_what_cannot_be_baked_leaves_nothing_behind(tmp_path: Path) -> None:
    model = write_file(tmp_path / "model.safetensors")
    ink = adapter(model, tmp_path / "ink.safetensors")
    out = tmp_path / "out.safetensors"
    _refused(model, ink, out, OptionError, "moves over the run", expression="ink:0@0,1@1")
    _refused(model, ink, out, OptionError, "nothing to bake", expression="ink:0")
    _refused(model, ink, model, OptionError, "there already")
    _refused(model, ink, tmp_path / "out", OptionError, "ends in .safetensors")
    _refused(ink, ink, out, FileError, "this is a LoRA")
    half = {name: value.half() for name, value in tensors().items()}
    small = write_file(tmp_path / "half.safetensors", half)
    loud = write(tmp_path / "loud.safetensors", lora(matrices(named(str(model)).targets), size=1e3))
    _refused(small, loud, out, FileError, "leaves the range of float16")
    wide = write_file(tmp_path / "wide.safetensors", {_FIRST: torch.zeros(32, 9, 3, 3)})
    every = write(tmp_path / "every.safetensors", lora(matrices(named(str(model)).targets)))
    _refused(wide, every, out, FileError, "made for a weight of 32 x 36")


_FIRST = "model.diffusion_model.input_blocks.0.0.weight"


def test_an_interruption_leaves_nothing_behind(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigmagraft.loras import bake as module

    calls: list[str] = []

    def stop(*given: Any) -> Tensor:
        calls.append(given[-1])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return given[0]

    ink = adapter(reference.folder, tmp_path / "ink.safetensors")
    monkeypatch.setattr(module, "baked", stop)
    for model, out in ((reference.file, "out.safetensors"), (reference.folder, "out")):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            bake(model, ink, tmp_path / out)
        assert [path.name for path in tmp_path.iterdir()] == ["ink.safetensors"]


def test_a_folder_with_pickles_and_a_variant_keeps_what_it_needs(tmp_path: Path) -> None:
    from .files import write_folder

    plain = write_folder(tmp_path / "plain")
    model = write_folder(tmp_path / "model", variant="fp16")
    (model / "tokenizer").mkdir()
    (model / "tokenizer" / "vocab.json").write_text("{}")
    text = model / "text_encoder" / "model.fp16.safetensors"
    torch.save(load_file(text), model / "text_encoder" / "pytorch_model.bin")
    text.unlink()
    ink = adapter(plain, tmp_path / "ink.safetensors")
    out, other = bake(model, ink, tmp_path / "out"), bake(plain, ink, tmp_path / "other")
    assert (out / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    assert [path.name for path in (out / "text_encoder").glob("*.safetensors")] == ["model.safetensors"]
    assert not list(out.rglob("*.bin"))
    assert (out / "tokenizer" / "vocab.json").is_file()
    shutil.rmtree(out / "tokenizer")
    same(networks_of(load_model(out)), networks_of(load_model(other)))
    assert stored(out / "vae" / "diffusion_pytorch_model.fp16.safetensors")[0]
