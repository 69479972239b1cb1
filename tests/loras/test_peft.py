"""Files that PEFT writes, with the configuration beside them, answer as PEFT's own layers do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sigmagraft.core.keymap import inverse, translate, unet_table
from sigmagraft.loras.peft_oft import InputBOFT

from .small import Small, sample, write

peft = pytest.importorskip("peft")
TABLE = inverse(unet_table((1, 1), (True, True)))
LAYERS = {
    "linear": "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj",
    "square": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "out": "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0",
    "conv1": "input_blocks.1.1.proj_in",
    "conv3": "input_blocks.3.0.in_layers.2",
}
NAMES = {path: translate(TABLE, path) for path in LAYERS.values()}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lora": (peft.LoraConfig, {"r": 4, "lora_alpha": 2}),
    "lora-rs": (peft.LoraConfig, {"r": 4, "lora_alpha": 3, "use_rslora": True}),
    "lora-dora": (peft.LoraConfig, {"r": 4, "lora_alpha": 2, "use_dora": True}),
    "lora-patterns": (
        peft.LoraConfig,
        {
            "r": 4,
            "lora_alpha": 2,
            "rank_pattern": {"to_q": 8},
            "alpha_pattern": {"attn1.to_q": 5, "conv1": 9},
        },
    ),
    "lora-bias": (peft.LoraConfig, {"r": 4, "lora_alpha": 2, "bias": "lora_only"}),
    "loha": (peft.LoHaConfig, {"r": 4, "alpha": 2}),
    "loha-tucker": (peft.LoHaConfig, {"r": 4, "alpha": 2, "use_effective_conv2d": True}),
    "lokr": (peft.LoKrConfig, {"r": 4, "alpha": 2}),
    "lokr-whole": (peft.LoKrConfig, {"r": 64, "alpha": 16}),
    "lokr-tucker": (
        peft.LoKrConfig,
        {"r": 2, "alpha": 2, "use_effective_conv2d": True, "decompose_both": True},
    ),
    "oft": (peft.OFTConfig, {"oft_block_size": 8}),
    "oft-exact": (peft.OFTConfig, {"oft_block_size": 8, "use_cayley_neumann": False}),
    "oft-short": (peft.OFTConfig, {"oft_block_size": 4, "num_cayley_neumann_terms": 2}),
    "oft-coft": (
        peft.OFTConfig,
        {"oft_block_size": 8, "coft": True, "eps": 1e-2, "use_cayley_neumann": False},
    ),
    "oft-shared": (peft.OFTConfig, {"oft_block_size": 8, "block_share": True}),
    "boft": (peft.BOFTConfig, {"boft_block_size": 8}),
    "ia3": (peft.IA3Config, {"feedforward_modules": []}),
    "ia3-input": (peft.IA3Config, {"feedforward_modules": [NAMES[LAYERS["linear"]], NAMES[LAYERS["conv1"]]]}),
}


def _tree(small: Small) -> nn.Module:
    """The layers under their diffusers names, all that PEFT needs to see of a UNet."""
    root = nn.Module()
    for path, name in NAMES.items():
        *folders, last = name.split(".")
        here = root
        for folder in folders:
            if folder not in dict(here.named_children()):
                here.add_module(folder, nn.Module())
            here = here.get_submodule(folder)
        here.add_module(last, copy.deepcopy(small.layer(f"unet.{path}")))
    return root


@pytest.fixture(scope="module")
def small() -> Small:
    return Small()


def _trained(small: Small, kind: str) -> nn.Module:
    torch.manual_seed(5)
    config, options = CONFIGS[kind]
    model = peft.get_peft_model(_tree(small), config(target_modules=list(NAMES.values()), **options))
    for name, parameter in model.named_parameters():
        if any(word in name for word in ("lora_", "hada_", "lokr_", "oft_R", "boft_", "ia3_")):
            around = (
                parameter.data.mean() if "magnitude" in name or "boft_s" in name or "ia3" in name else 0.0
            )
            parameter.data = torch.randn_like(parameter) * 0.1 + around
        elif kind == "lora-bias" and name.endswith(".bias"):
            parameter.data += torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_saved_adapter_answers_as_peft(kind: str, small: Small, tmp_path: Path) -> None:
    model = _trained(small, kind)
    expected = {}
    merge = kind.startswith(
        "oft"
    )  # its unmerged convolution folds overlapping patches, the merged one is the definition
    for path, name in NAMES.items():
        layer = model.base_model.model.get_submodule(name)
        if merge:
            layer.merge()
        expected[path] = layer(sample(small.layer(f"unet.{path}")))
    if merge:
        model = _trained(small, kind)
    model.save_pretrained(tmp_path)
    bound = small.load(tmp_path / "adapter_model.safetensors")
    assert not bound.report.unused
    assert set(bound.report.namings) == {"PEFT"}
    small.fuse(bound)
    answers = {path: small.layer(f"unet.{path}")(sample(small.layer(f"unet.{path}"))) for path in NAMES}
    small.fused.restore()
    for path in NAMES:
        before = small.layer(f"unet.{path}")(sample(small.layer(f"unet.{path}")))
        assert (expected[path] - before).abs().max() > 1e-4
        assert (answers[path] - expected[path]).abs().max() < 1e-5 * max(
            1.0, expected[path].abs().max().item()
        )


@torch.no_grad()
@pytest.mark.parametrize("ending", [".lora_A.default.weight", ".lora_A.style_v2.weight"])
def test_the_adapters_own_name_may_stand_in_the_keys(ending: str, small: Small, tmp_path: Path) -> None:
    path, name = "input_blocks.1.1.transformer_blocks.0.attn1.to_q", NAMES[LAYERS["square"]]
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    tensors = {f"{name}{ending}": down, f"{name}{ending.replace('_A', '_B')}": up}
    bound = small.load(write(tmp_path / "a.safetensors", tensors))
    weight = small.parameters[f"unet.{path}.weight"]
    assert torch.allclose(bound.deltas[f"unet.{path}.weight"][0].delta(weight), up @ down)


def test_a_header_of_diffusers_gives_alpha(small: Small, tmp_path: Path) -> None:
    name = "unet." + NAMES[LAYERS["square"]]
    header = {"unet.r": 4, "unet.lora_alpha": 2, "unet.alpha_pattern": {}, "text_encoder.lora_alpha": 64}
    tensors = {f"{name}.lora_A.weight": torch.ones(4, 32), f"{name}.lora_B.weight": torch.ones(32, 4)}
    path = write(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": json.dumps(header)})
    (delta,) = next(iter(small.load(path).deltas.values()))
    assert torch.equal(delta.delta(torch.zeros(32, 32)), torch.full((32, 32), 4 * 0.5))


@torch.no_grad()
@pytest.mark.parametrize("factors", [1, 2, 3])
def test_butterfly_factors_as_peft_orders_them(factors: int) -> None:
    """PEFT refuses more than one factor without CUDA; its permutations and its product are used here by hand."""
    number, size = 16, 4
    owner = peft.tuners.boft.layer.BOFTLayer
    blocks, weight = torch.randn(factors, number, size, size) * 0.1, torch.randn(24, number * size)
    total = torch.eye(number * size)
    for i in range(factors):
        order = owner.block_butterfly_perm(None, number * size, number // 2**i, size // 2, factors - 1)
        p = owner.perm2mat(None, order)
        total = p @ torch.block_diag(*owner.cayley_batch(None, blocks[i])) @ p.T @ total
    changed = weight + InputBOFT(blocks).delta(weight)
    assert torch.allclose(changed, (total @ weight.T).T, atol=1e-5)


@torch.no_grad()
def test_modules_that_were_trained_whole_are_set(small: Small, tmp_path: Path) -> None:
    torch.manual_seed(6)
    whole = NAMES[LAYERS["conv1"]]
    config = peft.LoraConfig(r=4, target_modules=[NAMES[LAYERS["square"]]], modules_to_save=[whole])
    model = peft.get_peft_model(_tree(small), config)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name or "lora_" in name:
            parameter.data = torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    bound = small.load(tmp_path / "adapter_model.safetensors")
    assert not bound.report.unused
    layer = small.layer(f"unet.{LAYERS['conv1']}")
    expected = model.base_model.model.get_submodule(whole)(sample(layer))
    small.fuse(bound)
    answer = layer(sample(layer))
    small.fused.restore()
    assert (answer - expected).abs().max() < 1e-5 * expected.abs().max()
