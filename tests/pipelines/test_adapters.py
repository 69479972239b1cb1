"""Adapters in the pipelines of diffusers' names, against diffusers: ControlNets, LoRAs, image prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

import sigmagraft
from sigmagraft.core.errors import FileError, OptionError

from .reference import make

SIZE = 64
PROMPT = "a red cat, sitting on a mat"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIZE, SIZE, 3), "uint8"))


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    root = tmp_path_factory.mktemp("adapters")
    theirs = make(request.param, root)
    ours = sigmagraft.DiffusionPipeline.from_pretrained(root / request.param)
    ours.scheduler = sigmagraft.DDIMScheduler.from_config(ours.scheduler.config)
    theirs.scheduler = diffusers.DDIMScheduler.from_config(dict(ours.scheduler.config))
    return theirs, ours, root


def same(theirs: Any, ours: Any, **given: Any) -> None:
    found = []
    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
        seed = torch.Generator().manual_seed(3)
        told = {"num_inference_steps": 4, "height": SIZE, "width": SIZE, "negative_prompt": "blurry", **given}
        found.append(pipe(PROMPT, generator=seed, output_type="latent", **told).images)
    away = float((found[1] - found[0]).abs().max() / found[0].abs().max())
    assert away <= 1e-4


def controlnet(unet: Any, folder: Path, seed: int) -> Any:
    """diffusers' ControlNet beside a UNet, its outputs not zero as they are before training."""
    made = diffusers.ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=(8, 8, 16, 16)
    ).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    made.save_pretrained(folder)
    return made


def test_controlnets(pair: tuple[Any, Any, Path], tmp_path: Path) -> None:
    theirs = pair[0]
    name = type(theirs).__name__.replace("Pipeline", "ControlNetPipeline")
    nets = [controlnet(theirs.unet, tmp_path / str(k), k) for k in range(2)]
    loaded = [sigmagraft.ControlNetModel.from_pretrained(tmp_path / str(k)) for k in range(2)]
    kinds = getattr(diffusers, name), getattr(sigmagraft, name)
    one = [
        kind.from_pipe(p, controlnet=n[0]) for kind, p, n in zip(kinds, pair, (nets, loaded), strict=False)
    ]
    same(*one, image=picture(1), controlnet_conditioning_scale=0.5, control_guidance_end=0.5)
    same(*one, image=torch.from_numpy(np.array(picture(1))).permute(2, 0, 1)[None] / 255)
    two = [kind.from_pipe(p, controlnet=n) for kind, p, n in zip(kinds, pair, (nets, loaded), strict=False)]
    same(*two, image=[picture(1), picture(2)], controlnet_conditioning_scale=[0.7, 0.3])
    loaded[0].save_pretrained(tmp_path / "saved", variant="fp16")
    state = diffusers.ControlNetModel.from_pretrained(tmp_path / "saved", variant="fp16").state_dict()
    assert all(torch.equal(state[key], value) for key, value in nets[0].state_dict().items())
    with pytest.raises(OptionError, match="1 pictures for 2 ControlNets"):
        same(two[1], two[1], image=[picture(1)])


def test_a_controlnet_has_the_heads_that_its_config_says(pair: tuple[Any, Any, Path], tmp_path: Path) -> None:
    theirs = pair[0]
    usual = diffusers.ControlNetModel.from_unet(theirs.unet).config
    heads = usual["attention_head_dim"]
    other = 2 if isinstance(heads, int) else [number * 2 for number in heads]
    assert other != heads
    torch.manual_seed(0)
    made = diffusers.ControlNetModel.from_config({**usual, "attention_head_dim": other}).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    made.save_pretrained(tmp_path / "control")
    ours = sigmagraft.ControlNetModel.from_pretrained(tmp_path / "control")
    name = type(theirs).__name__.replace("Pipeline", "ControlNetPipeline")
    both = [
        getattr(module, name).from_pipe(pipe, controlnet=net)
        for module, pipe, net in ((diffusers, theirs, made), (sigmagraft, pair[1], ours))
    ]
    same(*both, image=picture(1))
    (tmp_path / "control" / "config.json").write_text("{")
    with pytest.raises(FileError, match="config"):
        sigmagraft.ControlNetModel.from_pretrained(tmp_path / "control")


def lora(pipe: Any, folder: Path, seed: int) -> None:
    """A LoRA with random weights as diffusers writes it."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights="gaussian")
    pipe.unet.add_adapter(config)
    with torch.no_grad():
        for key, weight in pipe.unet.named_parameters():
            if "lora_B" in key:
                weight.normal_(std=0.05)
    layers = get_peft_model_state_dict(pipe.unet)
    type(pipe).save_lora_weights(folder, unet_lora_layers=layers)
    pipe.unet.delete_adapters(pipe.unet.active_adapters())


def test_loras_by_name_weight_and_fused(pair: tuple[Any, Any, Path], tmp_path: Path) -> None:
    theirs, ours, _ = pair
    before = {key: value.clone() for key, value in ours.unet.network.state_dict().items()}
    names = ("tcd", "style")
    for seed, name in enumerate(names):
        lora(theirs, tmp_path / name, seed)
    for pipe in (theirs, ours):
        for name in names:
            pipe.load_lora_weights(tmp_path / name, adapter_name=name)
    for pipe in (theirs, ours):
        pipe.set_adapters(["tcd", "style"], adapter_weights=[1.0, 1.2])
    same(theirs, ours)
    same(theirs, ours, cross_attention_kwargs={"scale": 0.5})
    assert ours.get_active_adapters() == ["tcd", "style"]
    for pipe in (theirs, ours):
        pipe.fuse_lora()
    same(theirs, ours)
    ours.unfuse_lora()
    same(theirs, ours)
    ours.unload_lora_weights()
    after = ours.unet.network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
