"""CLIP image encoders (arXiv:2103.00020; ViT-H, bigG, L and small ones) from any file or folder, sizes from shapes.

The network is transformers' CLIPVisionModelWithProjection, imported when an encoder is loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..core.checkpoint import Checkpoint, open_weights
from ..core.entry import Entry
from ..core.errors import FileError
from ..core.fill import Filler
from ..core.keymap import rename, rows
from ..core.shapes import Shapes, count
from .ip_features import Features
from .ip_image import pixels

Tensors = dict[str, Entry]
_VISION = re.compile(r"(?:.*\.)?(vision_model\..*|visual_projection\.weight)")
_HEADS = {768: 12, 1024: 16, 1280: 16, 1664: 16}  # of the published sizes; else one for each 64 channels
_QUICK = {(768, 512), (1024, 768)}  # width and output of OpenAI's, which use quick_gelu
_OPENCLIP = rows("""
    class_embedding      vision_model.embeddings.class_embedding
    positional_embedding vision_model.embeddings.position_embedding.weight
    conv1                vision_model.embeddings.patch_embedding
    ln_pre               vision_model.pre_layrnorm
    ln_post              vision_model.post_layernorm
    proj                 visual_projection.weight
""")
_OPENCLIP_LAYER = rows("""
    ln_1          layer_norm1
    ln_2          layer_norm2
    attn.q_proj   self_attn.q_proj
    attn.k_proj   self_attn.k_proj
    attn.v_proj   self_attn.v_proj
    attn.out_proj self_attn.out_proj
    mlp.c_fc      mlp.fc1
    mlp.c_proj    mlp.fc2
""")
_WEIGHTS = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")


class ImageEncoder:
    """Pictures -> features; `pooled` and `hidden` are the channels of the two kinds it gives."""

    def __init__(self, network: Any, source: Path) -> None:
        self.network, self.source = network, source
        config = network.config
        self.side: int = config.image_size
        self.pooled: int = config.projection_dim
        self.hidden: int = config.hidden_size

    @classmethod
    def load(
        cls, path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> ImageEncoder:
        """From a weights file or a folder with one. FileError where it holds no CLIP image encoder."""
        file, config = _locate(Path(path).expanduser())
        checkpoint = open_weights(file)
        tensors = vision_tensors(checkpoint)
        settings = _settings({n: e.shape for n, e in tensors.items()}, config or _said(checkpoint), file)
        with Filler(dtype, torch.device(device)) as filler:
            network = filler.build(lambda: _network(settings), tensors, "image encoder")
        return cls(network, file)

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image], wanted: Sequence[str], crop: str = "center") -> Features:
        """The features among pooled and hidden that are wanted, in fp32, one picture at a time."""
        found = [self._features(pixels([image], self.side, crop), wanted) for image in images]
        zero = self._zero() if "hidden" in wanted else None
        joint = {name: torch.cat([f[name] for f in found]) for name in wanted}
        return Features(**joint, zero_hidden=zero)

    def _zero(self) -> Tensor:
        return self._features(torch.zeros(1, 3, self.side, self.side), ("hidden",))["hidden"]

    def _features(self, values: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        weight = self.network.visual_projection.weight
        out = self.network(values.to(weight.device, weight.dtype), output_hidden_states="hidden" in wanted)
        found = {"pooled": out.image_embeds}
        if "hidden" in wanted:
            found["hidden"] = out.hidden_states[-2]
        return {name: found[name].float() for name in wanted}


def vision_tensors(entries: Mapping[str, Entry]) -> Tensors:
    """The tensors of a CLIP image encoder under transformers' names, whatever else is in the file.

    FileError where there is none.
    """
    named = {m[1]: e for name, e in entries.items() if (m := _VISION.fullmatch(name))}
    if not named:
        inside = {n.removeprefix("visual."): e for n, e in entries.items() if n.startswith("visual.")}
        named, _ = rename(_unfused(inside), _OPENCLIP | _openclip_layers(inside))
    named = {name: entry for name, entry in named.items() if not name.endswith("position_ids")}
    if "visual_projection.weight" not in named:
        where = entries.source if isinstance(entries, Checkpoint) else None
        raise FileError("no CLIP image encoder in it", where, "vision_model.* and visual_projection.weight")
    return named


def _unfused(entries: Mapping[str, Entry]) -> Tensors:
    """OpenCLIP fuses q, k and v, and multiplies by `proj` where transformers keeps a linear layer's weight."""
    plain: Tensors = {}
    for name, entry in entries.items():
        if ".attn.in_proj_" in name:
            stem, kind = name.split("in_proj_")
            plain |= {f"{stem}{p}_proj.{kind}": e for p, e in zip("qkv", entry.split(3), strict=True)}
        else:
            plain[name] = entry.transpose() if name == "proj" else entry
    return plain


def _openclip_layers(names: Mapping[str, Entry]) -> dict[str, str]:
    numbers = {name.split(".")[2] for name in names if name.startswith("transformer.resblocks.")}
    return {
        f"transformer.resblocks.{n}.{a}": f"vision_model.encoder.layers.{n}.{b}"
        for n in numbers
        for a, b in _OPENCLIP_LAYER.items()
    }


def _locate(path: Path) -> tuple[Path, dict[str, Any]]:
    """The weights file of a folder, and its config.json where there is one."""
    if not path.is_dir():
        return path, {}
    there = [file.name for file in path.iterdir() if file.is_file()]
    named = next((name for name in _WEIGHTS if name in there), None)
    others = sorted(
        n for n in there if n.endswith((".safetensors", ".bin", ".pt", ".safetensors.index.json"))
    )
    if named is None and not others:
        raise FileError("no weights of an image encoder in this folder", path, "model.safetensors")
    config = path / "config.json"
    said = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return path / (named or others[0]), said.get("vision_config", said)


def _said(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a single file says of itself: `clip_vision` in its metadata, a JSON object with transformers' names."""
    try:
        said = json.loads(checkpoint.metadata.get("clip_vision", "{}"))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _settings(shapes: Shapes, said: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """transformers' CLIPVisionConfig of a state dict's shapes; what leaves no trace there is said or usual."""
    layer = "vision_model.encoder.layers.{}.mlp.fc1.weight"
    try:
        width, _, patch, _ = shapes["vision_model.embeddings.patch_embedding.weight"]
        positions = shapes["vision_model.embeddings.position_embedding.weight"][0]
        inner = shapes[layer.format(0)][0]
        out = shapes["visual_projection.weight"][0]
    except KeyError as error:
        raise FileError(
            f"the image encoder lacks {error.args[0]!r}", where, todo="the file is incomplete"
        ) from None
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": count(shapes, layer),
        "image_size": math.isqrt(positions - 1) * patch,
        "patch_size": patch,
        "projection_dim": out,
        "num_attention_heads": said.get("num_attention_heads") or _HEADS.get(width, max(width // 64, 1)),
        "hidden_act": said.get("hidden_act") or ("quick_gelu" if (width, out) in _QUICK else "gelu"),
        "layer_norm_eps": said.get("layer_norm_eps", 1e-5),
    }


def _network(settings: Mapping[str, Any]) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    network = CLIPVisionModelWithProjection(CLIPVisionConfig(**settings))
    # transformers before 4.31 counts it among the weights, which no file needs to hold
    network.vision_model.embeddings._non_persistent_buffers_set.add("position_ids")
    return network
