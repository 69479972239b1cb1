"""The layouts in which IP-Adapters are found, brought to one: image_proj.*, ip_adapter.<number>.to_k_ip.weight.

- published: two dictionaries of a .bin, or the same names as prefixes of a .safetensors;
- a training checkpoint: image_proj_model.*, adapter_modules.*, beside the UNet it was trained with;
- a diffusers UNet with an IP-Adapter loaded: encoder_hid_proj.* and one processor for each attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..core.entry import Entry
from ..core.keymap import Table, rows, translate

Tensors = dict[str, Entry]
PROJECTION = "encoder_hid_proj.image_projection_layers."
_PREFIXES = (
    ("image_proj_model.", "image_proj."),
    ("adapter_modules.", "ip_adapter."),
    ("image_proj.", "image_proj."),
    ("ip_adapter.", "ip_adapter."),
)
_IGNORED = (
    (r"unet\..*", "the UNet it was trained with, which it leaves as it is"),
    (
        r"(down_blocks|up_blocks|mid_block|conv_in|conv_out|conv_norm_out|(time|add)_embedding)\b.*",
        "the UNet's own",
    ),
    (r"global_step|epoch|step", "training progress"),
)
_PROCESSOR = re.compile(
    r"((?:down|up)_blocks\.\d+|mid_block)\.(.*)\.attn2\.processor\.to_([kv])_ip\.0\.weight"
)
_LINEAR = rows("""
    image_embeds proj
    norm         norm
""")
_PATCHES = rows("""
    ff.net.0.proj proj.0
    ff.net.2      proj.2
    norm          proj.3
""")
_FACE = rows("""
    ff.net.0.proj   proj.0
    ff.net.2        proj.2
    proj.net.0.proj proj.0
    proj.net.2      proj.2
    norm            norm
""")
_PERCEIVER = rows("""
    proj_in  proj_in
    proj_out proj_out
    norm_out norm_out
    latents  latents
""")
_PERCEIVER_LAYER = rows("""
    ln0             0.norm1
    ln1             0.norm2
    attn.to_q       0.to_q
    attn.to_k       0.to_k
    attn.to_v       0.to_v
    attn.to_out.0   0.to_out
    ff.0            1.0
    ff.1.net.0.proj 1.1
    ff.1.net.2      1.3
""")


def published(entries: Mapping[str, Entry]) -> tuple[Tensors, dict[str, str], list[str]]:
    """(tensors under the published names with to_kv split, why the others are not needed, names nobody knows)."""
    named: Tensors = {}
    ignored: dict[str, str] = {}
    unknown: list[str] = []
    others = _diffusers(entries)
    for name, entry in entries.items():
        new = others.get(name) or _prefixed(name)
        if new is not None:
            named |= _split(new, entry)
        elif reason := next((reason for pattern, reason in _IGNORED if re.fullmatch(pattern, name)), None):
            ignored[name] = reason
        else:
            unknown.append(name)
    return named, ignored, unknown


def _prefixed(name: str) -> str | None:
    return next((new + name[len(old) :] for old, new in _PREFIXES if name.startswith(old)), None)


def _split(name: str, entry: Entry) -> Tensors:
    if not name.endswith(".to_kv.weight"):
        return {name: entry}
    k, v = entry.split(2)
    return {name.replace(".to_kv.", ".to_k."): k, name.replace(".to_kv.", ".to_v."): v}


def _diffusers(entries: Mapping[str, Entry]) -> Table:
    """The names of the first adapter in a diffusers UNet -> published ones; empty where there is none."""
    table: Table = {}
    found = {name: match for name in entries if (match := _PROCESSOR.fullmatch(name))}
    modules = sorted({(m[1], m[2]) for m in found.values()}, key=_order)
    numbers = {module: 2 * k + 1 for k, module in enumerate(modules)}
    for name, match in found.items():
        table[name] = f"ip_adapter.{numbers[match[1], match[2]]}.to_{match[3]}_ip.weight"
    inside = {
        name: name.removeprefix(f"{PROJECTION}0.") for name in entries if name.startswith(f"{PROJECTION}0.")
    }
    rules = _projection_rules(set(inside.values()), {new: entries[old].shape for old, new in inside.items()})
    for name, inner in inside.items():
        if (new := translate(rules, inner)) is not None:
            table[name] = f"image_proj.{new}"
    return table


def _order(module: tuple[str, str]) -> tuple[int, list[int]]:
    side = ("down_blocks", "up_blocks", "mid_block").index(module[0].split(".")[0])
    return side, [int(n) for n in re.findall(r"\d+", ".".join(module))]


def _projection_rules(names: set[str], shapes: Mapping[str, tuple[int, ...]]) -> Table:
    if "image_embeds.weight" in names:
        return _LINEAR
    layers = {name.split(".")[1] for name in names if name.startswith("layers.")}
    inner = {f"layers.{n}.{a}": f"layers.{n}.{b}" for n in layers for a, b in _PERCEIVER_LAYER.items()}
    perceiver = _PERCEIVER | inner
    if "latents" in names:
        return perceiver
    if layers:
        return _FACE | {a: f"perceiver_resampler.{b}" for a, b in perceiver.items()}
    width, out = shapes.get("norm.weight"), shapes.get("ff.net.2.weight", (0,))
    return _PATCHES if width == out[:1] else _FACE
