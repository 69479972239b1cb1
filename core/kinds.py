"""What kind of file this is when it is no model: an ordered table of key conditions, the surest first."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from .shapes import Shapes


class Kind(NamedTuple):
    """A kind of weights file, and the condition on names and shapes that recognises it."""

    name: str
    label: str
    test: Callable[[Shapes], bool]


def _has(*names: str) -> Callable[[Shapes], bool]:
    return lambda shapes: all(name in shapes for name in names)


def _any(pattern: str, *, unless: str | None = None) -> Callable[[Shapes], bool]:
    seen, barred = re.compile(pattern), re.compile(unless) if unless else None

    def test(shapes: Shapes) -> bool:
        return any(seen.search(n) for n in shapes) and not (barred and any(barred.search(n) for n in shapes))

    return test


def _both(*tests: Callable[[Shapes], bool]) -> Callable[[Shapes], bool]:
    return lambda shapes: all(test(shapes) for test in tests)


def _is_embedding(shapes: Shapes) -> bool:
    """A handful of vectors as wide as a text encoder."""
    known = _any(r"^(string_to_param\..*|emb_params|clip_[lg])$")(shapes)
    widths = {shape[-1] for shape in shapes.values() if len(shape) in (1, 2)}
    return known or (len(shapes) <= 2 and bool(widths) and widths <= {768, 1024, 1280})


_LORA = (
    r"\.lora_(up|down|A|B|mid)\b|[._]lora\.(up|down)\.|_lora\.(up|down)\.|\.(hada_w1_a|lokr_w[12](_a)?"
    r"|oft_blocks|oft_diag|dora_scale|lora_linear_layer\.(up|down)|lora_magnitude_vector)|^lora_(unet|te\d?)_"
    r"|\.(a1|b1)\.weight$|\.(diff|diff_b|on_input|w_norm)$"
)
KINDS: list[Kind] = [
    Kind("control-lora", "a Control-LoRA", _has("lora_controlnet")),
    Kind("lllite", "a ControlNet-LLLite", _any(r"^lllite_")),
    Kind("sparsectrl", "a SparseCtrl", _both(_any(r"motion_modules"), _any(r"controlnet_cond_embedding"))),
    Kind("motion-lora", "an AnimateDiff motion LoRA", _both(_any(r"motion_modules"), _any(_LORA))),
    Kind("motion-module", "an AnimateDiff motion module", _any(r"motion_modules")),
    Kind("controlnet-union", "a ControlNet-Union", _any(r"control_add_embedding")),
    Kind("controlnet", "a ControlNet", _any(r"controlnet_cond_embedding\.|(^|\.)zero_convs\.0\.0\.weight$")),
    Kind("t2i-style", "a T2I style adapter", _has("style_embedding")),
    Kind(
        "t2i-adapter",
        "a T2I-Adapter",
        _any(r"^(adapter\.)?body\.0\.(resnets\.0\.block1|in_conv|block1)\.weight$"),
    ),
    Kind("ip-adapter", "an IP-Adapter", _any(r"^(image_proj|ip_adapter)\.")),
    Kind("lora", "a LoRA (or one of its kin)", _any(_LORA, unless=r"^model\.diffusion_model\.")),
    Kind("embedding", "a textual inversion embedding", _is_embedding),
]
FOREIGN: list[Kind] = [
    Kind("sd3", "a Stable Diffusion 3 model", _any(r"(^|\.)joint_blocks\.0\.")),
    Kind("flux", "a Flux model", _any(r"(^|\.)double_blocks\.0\.img_attn")),
    Kind("svd", "a Stable Video Diffusion model", _any(r"\.time_mixer\.mix_factor$")),
    Kind("dit", "a diffusion transformer", _any(r"(^|\.)(cap_embedder|x_embedder)\.")),
    Kind("cascade", "a Stable Cascade model", _any(r"(^|\.)clip_txt_(pooled_)?mapper")),
]
OTHERS: list[Kind] = [
    Kind("safety-checker", "a safety checker", _has("concept_embeds")),
    Kind("clip-vision", "a CLIP image encoder", _any(r"^(vision_model|visual)\.")),
    Kind(
        "taesd",
        "a tiny autoencoder (TAESD)",
        _any(r"^((taesd_)?(de|en)coder\.(layers\.)?)?[13]\.conv\.0\.weight"),
    ),
    Kind("upscaler", "a picture upscaler", _any(r"^(model\.0\.weight|conv_first\.weight|body\.0\.rdb1)")),
    Kind("vae-approx", "an approximate VAE for previews", _has("conv1.weight", "conv8.weight")),
    Kind("ddpm", "an unconditional diffusion UNet", _has("conv_in.weight", "time_embedding.linear_1.weight")),
]


def adapter_kind(shapes: Shapes) -> Kind | None:
    """The kind of an adapter file, which goes with a model; None where it is none."""
    return next((kind for kind in KINDS if kind.test(shapes)), None)


def foreign_kind(shapes: Shapes) -> Kind | None:
    """The family of a model that is neither SD1, SD2 nor SDXL; None where it may be one of them."""
    return next((kind for kind in FOREIGN if kind.test(shapes)), None)


def other_kind(shapes: Shapes) -> Kind | None:
    """The kind of a file that holds no adapter and no part of SD1, SD2 or SDXL; None where nobody knows it."""
    return foreign_kind(shapes) or next((kind for kind in OTHERS if kind.test(shapes)), None)
