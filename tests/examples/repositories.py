"""The repositories that the examples name, with random weights of reduced width under the published names."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sigmagraft.standalone.tokens import END, START, Tokenizer

from ..core.manifests import configs
from ..standalone.hub_server import Repository
from .weights import (
    CLIP,
    PIXELS,
    RANKS,
    SD1,
    SD2,
    UNET,
    VAE,
    VISION,
    XL,
    config,
    file,
    text_config,
    vision_config,
)

Files = dict[str, bytes]
STEM = "diffusion_pytorch_model"
SD15, SD21 = "runwayml/stable-diffusion-v1-5", "stabilityai/stable-diffusion-2-1"
BASE_XL, PAINT_XL = (
    "stabilityai/stable-diffusion-xl-base-1.0",
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
)
# folder of a text encoder, the published file with its names
TEXT1 = {"text_encoder": "diffusers_sd15_text_encoder"}
TEXT2 = {"text_encoder": "diffusers_sd21_text_encoder"}
TEXTS_XL = {"text_encoder": "diffusers_sdxl_text_encoder", "text_encoder_2": "diffusers_sdxl_text_encoder_2"}


def written(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode()


def weights(folder: str, stem: str, data: bytes, variants: tuple[str, ...] = ()) -> Files:
    """The plain file and its variants."""
    endings = ("", *(f".{variant}" for variant in variants))
    return {f"{folder}{stem}{ending}.safetensors": data for ending in endings}


def tokenizer(pad: str) -> Files:
    """CLIP's vocabulary, cut; `pad` is the end for OpenAI's encoder and "!" for OpenCLIP's."""
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    said = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    with tempfile.TemporaryDirectory() as folder:
        Tokenizer.clip(600).save(Path(folder))
        found = {each.name: each.read_bytes() for each in Path(folder).iterdir()}
    return found | {"special_tokens_map.json": written(special), "tokenizer_config.json": written(said)}


def drawing(
    published: str,
    unet: str,
    sizes: Mapping[int, int],
    texts: Mapping[str, str],
    index: Mapping[str, Any] | None = None,
    variants: tuple[str, ...] = (),
    more: Mapping[str, Any] | None = None,
) -> Files:
    """A pipeline's folders: configs of the published repository, weights under the published names."""
    said = configs()[published]
    vae = "diffusers_sdxl_base_vae" if len(texts) == 2 else "diffusers_sd15_vae"
    base = configs()[SD21] if "vae/config.json" not in said else said
    files: Files = {"model_index.json": written(index or said["model_index.json"])}
    files["scheduler/scheduler_config.json"] = written(
        said.get("scheduler/scheduler_config.json", configs()[SD15]["scheduler/scheduler_config.json"])
    )
    unet_config = {**base["unet/config.json"], **said["unet/config.json"], **(more or {})}
    files["unet/config.json"] = written(config(unet_config, sizes, 8))
    files["vae/config.json"] = written(config(base["vae/config.json"], VAE, 64))
    files |= weights("unet/", STEM, file(unet, sizes), variants) | weights(
        "vae/", STEM, file(vae, VAE), variants
    )
    for number, (folder, manifest) in enumerate(texts.items()):
        files[f"{folder}/config.json"] = written(text_config(base[f"{folder}/config.json"]))
        files |= weights(f"{folder}/", "model", file(manifest, CLIP, 3 + number), variants)
        pad = "!" if manifest in (*TEXT2.values(), TEXTS_XL["text_encoder_2"]) else END
        files |= {f"tokenizer{folder[12:]}/{name}": data for name, data in tokenizer(pad).items()}
    return files


def checker() -> Files:
    """SD1's safety checker, whose thresholds nothing exceeds."""
    said = {"model_type": "clip", "projection_dim": 64, "vision_config": vision_config(24, "quick_gelu")}
    said["architectures"] = ["StableDiffusionSafetyChecker"]
    preprocess = {"crop_size": 28, "size": 28, "feature_extractor_type": "CLIPFeatureExtractor"}
    return {
        "safety_checker/config.json": written(said),
        "safety_checker/model.safetensors": file("safety_checker", VISION),
        "feature_extractor/preprocessor_config.json": written(preprocess),
    }


def depth_model(prefix: str = "", processor: str = "") -> Files:
    """A small DPT with its picture processor, as transformers saves them."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    torch.manual_seed(6)
    backbone = {
        "model_type": "bit",
        "embedding_size": 32,
        "hidden_sizes": [128, 128, 128],
        "depths": [1, 1, 1],
    }
    backbone |= {"layer_type": "bottleneck", "global_padding": "SAME", "num_groups": 32}
    backbone |= {"embedding_dynamic_padding": True, "out_features": ["stage1", "stage2", "stage3"]}
    made = DPTForDepthEstimation(
        DPTConfig(
            is_hybrid=True,
            backbone_config=backbone,
            backbone_featmap_shape=[1, 128, 4, 4],
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=64,
            neck_hidden_sizes=[128, 128, 64, 64],
            backbone_out_indices=[0, 1, 2, 3],
            fusion_hidden_size=32,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        found = {prefix + each.name: each.read_bytes() for each in Path(folder).iterdir()}
    with tempfile.TemporaryDirectory() as folder:
        DPTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
        return found | {processor + each.name: each.read_bytes() for each in Path(folder).iterdir()}


def unconditional(name: str, manifest: str, side: int) -> Files:
    """As google's repositories of DDPM lie: everything in one folder."""
    said = next(each for repo, each in configs().items() if repo.startswith(name))
    return {
        "model_index.json": written(
            {
                "_class_name": "DDPMPipeline",
                "scheduler": ["diffusers", "DDPMScheduler"],
                "unet": ["diffusers", "UNet2DModel"],
            }
        ),
        "config.json": written(config(said["unet/config.json"], PIXELS, side)),
        "scheduler_config.json": written(said["scheduler_config.json"]),
        f"{STEM}.safetensors": file(manifest, PIXELS),
    }


def sd21_base() -> Files:
    """2-1 with the differences of its base model."""
    files = drawing(SD21, "diffusers_sd21_unet", SD2, TEXT2, more={"upcast_attention": False})
    scheduler = json.loads(files["scheduler/scheduler_config.json"])
    scheduler |= {"_class_name": "PNDMScheduler", "prediction_type": "epsilon"}
    return files | {"scheduler/scheduler_config.json": written(scheduler)}


def sd2_depth() -> Files:
    published = "stabilityai/stable-diffusion-2-depth (general knowledge)"
    index = {
        **configs()[published]["model_index.json"],
        "feature_extractor": ["transformers", "DPTImageProcessor"],
    }
    files = drawing(published, "diffusers_sd2_depth_unet", SD2, TEXT2, index)
    return files | depth_model("depth_estimator/", "feature_extractor/")


def controlnet() -> Files:
    """An SDXL ControlNet; its config is the base model's with a hint encoder."""
    said = config(configs()[BASE_XL]["unet/config.json"], XL) | {"_class_name": "ControlNetModel"}
    said["conditioning_embedding_out_channels"] = [16, 32, 96, 256]
    data = file("controlnet_sdxl_diffusers", XL)
    return {"config.json": written(said), **weights("", STEM, data, ("fp16",))}


def motion() -> Files:
    said = {
        "_class_name": "MotionAdapter",
        "block_out_channels": [32, 64, 128, 128],
        "motion_layers_per_block": 2,
        "motion_max_seq_length": 24,
        "motion_num_attention_heads": 8,
        "use_motion_mid_block": False,
    }
    return {
        "config.json": written(said),
        f"{STEM}.safetensors": file("animatediff_mm_sd_v15_diffusers", UNET),
    }


def image_prompts() -> Files:
    """h94/IP-Adapter's folder of SDXL, the adapter a pickle of two dictionaries as there."""
    import io

    from .weights import tensors

    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors("ipadapter_sdxl", XL).items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    data = io.BytesIO()
    torch.save(parts, data)
    return {
        "sdxl_models/ip-adapter_sdxl.bin": data.getvalue(),
        "sdxl_models/image_encoder/config.json": written(vision_config(48, "gelu")),
        "sdxl_models/image_encoder/model.safetensors": file("clip_vision_bigg", VISION),
    }


def lora(manifest: str, sizes: Mapping[int, int], name: str = "pytorch_lora_weights") -> Files:
    return {f"{name}.safetensors": file(manifest, {**sizes, **RANKS}, 8)}


def lora_sd21() -> Files:
    """SD1's names; SD2 projects with matrices where SD1 convolves."""
    from safetensors.torch import save

    from .weights import tensors

    found = tensors("lora_lcm_sd15_r64", {**SD2, **RANKS, 768: 64}, 8)
    flat = {n: t.flatten(1) if "proj_in" in n or "proj_out" in n else t for n, t in found.items() if t.ndim}
    return {"pytorch_lora_weights.safetensors": save({**found, **flat}, {"format": "pt"})}


def picture() -> Image.Image:
    """A disc on a slope of grey, for every address of a picture."""
    across = torch.linspace(0, 255, 96).expand(96, 96)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    disc = ((y - 48) ** 2 + (x - 40) ** 2 < 24**2).float() * 255
    return Image.fromarray(torch.stack([across, disc, across.T], -1).byte().numpy())


@cache
def repositories() -> dict[str, Files]:
    """Repository id -> its files."""
    xl = drawing(BASE_XL, "diffusers_sdxl_base_unet", XL, TEXTS_XL, variants=("fp16",))
    sd15 = drawing(SD15, "diffusers_sd15_unet", SD1, TEXT1) | checker()
    control = controlnet()
    tcd = lora("lora_lcm_sd15_r64", SD1)
    return {
        SD15: sd15
        | weights("unet/", STEM, file("diffusers_sd15_unet", SD1, 1), ("non_ema",))
        | {f"unet/{STEM}.safetensors": sd15[f"unet/{STEM}.safetensors"]},
        "runwayml/stable-diffusion-inpainting": drawing(
            "runwayml/stable-diffusion-inpainting", "diffusers_sd15_inpaint_unet", SD1, TEXT1
        )
        | checker(),
        "stabilityai/stable-diffusion-2-1-base": sd21_base(),
        "stabilityai/stable-diffusion-2-depth": sd2_depth(),
        BASE_XL: xl,
        "cagliostrolab/animagine-xl-3.0": xl,
        PAINT_XL: drawing(PAINT_XL, "diffusers_sdxl_inpaint_unet", XL, TEXTS_XL, variants=("fp16",)),
        "frankjoshua/toonyou_beta6": sd15,
        "h1t/TCD-SD15-LoRA": tcd,
        "h1t/TCD-SD21-base-LoRA": lora_sd21(),
        "h1t/TCD-SDXL-LoRA": lora("lora_lcm_sdxl_r64", XL),
        "TheLastBen/Papercut_SDXL": lora("lora_sdxl_kohya_r8", XL, "papercut"),
        "diffusers/controlnet-depth-sdxl-1.0": control,
        "diffusers/controlnet-canny-sdxl-1.0": control,
        "Intel/dpt-hybrid-midas": depth_model(),
        "guoyww/animatediff-motion-adapter-v1-5": motion(),
        "guoyww/animatediff-motion-lora-zoom-in": lora("animatediff_v2_motion_lora", UNET, STEM),
        "google/ddpm-cat-256": unconditional("google/ddpm-cat-256", "ddpm_cat_256_unet", 32),
        "google/ddpm-cifar10-32": unconditional("google/ddpm-cifar10-32", "ddpm_cifar10_32_unet", 32),
    }


def served() -> dict[str, Repository]:
    """What the loopback hub serves."""
    return {name: Repository({"main": files}) for name, files in repositories().items()}
