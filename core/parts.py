"""The parts of a checkpoint (UNet, VAE, text encoders) under our networks' names, whatever its layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .checkpoint import Checkpoint
from .entry import Entry
from .keymap import rename, unet_table_for, vae_table_for
from .textmap import is_openclip, to_transformers

Tensors = dict[str, Entry]

# What may lie in a file beside the networks, and why it is not needed.
IGNORED: list[tuple[str, str]] = [
    (r"(.*\.)?(position_ids|attn_mask)", "a constant the text encoder does not need"),
    (r"(.*\.)?logit_scale", "only CLIP's image-text score uses it"),
    (r"(.*\.)?(vision_model|visual_projection|visual)(\..*)?", "CLIP's image half"),
    (r"(model\.)?(alphas|betas|sqrt_|log_one|posterior_|lvlb_|logvar|scale_factor).*", "noise schedule"),
    (r"denoiser\..*", "noise schedule"),
    (r"model_ema\.(?!diffusion_model).*", "training average of another part than the UNet"),
    (r"((first_stage_model|vae)\.)?loss\..*", "the VAE's training loss"),
    (r"depth_model\..*", "the depth estimator, not used in loading"),
    (r"global_step|epoch|iteration", "training progress"),
    (
        r"(.*\.)?(scale_input|input_scale|comfy_quant)",
        "scale of fp8 activations; activations are not stored in fp8",
    ),
    (r"(.*\.)?scaled_fp8", "mark of scaled fp8 weights"),
]
MARKERS = r"v_pred|ztsnr|edm_mean|edm_std|edm_vpred\.sigma_(max|min)"
_TEXT = re.compile(r"(?:cond_stage_model|conditioner\.embedders\.(\d+))\.(?:transformer|model)\.(.*)")
_EMA_WORDS = re.compile(
    r"(?:input|output)_blocks\d+|middle_block|time_embed|label_emb\d+|(?:out|in|emb)_layers|skip_connection"
    r"|transformer_blocks|proj_in|proj_out|proj|attn[12]|to_q|to_k|to_v|to_out|ff|net|norm[123]?|op|conv"
    r"|weight|bias|out|\d+"
)


@dataclass
class Parts:
    """What a checkpoint holds: `unet` and `vae` under LDM names, each of `texts` under transformers' names.

    `openclip[i]` says whether text encoder i came in OpenCLIP's layout. `ignored` gives a reason for each
    tensor that is known and not needed; `unknown` names those nobody knows.
    """

    unet: Tensors = field(default_factory=dict)
    ema: Tensors = field(default_factory=dict)
    vae: Tensors = field(default_factory=dict)
    texts: list[Tensors] = field(default_factory=list)
    openclip: list[bool] = field(default_factory=list)
    markers: Tensors = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The parts that are there."""
        found = [name for name in ("unet", "ema", "vae") if getattr(self, name)]
        return found + ["text_encoder" if i == 0 else f"text_encoder_{i + 1}" for i in range(len(self.texts))]


def parts_of(checkpoint: Checkpoint) -> Parts:
    """Sort every tensor of a file into its part; a file that is one bare component gives that part alone."""
    parts, rest, texts = Parts(), {}, {}
    for name, entry in checkpoint.items():
        text = _TEXT.fullmatch(name)
        if reason := ignored(name):
            parts.ignored[name] = reason
        elif name.startswith("model.diffusion_model."):
            parts.unet[name[22:]] = entry
        elif name.startswith("model_ema."):
            parts.ema[unflatten(name)] = entry
        elif name.startswith("first_stage_model."):
            parts.vae[name[18:]] = entry
        elif text:
            texts.setdefault(int(text[1] or 0), {})[text[2]] = entry
        elif re.fullmatch(MARKERS, name):
            parts.markers[name] = entry
        else:
            rest[name] = entry
    for number in sorted(texts):
        _add_text(parts, texts[number])
    _add_bare(parts, rest)
    return parts


def ignored(name: str) -> str | None:
    """Why a tensor of this name is not needed; None where it is, or nobody knows it."""
    return next((reason for pattern, reason in IGNORED if re.fullmatch(pattern, name)), None)


def unflatten(name: str) -> str:
    """`model_ema.diffusion_modelinput_blocks10in_layers0weight` -> `input_blocks.1.0.in_layers.0.weight`.

    The training average drops the dots of its names; every block holds at most ten layers, so the last
    digit of a block's number is the layer's.
    """
    words = _EMA_WORDS.findall(name.removeprefix("model_ema.").removeprefix("diffusion_model"))
    return ".".join(re.sub(r"(blocks|label_emb)(\d+)(\d)$", r"\1.\2.\3", word) for word in words)


def _add_text(parts: Parts, entries: Tensors) -> None:
    named, unknown = to_transformers(entries)
    if not any(name.endswith("token_embedding.weight") for name in named):
        parts.unknown += entries
        return
    parts.texts.append(named)
    parts.openclip.append(is_openclip(entries))
    parts.unknown += unknown


def _add_bare(parts: Parts, rest: Tensors) -> None:
    """Tensors without a checkpoint's prefixes: a component saved alone, in LDM, diffusers or CLIP layout."""
    if "input_blocks.0.0.weight" in rest and not parts.unet:
        parts.unet = {name: rest.pop(name) for name in list(rest) if re.match(_BARE_UNET, name)}
    elif "conv_out.weight" in rest and any(name.endswith(".attn2.to_k.weight") for name in rest):
        parts.unet, unknown = rename(rest, unet_table_for(rest))
        rest = {name: rest[name] for name in unknown}
    if "decoder.conv_in.weight" in rest and not parts.vae:
        sides = {name: entry for name, entry in rest.items() if re.match(_BARE_VAE, name)}
        rest = {name: entry for name, entry in rest.items() if name not in sides}
        ldm = "decoder.mid.block_1.conv1.weight" in sides
        parts.vae, unknown = (sides, []) if ldm else rename(_convolved(sides), vae_table_for(sides))
        parts.unknown += unknown
    if any(name.endswith("token_embedding.weight") for name in rest) and not parts.texts:
        _add_text(parts, rest)
        rest = {}
    parts.unknown += rest


def _convolved(vae: Tensors) -> Tensors:
    """diffusers stores the VAE's attention as matrices, LDM as 1x1 convolutions."""
    return {name: e.reshape((*e.shape, 1, 1)) if len(e.shape) == 2 else e for name, e in vae.items()}


_BARE_UNET = r"(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)\."
_BARE_VAE = r"(encoder|decoder|quant_conv|post_quant_conv)\."


def shapes(tensors: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape."""
    return {name: entry.shape for name, entry in tensors.items()}
