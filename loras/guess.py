"""What a file says of itself: the model it was made for and the program that made it, from widths, names and header."""

from __future__ import annotations

import re

from .lora_file import LoraFile

WIDTHS = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    2048: "Stable Diffusion XL",
    1280: "the Stable Diffusion XL refiner",
}
"""Width of the text context -> the family that has it."""

HEADERS = (
    (r"(?i)sd_?v1|stable-diffusion-v1", "Stable Diffusion 1.x"),
    (r"(?i)sd_?v2|stable-diffusion-v2", "Stable Diffusion 2.x"),
    (r"(?i)refiner", "the Stable Diffusion XL refiner"),
    (r"(?i)sdxl|stable-diffusion-xl", "Stable Diffusion XL"),
    (r"(?i)flux", "Flux"),
    (r"(?i)sd3|stable-diffusion-v?3", "Stable Diffusion 3"),
)
FOREIGN = (
    (r"motion_modules", "AnimateDiff's motion modules"),
    (r"(double|single)_blocks|single_transformer_blocks", "Flux"),
    (r"joint_blocks", "Stable Diffusion 3"),
    (r"^(lora_)?transformer[._]", "a diffusion transformer (Flux, SD3 and others)"),
    (r"(^|[._])blocks[._]\d+[._](self_attn|cross_attn|ffn)", "a video model (Wan)"),
    (r"(^|[._])te3[._]|t5xxl", "a model with a T5 text encoder"),
)
_CROSS = re.compile(r"attn2[._](processor\.)?to_[kv](_lora)?$")


def guess_base(file: LoraFile) -> str | None:
    """The family a file was made for: by the width of the context its cross-attention takes, else by its header."""
    for part in file.parts.values():
        if _CROSS.search(part.stem):
            shapes = [delta.shape for name, delta in part.deltas if name == "weight" and delta.shape]
            if shapes and len(shapes[0]) > 1:
                return WIDTHS.get(shapes[0][1], f"a model with a text context {shapes[0][1]} wide")
    return guess_foreign(file) or header_base(file)


def header_base(file: LoraFile) -> str | None:
    """The family that the header names."""
    said = " ".join(
        file.metadata.get(name, "")
        for name in ("modelspec.architecture", "ss_base_model_version", "ss_sd_model_name")
    )
    return next((label for pattern, label in HEADERS if re.search(pattern, said)), None)


def guess_foreign(file: LoraFile) -> str | None:
    """The other kind of model that the module names belong to."""
    return next(
        (label for pattern, label in FOREIGN if any(re.search(pattern, stem) for stem in file.parts)), None
    )


def guess_trainer(file: LoraFile) -> str | None:
    """The program that wrote it."""
    said = file.metadata
    if any(name.startswith("ss_") for name in said):
        module = said.get("ss_network_module", "")
        return f"kohya sd-scripts ({module})" if module else "kohya sd-scripts"
    if any(name.startswith("ot_") for name in said):
        return "OneTrainer"
    if "lora_adapter_metadata" in said:
        return "diffusers"
    first = next(iter(file.parts), "")
    rows = (
        ("base_model.model.", "PEFT"),
        ("lycoris_", "LyCORIS (as SimpleTuner uses it)"),
        ("lora_unet.", "OneTrainer"),
        ("oft_unet_", "kohya sd-scripts"),
    )
    return next((name for prefix, name in rows if first.startswith(prefix)), None)
