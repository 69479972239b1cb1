"""How the trainers name a module: rows that are filled in with a model's own names, never taken apart.

`{ldm}` and `{diffusers}` are a UNet module's dotted path in the two layouts, `{clip}` a text encoder's in
transformers', `{short}` the same without `text_model.`; with `_` in front they are joined by underscores, which cannot
be split again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import count

from ..core.keymap import Table, inverse, translate, unet_table
from ..core.temporal import authors_name

# naming -> patterns; where a network has several, the first is what a writer uses.
UNET: dict[str, tuple[str, ...]] = {
    "kohya (LDM names)": ("lora_unet_{_ldm}", "oft_unet_{_ldm}"),
    "kohya (diffusers names)": ("lora_unet_{_diffusers}", "oft_unet_{_diffusers}"),
    "LyCORIS": ("lycoris_{_diffusers}", "lycoris_{_ldm}", "lycoris_unet_{_diffusers}", "lycoris_unet_{_ldm}"),
    "diffusers": ("unet.{diffusers}", "{diffusers}"),
    "diffusers attention processors": ("unet.{processor}", "{processor}"),
    "PEFT": (
        "base_model.model.{diffusers}",
        "base_model.model.unet.{diffusers}",
        "unet.base_model.model.{diffusers}",
        "base_model.model.{ldm}",
    ),
    "OneTrainer": ("unet.{ldm}", "lora_unet.{diffusers}", "lora_unet.{ldm}"),
    "LDM": ("diffusion_model.{ldm}", "model.diffusion_model.{ldm}", "{ldm}"),
}
TEXT: dict[str, tuple[str, ...]] = {
    "kohya": ("lora_{te}_{_clip}", "oft_{te}_{_clip}", "lora_{te}_{_short}"),
    "LyCORIS": ("lycoris_{te}_{_clip}", "lycoris_{te}_{_short}"),
    "diffusers": ("{encoder}.{clip}", "{encoder}.{short}"),
    "diffusers attention processors": ("{encoder}.{processor}",),
    "PEFT": (
        "{encoder}.base_model.model.{clip}",
        "{encoder}.base_model.model.{short}",
        "base_model.model.{encoder}.{clip}",
        "base_model.model.{encoder}.{short}",
    ),
    "OneTrainer": ("{omi}.{clip}", "lora_{te}.{clip}", "lora_{te}.{short}"),
}
ALONE: dict[str, tuple[str, ...]] = {
    "LyCORIS": ("lycoris_{_clip}", "lycoris_{_short}"),
    "PEFT": ("base_model.model.{clip}", "base_model.model.{short}"),
    "transformers": ("{clip}", "{short}"),
}
"""Names without a word for the encoder, which only a model with one has."""


MOTION: dict[str, tuple[str, ...]] = {
    "AnimateDiff": ("{old_authors}", "{authors}"),
    "diffusers": ("unet.{diffusers}", "{diffusers}"),
    "diffusers attention processors": ("unet.{processor}", "{processor}"),
    "PEFT": ("base_model.model.{diffusers}", "base_model.model.unet.{diffusers}"),
    "kohya (diffusers names)": ("lora_unet_{_diffusers}",),
    "kohya (LDM names)": ("lora_unet_{_diffusers}",),
    "OneTrainer": ("unet.{diffusers}",),
}
"""Of AnimateDiff's motion modules, which trainers count to the UNet."""


def motion_names(path: str) -> dict[str, list[str]]:
    """naming -> the names of a motion module's layer, the usual one first."""
    authors = authors_name(path)
    words = {"diffusers": path, "_diffusers": _joined(path), "authors": authors}
    if (processor := _processor(path)) is not None:
        words["processor"] = processor
        block, _, name = authors.removesuffix(".0").rpartition(".")
        words["old_authors"] = f"{block}.processor.{name}_lora"
    return _filled(MOTION, [words])


def unet_names(path: str, table: Table) -> dict[str, list[str]]:
    """naming -> this module's names, the usual one first; ``table`` is LDM -> diffusers of the model."""
    diffusers = translate(table, path)
    words = {"ldm": path, "_ldm": _joined(path)}
    if diffusers is not None:
        words |= {"diffusers": diffusers, "_diffusers": _joined(diffusers)}
        if (processor := _processor(diffusers)) is not None:
            words["processor"] = processor
    return _filled(UNET, [words])


def text_names(path: str, words: Mapping[str, list[str]], alone: bool) -> dict[str, list[str]]:
    """naming -> this module's names; ``words`` are what the encoder is called in each naming (te, encoder, omi)."""
    short = path.removeprefix("text_model.")
    base = {"clip": path, "_clip": _joined(path), "short": short, "_short": _joined(short)}
    if (processor := _old_text(path)) is not None:
        base["processor"] = processor
    choices = [base | {kind: name} for kind, names in words.items() for name in names]
    found = _filled(TEXT, choices)
    if alone:
        for naming, names in _filled(ALONE, [base]).items():
            found.setdefault(naming, []).extend(names)
    return found


def _joined(path: str) -> str:
    return path.replace(".", "_")


def _processor(diffusers: str) -> str | None:
    """`...attn1.to_out.0` -> `...attn1.processor.to_out_lora`: as diffusers before 0.20 had it."""
    block, _, name = diffusers.removesuffix(".0").rpartition(".")
    if not block.endswith((".attn1", ".attn2")) or not name.startswith("to_"):
        return None
    return f"{block}.processor.{name}_lora"


def _old_text(path: str) -> str | None:
    """`...self_attn.q_proj` -> `...self_attn.to_q_lora`."""
    block, _, name = path.rpartition(".")
    if not block.endswith(".self_attn"):
        return None
    return f"{block}.to_{name.removesuffix('_proj')}_lora"


def _filled(patterns: Mapping[str, tuple[str, ...]], choices: list[dict[str, str]]) -> dict[str, list[str]]:
    """Every pattern filled with every choice of words that has them all."""
    found: dict[str, list[str]] = {}
    for naming, rows in patterns.items():
        names = [name for row in rows for words in choices for name in _fill(row, words)]
        if names:
            found[naming] = list(dict.fromkeys(names))
    return found


def _fill(pattern: str, words: Mapping[str, str]) -> Iterator[str]:
    try:
        yield pattern.format_map(words)
    except KeyError:
        return


def ldm_to_diffusers(paths: Collection[str]) -> Table:
    """The table that fits a UNet's LDM module paths."""
    blocks, attention = [0], [False]
    for n in count(1):
        if f"input_blocks.{n}.0.op" in paths:
            blocks.append(0)
            attention.append(False)
        elif f"input_blocks.{n}.0.in_layers.2" in paths:
            blocks[-1] += 1
            attention[-1] |= f"input_blocks.{n}.1.proj_in" in paths
        else:
            break
    return inverse(unet_table(blocks, attention, "middle_block.1.proj_in" in paths))
