"""diffusers' own pipelines on random weights of each family, and the folders they save: the oracle of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
from transformers import CLIPTokenizer

from sigmagraft.standalone.tokens import Tokenizer

from ..standalone.families import FAMILIES, VOCAB, reference_text, reference_unet, reference_vae

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
}
NONE = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
CLASSES = {
    "sd1": ("StableDiffusionPipeline", NONE),
    "sd1-inpaint": ("StableDiffusionInpaintPipeline", NONE),
    "sd2-depth": ("StableDiffusionDepth2ImgPipeline", {"depth_estimator": None, "feature_extractor": None}),
    "sdxl": ("StableDiffusionXLPipeline", {}),
    "sdxl-refiner": ("StableDiffusionXLImg2ImgPipeline", {"requires_aesthetics_score": True}),
}


def tokenizer(root: Path, **more: Any) -> Any:
    """CLIP's vocabulary, cut to as many tokens as the random encoders have."""
    folder = root / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    Tokenizer.clip(VOCAB).save(folder)
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77, **more)


def make(family: str, root: Path) -> Any:
    """A pipeline of diffusers, saved under root/family."""
    recipe, (name, more) = FAMILIES[family], CLASSES[family]
    # as the published folder of SD2: without the last layer, which nothing reads
    texts = [reference_text({**each, "layers": 23} if "sd2" in family else each) for each in recipe.texts]
    words, second = tokenizer(root), tokenizer(root, pad_token="!")
    parts = {
        "vae": reference_vae(recipe),
        "unet": reference_unet(recipe),
        "scheduler": scheduler("PNDMScheduler"),
    }
    if family == "sdxl":
        parts |= {
            "text_encoder": texts[0],
            "text_encoder_2": texts[1],
            "tokenizer": words,
            "tokenizer_2": second,
        }
    elif family == "sdxl-refiner":
        parts |= {"text_encoder": None, "text_encoder_2": texts[0], "tokenizer": None, "tokenizer_2": second}
    else:
        parts |= {"text_encoder": texts[0], "tokenizer": words}
    pipe = getattr(diffusers, name)(**parts, **more)
    pipe.save_pretrained(root / family)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def scheduler(name: str, **more: Any) -> Any:
    return getattr(diffusers, name).from_config({**SCHEDULER, **more})
