"""Random models of every family at its real topology and reduced width, written as diffusers folder and single file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sigmagraft.core.keymap import inverse, rename, unet_table_for, vae_table_for

VOCAB = 600
CLIP_L = {"width": 64, "layers": 12, "act": "quick_gelu", "projection": None}


@dataclass(frozen=True)
class Recipe:
    """The sizes of one family; the topology (levels, depths, layers) is the published one."""

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    depth: tuple[int, ...] | int
    heads: Any
    linear: bool
    texts: tuple[dict[str, Any], ...]
    in_channels: int = 4
    adm: int | None = None
    ids: int = 6
    scheduler: dict[str, Any] = field(default_factory=dict)
    latents: int = 4

    @property
    def context(self) -> int:
        return sum(text["width"] for text in self.texts)


def _openclip(width: int, layers: int, projection: int | None) -> dict[str, Any]:
    return {"width": width, "layers": layers, "act": "gelu", "projection": projection}


_ALL = (True, True, True, False)
_SD2 = Recipe((64, 64, 128, 128), _ALL, 1, [1, 1, 2, 2], True, (_openclip(64, 24, None),))
_SDXL = Recipe(
    (32, 64, 128),
    (False, True, True),
    (1, 2, 10),
    [1, 1, 2],
    True,
    (CLIP_L, _openclip(128, 32, 128)),
    adm=128 + 6 * 256,
)
FAMILIES: dict[str, Recipe] = {
    "sd1": Recipe((32, 64, 128, 128), _ALL, 1, 8, False, (CLIP_L,)),
    "sd1-inpaint": Recipe((32, 64, 128, 128), _ALL, 1, 8, False, (CLIP_L,), in_channels=9),
    "sd2": _SD2,
    "sd2-depth": Recipe(**{**_SD2.__dict__, "in_channels": 5}),
    "sdxl": _SDXL,
    "sdxl-inpaint": Recipe(**{**_SDXL.__dict__, "in_channels": 9}),
    "sdxl-refiner": Recipe(
        (32, 64, 128, 128),
        (False, True, True, False),
        4,
        [1, 1, 2, 2],
        True,
        (_openclip(128, 32, 128),),
        adm=128 + 5 * 256,
        ids=5,
    ),
}


def reference_unet(recipe: Recipe) -> Any:
    """diffusers' UNet with these sizes and random weights."""
    from diffusers import UNet2DConditionModel

    down = ["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in recipe.attention]
    vector = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": recipe.adm,
    }
    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=recipe.in_channels,
        out_channels=recipe.latents,
        block_out_channels=recipe.channels,
        down_block_types=down,
        up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
        layers_per_block=2,
        cross_attention_dim=recipe.context,
        attention_head_dim=recipe.heads,
        transformer_layers_per_block=recipe.depth,
        use_linear_projection=recipe.linear,
        **(vector if recipe.adm else {}),
    ).eval()


def reference_vae(recipe: Recipe) -> Any:
    """diffusers' VAE with four levels."""
    from diffusers import AutoencoderKL

    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
        latent_channels=recipe.latents,
        scaling_factor=0.13025 if recipe.adm else 0.18215,
    ).eval()


def reference_text(text: dict[str, Any]) -> Any:
    """transformers' text encoder, with a projection where the family has one."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(3 + text["layers"])
    config = CLIPTextConfig(
        vocab_size=VOCAB,
        hidden_size=text["width"],
        intermediate_size=text["width"] * 4,
        num_hidden_layers=text["layers"],
        num_attention_heads=text["width"] // 64,
        hidden_act=text["act"],
        projection_dim=text["projection"] or 512,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    model = (CLIPTextModelWithProjection if text["projection"] else CLIPTextModel)(config).eval()
    with torch.no_grad():  # fresh ones are so small that a wrong activation would not show
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model


@dataclass
class Reference:
    """The reference networks of one family, and the files they were written to."""

    recipe: Recipe
    unet: Any
    vae: Any
    texts: list[Any]
    folder: Path
    file: Path


def write(name: str, root: Path) -> Reference:
    """Build a family's reference networks and write both layouts under `root`."""
    recipe = FAMILIES[name]
    made = Reference(
        recipe,
        reference_unet(recipe),
        reference_vae(recipe),
        [reference_text(text) for text in recipe.texts],
        root / "folder",
        root / "file.safetensors",
    )
    write_folder(made, made.folder)
    save_file(single_file(made), made.file)
    return made


def write_folder(made: Reference, folder: Path) -> None:
    """As diffusers' pipelines save themselves, component by component."""
    folder.mkdir(parents=True, exist_ok=True)
    made.unet.save_pretrained(folder / "unet")
    made.vae.save_pretrained(folder / "vae")
    refiner = made.recipe.adm is not None and len(made.texts) == 1
    names = ["text_encoder_2"] if refiner else ["text_encoder", "text_encoder_2"]
    index: dict[str, Any] = {"_class_name": "Pipeline", "unet": ["diffusers", "U"], "vae": ["diffusers", "V"]}
    for text, component in zip(made.texts, names, strict=False):
        text.save_pretrained(folder / component)
        index[component] = ["transformers", type(text).__name__]
    index["scheduler"] = ["diffusers", "EulerDiscreteScheduler"]
    scheduler = {
        "_class_name": "EulerDiscreteScheduler",
        "prediction_type": "epsilon",
        **made.recipe.scheduler,
    }
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "model_index.json").write_text(json.dumps(index))


def single_file(made: Reference) -> dict[str, Tensor]:
    """The same weights in LDM's layout, text encoders as the family's single files have them."""
    state = made.unet.state_dict()
    found = {f"model.diffusion_model.{n}": t for n, t in rename(state, unet_table_for(state))[0].items()}
    found |= {f"first_stage_model.{n}": t for n, t in ldm_vae(made.vae.state_dict()).items()}
    single = len(made.texts) == 1
    for i, (text, sizes) in enumerate(zip(made.texts, made.recipe.texts, strict=True)):
        state = text.state_dict()
        state = {n if n.startswith("text_") else f"text_model.{n}": t for n, t in state.items()}
        stem = "cond_stage_model" if single and not made.recipe.adm else f"conditioner.embedders.{i}"
        if sizes["act"] == "gelu":
            found |= {f"{stem}.model.{n}": t for n, t in openclip(state).items()}
        else:
            found |= {f"{stem}.transformer.{n}": t for n, t in state.items()}
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


def ldm_vae(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A VAE's tensors under LDM names, its attention as 1x1 convolutions."""
    renamed = rename(state, vae_table_for(state))[0]
    return {n: t[..., None, None] if ".attn_1." in n and t.ndim == 2 else t for n, t in renamed.items()}


def ldm_to_diffusers(state: dict[str, Tensor], like: dict[str, Any]) -> dict[str, Tensor]:
    """The way back for a UNet, given a diffusers state dict with its names."""
    return rename(state, inverse(unet_table_for(like)))[0]


def openclip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' text encoder in OpenCLIP's layout (open_clip's convert functions, written the other way round)."""
    table = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    found = {
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": state["text_model.final_layer_norm.weight"],
        "ln_final.bias": state["text_model.final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
    }
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].T
    for i in range(len({n.split(".")[3] for n in state if ".layers." in n})):
        old, new = f"text_model.encoder.layers.{i}.", f"transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            found |= {f"{new}{b}.{kind}": state[f"{old}{a}.{kind}"] for a, b in table.items()}
            qkv = [state[f"{old}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            found[f"{new}attn.in_proj_{kind}"] = torch.cat(qkv)
    return found
