"""What hosts share of LoRA: files bound to their names, patches of their patchers, terms during an evaluation only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.hosts.loras import Layout, Shelf, bound_to, by_name, is_ldm, split
from sigmagraft.hosts.loras_moving import Moving
from sigmagraft.hosts.loras_patch import patch
from sigmagraft.loras import Fused, parse_expression
from sigmagraft.loras.curve import Place

from ..loras.small import Small, shapes
from .patcher import HostLora, ModelPatcher, WeightAdapterBase
from .small_lora import Held, inputs, write_files


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small()
    write_files(tmp_path, made.targets)
    return made


def layout_of(small: Small, text: bool = True) -> Layout:
    model = {f"diffusion_model.{name}": shape for name, shape in shapes(small.networks["unet"]).items()}
    clip = {
        f"clip_l.transformer.{name}": shape for name, shape in shapes(small.networks["text_encoder"]).items()
    }
    return Layout.of(model, clip if text else None)


def acting(small: Small, folder: Path, expression: str, text: bool = True):
    name, strength, _ = parse_expression(expression)
    (file,) = Shelf().read([folder / f"{name}.safetensors"])
    return bound_to(file, layout_of(small, text)), strength


def test_a_layout_names_every_weight_as_the_host_does(small: Small) -> None:
    layout = layout_of(small)
    assert layout.targets.label == "Stable Diffusion 1.x"
    assert layout.key("unet.out.2.weight") == "diffusion_model.out.2.weight"
    name = "text_model.encoder.layers.0.mlp.fc1.bias"
    assert layout.key(f"text_encoder.{name}") == f"clip_l.transformer.{name}"
    assert is_ldm(["diffusion_model.input_blocks.0.0.weight"])
    assert not is_ldm(["diffusion_model.double_blocks.0.img_attn.qkv.weight"])


def test_without_a_text_encoder_its_tensors_are_reported_not_refused(small: Small, tmp_path: Path) -> None:
    whole, _ = acting(small, tmp_path, "ink:1")
    bound, _ = acting(small, tmp_path, "ink:1", text=False)
    assert set(bound.deltas) == {key for key in whole.deltas if key.startswith("unet.")}
    assert {item.reason for item in bound.report.unused} == {"no text encoder is connected"}
    assert len(bound.report.unused) + len(bound.report.used) == len(whole.report.used)
    with pytest.raises(FileError, match="made for a weight of 999"):
        acting(small, tmp_path, "other:1", text=False)


def test_a_file_is_read_again_when_it_changed_or_was_let_go(small: Small, tmp_path: Path) -> None:
    shelf, ink, ia3 = Shelf(), tmp_path / "ink.safetensors", tmp_path / "ia3.safetensors"
    first, other = shelf.read([ink, ia3])
    assert shelf.read([ink])[0] is first
    assert shelf.read([ia3])[0] is not other
    with pytest.raises(FileError):
        shelf.read([tmp_path / "none.safetensors"])


def test_names_mean_one_file() -> None:
    files = ["a/ink.safetensors", "b/ink.pt", "b\\wash.safetensors"]
    assert by_name("a/ink", files) == "a/ink.safetensors"
    assert by_name("wash", files) == "b\\wash.safetensors"
    assert by_name("b/ink.pt", files) == "b/ink.pt"
    with pytest.raises(FileError, match="2 LoRAs"):
        by_name("ink", files)
    with pytest.raises(FileError, match="did you mean 'wash'"):
        by_name("wish", files)


@pytest.mark.parametrize(("name", "stream"), [("ink", False), ("many", True), ("ia3", False), ("peft", True)])
def test_a_patched_weight_is_the_runner_s(small: Small, tmp_path: Path, name: str, stream: bool) -> None:
    """Also from copies of the tensors in new objects, as hosts that stream weights make them."""
    bound, strength = acting(small, tmp_path, f"{name}:0.7:blocks=IN=0.5")
    changes = {key: own for key, own in split([(bound, strength)])[0].items() if key.startswith("unet.")}
    model = Held(diffusion_model=small.networks["unet"])
    before = small.hashes()
    patcher = ModelPatcher(model)
    patch(patcher, WeightAdapterBase, {layout_of(small).key(key): own for key, own in changes.items()})
    patcher.load(stream)
    host = {key: small.parameters[key].data.clone() for key in changes}
    assert small.hashes() != before
    patcher.unload()
    assert small.hashes() == before
    Fused(small.parameters).apply(changes)
    assert host
    for key, weight in host.items():
        assert torch.allclose(weight, small.parameters[key].data, atol=1e-6), key


def test_two_on_one_weight_are_each_of_the_weight_without_the_other(small: Small, tmp_path: Path) -> None:
    model = Held(diffusion_model=small.networks["unet"])
    key = next(key for key in split([acting(small, tmp_path, "many:0.6")])[0] if "attn1.to_k" in key)
    results = []
    for names in (("many:0.6", "ink:0.5"), ("ink:0.5", "many:0.6")):
        patcher = ModelPatcher(model)
        up, down = (
            torch.zeros(small.parameters[key].shape[0], 2),
            torch.zeros(2, small.parameters[key].shape[1]),
        )
        patcher.add_patches({layout_of(small).key(key): HostLora(set(), (up, down))})
        for name in names:
            patcher = patcher.clone()
            patch(
                patcher,
                WeightAdapterBase,
                {layout_of(small).key(key): split([acting(small, tmp_path, name)])[0][key]},
            )
        assert len(patcher.patches[layout_of(small).key(key)]) == 2  # the host's, and one of ours
        patcher.load()
        results.append(small.parameters[key].data.clone())
        patcher.unload()
    assert torch.allclose(*results, atol=1e-6)
    own = split([acting(small, tmp_path, "many:0.6"), acting(small, tmp_path, "ink:0.5")])[0]
    Fused(small.parameters).apply({key: own[key]})
    assert torch.allclose(results[0], small.parameters[key].data, atol=1e-6)


def test_a_weight_that_the_host_does_not_have_is_named(small: Small, tmp_path: Path) -> None:
    changes = split([acting(small, tmp_path, "ink:1")])[0]
    own = next(iter(changes.values()))
    with pytest.raises(FileError, match="nowhere"):
        patch(ModelPatcher(nn_of(small)), WeightAdapterBase, {"nowhere.weight": own})


def nn_of(small: Small) -> Held:
    return Held(diffusion_model=small.networks["unet"])


@pytest.mark.parametrize("expression", ["many:0.7:sigma=0@10,1@2", "ink:1:te=0:blocks=OUT=0.3:step=1@0,0@4"])
def test_terms_are_there_during_an_evaluation_only(small: Small, tmp_path: Path, expression: str) -> None:
    _, moving = split([acting(small, tmp_path, expression)])
    unet, before = small.networks["unet"], small.hashes()
    terms = Moving(moving)
    plain = unet(*inputs())
    with terms.on(unet, Place(2.0, 2.0, 5), lambda path: unet.get_parameter(path).data):
        assert not torch.allclose(unet(*inputs()), plain, atol=1e-3)
    assert torch.equal(unet(*inputs()), plain)
    with pytest.raises(KeyboardInterrupt), terms.on(unet, Place(2.0, 2.0, 5), unet.get_parameter):
        raise KeyboardInterrupt
    assert torch.equal(unet(*inputs()), plain)
    assert small.hashes() == before
    assert not any(layer._forward_hooks for layer in unet.modules())


def test_a_layer_without_a_rule_is_named(small: Small, tmp_path: Path) -> None:
    _, moving = split([acting(small, tmp_path, "ink:1:te=0:sigma=0@10,1@2")])

    class Packed(torch.nn.Module):
        weight = torch.zeros(1)

    unet = small.networks["unet"]
    unet.get_submodule("middle_block.1").proj_in = Packed()  # as a host's quantised layer may be
    on = Moving(moving).on(unet, Place(1.0), unet.get_parameter)
    with pytest.raises(OptionError, match=r"middle_block\.1\.proj_in\.weight \(Packed\) cannot move"), on:
        pass
