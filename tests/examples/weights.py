"""Random tensors under the names of published files, their widths a tenth or a quarter of the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ..core.manifests import shapes_of

VOCAB, WIDTH, RANK = 600, 64, 4
UNET = {320 * n: 32 * n for n in (1, 2, 3, 4, 6, 8, 16, 32)}
SD1, SD2 = UNET | {768: WIDTH}, UNET | {1024: WIDTH}
XL = UNET | {2048: 2 * WIDTH, 2816: WIDTH + 6 * 256}  # two encoders; the pooled vector and six numbers
PIXELS = {128 * n: 32 * n for n in (1, 2, 3, 4, 6, 8)}
VAE = PIXELS
CLIP = {49408: VOCAB, 77: 77}
CLIP |= {width: WIDTH for width in (768, 1024, 1280, 1664)}
CLIP |= {width: 4 * WIDTH for width in (3072, 4096, 5120, 8192)}
VISION = CLIP | {257: 5}  # of 28 x 28 pixels
RANKS = {64: RANK, 8: RANK}
# by the beginning of a file's names: text encoders' LoRAs and image prompts' projections have sizes of their own
APART: dict[str, Mapping[int, int]] = {
    "lora_te": CLIP | RANKS,
    "image_proj.": {1280: WIDTH, 2048: 2 * WIDTH, 8192: 8 * WIDTH},
}


def tensors(manifest: str, sizes: Mapping[int, int], seed: int = 0) -> dict[str, Tensor]:
    """Every name of a published file, with random values of the size that training leaves, in fp16."""
    source = torch.Generator().manual_seed(seed)
    return {name: _random(name, shape, sizes, source) for name, shape in shapes_of()[manifest].items()}


def _random(name: str, shape: tuple[int, ...], sizes: Mapping[int, int], source: torch.Generator) -> Tensor:
    table = next((each for start, each in APART.items() if name.startswith(start)), sizes)
    shape = tuple(table.get(side, side) for side in shape)
    if name.endswith("alpha"):
        return torch.tensor(float(RANK)).half()
    drawn = torch.randn(shape, generator=source)
    if len(shape) > 1:
        drawn = drawn / max(drawn[0].numel(), 1) ** 0.5
    else:
        drawn = drawn * 0.02 + (name.endswith("weight") and "concept" not in name)
    if "concept" in name and name.endswith("_weights"):
        drawn = torch.ones(shape)  # no cosine exceeds 1: nothing is unsafe
    return (drawn * 0.1 if "lora" in name else drawn).half()


def file(manifest: str, sizes: Mapping[int, int], seed: int = 0) -> bytes:
    """The tensors as a safetensors file."""
    return save(tensors(manifest, sizes, seed), {"format": "pt"})


# levels -> heads of each: of 64 channels as published in SDXL, of 32 in SD2, whose first level has no more
HEADS = {3: [1, 1, 2], 4: [1, 2, 4, 4]}
SCALED = ("block_out_channels", "cross_attention_dim", "projection_class_embeddings_input_dim")


def config(said: Mapping[str, Any], sizes: Mapping[int, int], side: int | None = None) -> dict[str, Any]:
    """A published config.json with the widths of `sizes`; `side`: its sample_size."""
    made = dict(said)
    for name in SCALED:
        if name in made:
            made[name] = _mapped(made[name], sizes)
    if isinstance(made.get("attention_head_dim"), list):
        made["attention_head_dim"] = HEADS[len(made["attention_head_dim"])]
    return made | ({"sample_size": side} if side else {})


def text_config(said: Mapping[str, Any]) -> dict[str, Any]:
    """A text encoder's."""
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": 1,
    }
    return {**said, **sizes, "projection_dim": WIDTH}


def vision_config(layers: int, act: str) -> dict[str, Any]:
    """An image encoder's."""
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 1,
        "image_size": 28,
        "patch_size": 14,
        "projection_dim": WIDTH,
        "hidden_act": act,
    }


def _mapped(value: Any, sizes: Mapping[int, int]) -> Any:
    return [sizes.get(each, each) for each in value] if isinstance(value, list) else sizes.get(value, value)
