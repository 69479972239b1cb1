"""Every family as the package lycoris-lora trains, applies and stores it: our merged layer answers as theirs."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from sigmagraft.core.keymap import inverse, translate, unet_table
from sigmagraft.loras import Forward
from sigmagraft.loras.forward import Term

from .small import Small, sample, write

logging.disable(logging.WARNING)  # the package tells of every module
modules = pytest.importorskip("lycoris.modules", reason="the package lycoris-lora is the oracle")

LAYERS = {
    "linear": "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj",
    "square": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "conv1": "input_blocks.1.1.proj_in",
    "conv3": "input_blocks.3.0.in_layers.2",
    "down": "input_blocks.2.0.op",
    "group": "input_blocks.1.1.norm",
    "layer": "input_blocks.1.1.transformer_blocks.0.norm1",
}
WEIGHTS = ("linear", "square", "conv1", "conv3", "down")


class Case(NamedTuple):
    algo: type
    layer: str
    options: dict[str, Any]


def _cases() -> list[Any]:
    m = modules
    table: list[tuple[type, tuple[str, ...], dict[str, Any]]] = [
        (m.LoConModule, WEIGHTS, {"alpha": 2}),
        (m.LoConModule, WEIGHTS, {"alpha": 3, "rs_lora": True}),
        (m.LoConModule, ("linear", "conv3"), {"use_scalar": True}),
        (m.LoConModule, ("conv3", "down"), {"use_tucker": True}),
        (m.LoConModule, WEIGHTS, {"weight_decompose": True}),
        (m.LoConModule, WEIGHTS, {"weight_decompose": True, "wd_on_out": False}),
        (m.LohaModule, WEIGHTS, {"alpha": 2}),
        (m.LohaModule, ("conv3", "down"), {"use_tucker": True}),
        (m.LohaModule, ("linear", "conv3"), {"weight_decompose": True, "use_scalar": True}),
        (m.LokrModule, WEIGHTS, {"alpha": 2}),
        (m.LokrModule, WEIGHTS, {"factor": 4}),
        (m.LokrModule, WEIGHTS, {"factor": 8, "lora_dim": 1, "decompose_both": True}),
        (m.LokrModule, WEIGHTS, {"full_matrix": True, "alpha": 9}),
        (m.LokrModule, WEIGHTS, {"unbalanced_factorization": True, "factor": 4}),
        (m.LokrModule, ("conv3", "down"), {"use_tucker": True, "factor": 4}),
        (m.LokrModule, ("linear", "conv3"), {"weight_decompose": True}),
        (m.GLoRAModule, WEIGHTS, {"alpha": 2}),
        (m.DiagOFTModule, WEIGHTS, {}),
        (m.DiagOFTModule, WEIGHTS, {"rescaled": True, "constraint": 0.002}),
        (m.ButterflyOFTModule, WEIGHTS, {"lora_dim": 8}),
        (m.ButterflyOFTModule, WEIGHTS, {"lora_dim": 8, "rescaled": True, "constraint": 0.002}),
        (m.IA3Module, WEIGHTS, {}),
        (m.IA3Module, WEIGHTS, {"train_on_input": True}),
        (m.FullModule, WEIGHTS, {}),
        (m.NormModule, ("group", "layer"), {}),
    ]
    return [
        pytest.param(Case(algo, layer, options), id="-".join([algo.name, layer, *options]))
        for algo, layers, options in table
        for layer in layers
    ]


CASES = _cases()


def theirs(case: Case, layer: nn.Module, name: str) -> tuple[dict[str, Tensor], Tensor, nn.Module]:
    """The package's file for one trained layer, what the layer answers with it, and the layer."""
    torch.manual_seed(3)
    layer = copy.deepcopy(layer)
    x = sample(layer)
    if case.algo is modules.NormModule:
        module = case.algo(name, layer, **case.options)
    else:
        options = {"lora_dim": 4, "alpha": 1} | case.options
        module = case.algo(name, layer, 1.0, options.pop("lora_dim"), options.pop("alpha"), **options)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.25).add_(0.05) if parameter.ndim else parameter.data.fill_(0.7)
    tensors = {f"{name}.{key}": value.detach().clone() for key, value in _stored(module).items()}
    module.apply_to()
    return tensors, layer(x), layer


def _stored(module: Any) -> dict[str, Tensor]:
    """FullModule subtracts weights that it has not added before it is applied."""
    if isinstance(module, modules.FullModule):
        return {"diff": module.weight} | ({} if module.bias is None else {"diff_b": module.bias})
    if isinstance(module, modules.NormModule):
        return {"w_norm": module.w_norm, "b_norm": module.b_norm}
    return dict(module.state_dict())


@pytest.fixture(scope="module")
def small() -> Small:
    return Small()


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_our_layer_answers_as_theirs(case: Case, small: Small, tmp_path: Path) -> None:
    path = LAYERS[case.layer]
    layer = small.layer(f"unet.{path}")
    x, before = sample(layer), layer(sample(layer))
    tensors, expected, _ = theirs(case, layer, "lora_unet_" + path.replace(".", "_"))
    bound = small.load(write(tmp_path / "a.safetensors", tensors))
    assert not bound.report.unused
    assert (expected - before).abs().max() > 1e-3
    hashes = small.hashes()
    small.fuse(bound)
    assert (layer(x) - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())
    small.fused.restore()
    assert small.hashes() == hashes
    forward = Forward({f"unet.{path}.{p}": layer for p in ("weight", "bias")}, small.fused.original)
    forward.set({key: [Term(delta) for delta in own] for key, own in bound.deltas.items()})
    assert (layer(x) - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())
    forward.clear()
    assert torch.equal(layer(x), before)


def names(path: str) -> dict[str, str]:
    """What trainers call a module, written out from their definitions."""
    diffusers = translate(inverse(unet_table((1, 1), (True, True))), path)
    assert diffusers is not None
    return {
        "kohya": "lora_unet_" + path.replace(".", "_"),
        "kohya-diffusers": "lora_unet_" + diffusers.replace(".", "_"),
        "kohya-oft": "oft_unet_" + path.replace(".", "_"),
        "lycoris": "lycoris_" + diffusers.replace(".", "_"),
        "diffusers": f"unet.{diffusers}",
        "bare": diffusers,
        "peft": f"base_model.model.{diffusers}",
        "peft-unet": f"base_model.model.unet.{diffusers}",
        "onetrainer-omi": f"unet.{path}",
        "onetrainer": f"lora_unet.{diffusers}",
        "comfyui": f"diffusion_model.{path}",
    }


@torch.no_grad()
@pytest.mark.parametrize("naming", names(LAYERS["linear"]))
@pytest.mark.parametrize(
    "algo",
    ["LoCon", "Loha", "Lokr", "GLoRA", "DiagOFT", "ButterflyOFT", "IA3", "Full"],
)
def test_every_family_under_every_name(algo: str, naming: str, small: Small, tmp_path: Path) -> None:
    options = {"lora_dim": 8} if algo == "ButterflyOFT" else {}
    for kind in ("linear", "conv3"):
        path = LAYERS[kind]
        layer = small.layer(f"unet.{path}")
        case = Case(getattr(modules, f"{algo}Module"), kind, options)
        tensors, expected, _ = theirs(case, layer, names(path)[naming])
        bound = small.load(write(tmp_path / "a.safetensors", tensors))
        assert not bound.report.unused
        small.fuse(bound)
        answer = layer(sample(layer))
        small.fused.restore()
        assert (answer - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("strength", [0.5, -1.0, 0.0])
@pytest.mark.parametrize("algo", ["LoCon", "Lokr", "GLoRA", "DiagOFT", "ButterflyOFT", "IA3"])
def test_other_strengths_are_theirs(algo: str, strength: float, small: Small, tmp_path: Path) -> None:
    """LyCORIS' multiplier; of DoRA it means something else there, and LoHa's counts its scale twice."""
    path = LAYERS["conv3"]
    layer = small.layer(f"unet.{path}")
    options = {"lora_dim": 8} if algo == "ButterflyOFT" else {}
    case = Case(getattr(modules, f"{algo}Module"), "conv3", options)
    name = "lora_unet_" + path.replace(".", "_")
    tensors, _, theirs_layer = theirs(case, layer, name)
    module = theirs_layer.forward.__self__  # type: ignore[attr-defined]
    module.multiplier = strength
    expected = theirs_layer(sample(layer))
    small.fuse(small.load(write(tmp_path / "a.safetensors", tensors)), strength)
    answer = layer(sample(layer))
    small.fused.restore()
    assert (answer - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())
