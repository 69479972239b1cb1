"""Names that trainers write, spelled out by hand from their definitions, each found at the one module it means."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sigmagraft.core.parts import parts_of
from sigmagraft.core.parts import shapes as shapes_of_part
from sigmagraft.loras import Targets, read_lora
from sigmagraft.loras.spellings import ENDINGS, NAMED, UNSUPPORTED, split

from ..core.manifests import checkpoint
from .small import Small, write

Q = "output_blocks.5.1.transformer_blocks.0.attn1.to_out.0"  # of SD1.5 and SDXL in these blocks
SPELLED = {
    "ldm/sd15": {
        ("unet", "input_blocks.4.1.transformer_blocks.0.attn2.to_k"): [
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
            "oft_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
            "lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora",
            "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
            "base_model.model.unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
            "lora_unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
            "unet.input_blocks.4.1.transformer_blocks.0.attn2.to_k",
            "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k",
        ],
        ("unet", "output_blocks.5.1.transformer_blocks.0.attn1.to_out.0"): [
            "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_attn1_to_out_0",
            "unet.up_blocks.1.attentions.2.transformer_blocks.0.attn1.processor.to_out_lora",
        ],
        ("unet", "output_blocks.5.2.conv"): ["lora_unet_up_blocks_1_upsamplers_0_conv"],
        ("unet", "output_blocks.2.1.conv"): ["lora_unet_up_blocks_0_upsamplers_0_conv"],
        ("unet", "input_blocks.3.0.op"): ["lora_unet_down_blocks_0_downsamplers_0_conv"],
        ("unet", "middle_block.2.out_layers.3"): ["lora_unet_mid_block_resnets_1_conv2"],
        ("unet", "time_embed.2"): ["lora_unet_time_embedding_linear_2"],
        ("text_encoder", "text_model.encoder.layers.3.self_attn.q_proj"): [
            "lora_te_text_model_encoder_layers_3_self_attn_q_proj",
            "lora_te1_text_model_encoder_layers_3_self_attn_q_proj",
            "text_encoder.text_model.encoder.layers.3.self_attn.q_proj",
            "text_encoder.encoder.layers.3.self_attn.q_proj",
            "text_encoder.text_model.encoder.layers.3.self_attn.to_q_lora",
            "base_model.model.text_model.encoder.layers.3.self_attn.q_proj",
            "text_model.encoder.layers.3.self_attn.q_proj",
            "clip_l.text_model.encoder.layers.3.self_attn.q_proj",
            "lora_te.text_model.encoder.layers.3.self_attn.q_proj",
        ],
    },
    "ldm/sd21": {
        ("text_encoder", "text_model.encoder.layers.22.mlp.fc2"): [
            "lora_te_text_model_encoder_layers_22_mlp_fc2",
            "text_encoder.text_model.encoder.layers.22.mlp.fc2",
        ],
    },
    "ldm/sdxl_base": {
        ("unet", "input_blocks.7.1.transformer_blocks.9.ff.net.0.proj"): [
            "lora_unet_input_blocks_7_1_transformer_blocks_9_ff_net_0_proj",
            "lora_unet_down_blocks_2_attentions_0_transformer_blocks_9_ff_net_0_proj",
        ],
        ("unet", "label_emb.0.2"): ["lora_unet_label_emb_0_2", "lora_unet_add_embedding_linear_2"],
        ("unet", "output_blocks.5.2.conv"): ["lora_unet_up_blocks_1_upsamplers_0_conv"],
        ("text_encoder", "text_model.encoder.layers.3.mlp.fc1"): [
            "lora_te1_text_model_encoder_layers_3_mlp_fc1",
            "text_encoder.text_model.encoder.layers.3.mlp.fc1",
            "clip_l.text_model.encoder.layers.3.mlp.fc1",
        ],
        ("text_encoder_2", "text_model.encoder.layers.31.mlp.fc1"): [
            "lora_te2_text_model_encoder_layers_31_mlp_fc1",
            "text_encoder_2.text_model.encoder.layers.31.mlp.fc1",
            "clip_g.text_model.encoder.layers.31.mlp.fc1",
        ],
        ("text_encoder_2", "text_projection"): ["lora_te2_text_projection"],
    },
    "ldm/sdxl_refiner": {
        ("text_encoder", "text_model.encoder.layers.31.mlp.fc1"): [
            "lora_te_text_model_encoder_layers_31_mlp_fc1",
            "lora_te2_text_model_encoder_layers_31_mlp_fc1",
            "text_encoder_2.text_model.encoder.layers.31.mlp.fc1",
        ],
    },
}
NOT_THERE = {
    "ldm/sdxl_base": [
        "text_model.encoder.layers.3.mlp.fc1",  # of which encoder?
        "lora_te_text_model_encoder_layers_3_mlp_fc1",
        "lora_unet_down_blocks_0_attentions_0_proj_in",
    ],
    "ldm/sd15": ["lora_te2_text_model_encoder_layers_3_mlp_fc1", "lora_unet_input_blocks_4_1"],
}


def _targets(model: str) -> Targets:
    parts = parts_of(checkpoint(model))
    return Targets.of(shapes_of_part(parts.unet), [shapes_of_part(text) for text in parts.texts], model)


@pytest.mark.parametrize("model", SPELLED)
def test_every_spelling_finds_its_module(model: str) -> None:
    there = _targets(model)
    for (network, path), names in SPELLED[model].items():
        for name in names:
            found = there.find(name)
            assert found is not None, name
            assert (found[0].network, found[0].path) == (network, path)
    assert all(there.find(name) is None for name in NOT_THERE.get(model, ()))
    assert not [name for name in there.names if there.ambiguous(name)]


def test_every_module_has_a_name_in_every_naming_that_writes() -> None:
    """What converting needs: no module without kohya's, diffusers' and PEFT's name, and each leads back."""
    there = _targets("ldm/sdxl_base")
    for module in there.modules:
        unet = module.network == "unet"
        wanted = {"kohya (LDM names)", "kohya (diffusers names)", "PEFT"} if unet else {"kohya"}
        assert {"diffusers", *wanted} <= set(module.names)
        for name in (name for names in module.names.values() for name in names):
            assert there.find(name)[0] is module  # type: ignore[index]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_is_taken_apart(ending: str) -> None:
    for stem in ("lora_unet_conv_in", "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"):
        assert split(f"{stem}.{ending}") == (stem, ENDINGS[ending], "")
        if ending in NAMED:
            first, dot, rest = ending.partition(".")
            assert split(f"{stem}.{first}.my_style{dot}{rest}") == (stem, ENDINGS[ending], "my_style")
    assert split(f"x.{ending}.more") is None or ending in NAMED


def test_unsupported_endings_are_not_taken_apart() -> None:
    assert not UNSUPPORTED.keys() & ENDINGS.keys()
    assert all(split(f"x.{ending}") is None for ending in UNSUPPORTED)


def test_old_attention_processors_with_and_without_prefix(tmp_path: Path) -> None:
    small = Small()
    stem = "mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora"
    for prefix in ("", "unet."):
        up, down = torch.randn(64, 4), torch.randn(4, 64)
        names = {f"{prefix}{stem}.up.weight": up, f"{prefix}{stem}.down.weight": down}
        bound = small.load(write(tmp_path / "a.safetensors", names))
        (key,) = bound.deltas
        assert key == "unet.middle_block.1.transformer_blocks.0.attn1.to_out.0.weight"
        assert torch.allclose(bound.deltas[key][0].delta(torch.zeros(64, 64)), up @ down)


@pytest.mark.parametrize("ending", ["lora_linear_layer", "lora"])
def test_transformers_and_diffusers_endings(ending: str, tmp_path: Path) -> None:
    stem = "text_encoder.text_model.encoder.layers.1.self_attn.v_proj"
    names = {
        f"{stem}.{ending}.up.weight": torch.randn(64, 4),
        f"{stem}.{ending}.down.weight": torch.randn(4, 64),
    }
    bound = Small().load(write(tmp_path / "a.safetensors", names))
    assert list(bound.deltas) == [f"{stem}.weight"]


def test_bundled_textual_inversions_are_found_beside_the_weights(tmp_path: Path) -> None:
    stem = "lora_unet_input_blocks_0_0"
    names = {
        f"{stem}.diff": torch.zeros(32, 4, 3, 3),
        "bundle_emb.star.string_to_param.*": torch.zeros(2, 64),
        "bundle_emb.moon.clip_l": torch.zeros(1, 768),
        "bundle_emb.moon.clip_g": torch.zeros(1, 1280),
    }
    file = read_lora(write(tmp_path / "a.safetensors", names))
    assert {name: set(tensors) for name, tensors in file.embeddings.items()} == {
        "star": {"string_to_param.*"},
        "moon": {"clip_l", "clip_g"},
    }


def test_an_old_glora_is_told_by_the_shape_of_the_weight(tmp_path: Path) -> None:
    """Old order: a1 [r, in], a2 [in, r], b1 [r, in], b2 [out, r]; W a2 a1 + b2 b1."""
    small = Small()
    path = "input_blocks.3.1.transformer_blocks.0.ff.net.0.proj"
    a1, a2, b1, b2 = torch.randn(4, 64), torch.randn(64, 4), torch.randn(4, 64), torch.randn(512, 4)
    stem = "lora_unet_" + path.replace(".", "_")
    names = {
        f"{stem}.{key}.weight": t for key, t in zip(("a1", "a2", "b1", "b2"), (a1, a2, b1, b2), strict=True)
    }
    bound = small.load(write(tmp_path / "a.safetensors", names))
    weight = small.parameters[f"unet.{path}.weight"]
    change = bound.deltas[f"unet.{path}.weight"][0].delta(weight)
    assert torch.allclose(change, weight @ a2 @ a1 + b2 @ b1, atol=1e-3)


def test_early_lycoris_oft_holds_the_rotation_itself(tmp_path: Path) -> None:
    small = Small()
    path = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    turns = torch.linalg.qr(torch.randn(4, 8, 8))[0]
    stem = "lora_unet_" + path.replace(".", "_")
    bound = small.load(write(tmp_path / "a.safetensors", {f"{stem}.oft_diag": turns}))
    weight = small.parameters[f"unet.{path}.weight"]
    change = bound.deltas[f"unet.{path}.weight"][0].delta(weight)
    assert torch.allclose(weight + change, torch.block_diag(*turns).T @ weight, atol=1e-5)


def test_set_weight_and_bias_replace_what_is_there(tmp_path: Path) -> None:
    small = Small()
    value, bias = torch.randn(32, 4, 3, 3), torch.randn(32)
    names = {"lora_unet_conv_in.set_weight": value, "lora_unet_conv_in.set_bias": bias}
    small.fuse(small.load(write(tmp_path / "a.safetensors", names)))
    assert torch.allclose(small.parameters["unet.input_blocks.0.0.weight"], value, atol=1e-6)
    assert torch.allclose(small.parameters["unet.input_blocks.0.0.bias"], bias, atol=1e-6)


def test_a_scalar_multiplies(tmp_path: Path) -> None:
    """LyCORIS files of before 3.0 keep it apart."""
    up, down = torch.randn(32, 4), torch.randn(4, 36)
    stem = "lora_unet_conv_in"
    names = {
        f"{stem}.lora_up.weight": up,
        f"{stem}.lora_down.weight": down,
        f"{stem}.scalar": torch.tensor(0.3),
    }
    bound = Small().load(write(tmp_path / "a.safetensors", names))
    change = bound.deltas["unet.input_blocks.0.0.weight"][0].delta(torch.zeros(32, 4, 3, 3))
    assert torch.allclose(change.flatten(1), 0.3 * up @ down, atol=1e-5)


def test_a_token_table_is_changed_by_peft_embedding_factors(tmp_path: Path) -> None:
    a, b = torch.randn(4, 514), torch.randn(64, 4)
    stem = "base_model.model.text_model.embeddings.token_embedding"
    names = {f"{stem}.lora_embedding_A": a, f"{stem}.lora_embedding_B": b}
    bound = Small().load(write(tmp_path / "a.safetensors", names))
    (key,) = bound.deltas
    assert torch.allclose(bound.deltas[key][0].delta(torch.zeros(514, 64)), (b @ a).T, atol=1e-5)
