"""Pipelines from a hub, and what people put on them by name: image prompts, embeddings, LoRAs that pipelines share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

import sigmagraft
from sigmagraft.core.errors import OptionError

from ..controlnet.ip_small import image_encoder, picture, random_adapter
from ..standalone.hub_server import Repository, Server
from .reference import make
from .test_adapters import lora, same
from .test_unconditional import CAT

ROOT = Path(__file__).resolve().parents[2]
QUICK: dict[str, Any] = {"height": 64, "width": 64, "num_inference_steps": 2, "output_type": "latent"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    make("sd1", root)
    return root / "sd1"


@pytest.fixture
def pair(folder: Path) -> tuple[Any, Any]:
    """diffusers' pipeline and ours from one folder, with one scheduler."""
    ours = sigmagraft.DiffusionPipeline.from_pretrained(folder)
    ours.scheduler = sigmagraft.DDIMScheduler.from_config(ours.scheduler.config)
    theirs = diffusers.DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    theirs.scheduler = diffusers.DDIMScheduler.from_config(dict(ours.scheduler.config))
    return theirs, ours


def test_image_prompts(pair: tuple[Any, Any], tmp_path: Path) -> None:
    theirs, ours = pair
    adapter = random_adapter("ipadapter_sd15", ours.unet.network.config)
    save_file(adapter, tmp_path / "ip.safetensors")
    image_encoder().save_pretrained(tmp_path / "image_encoder")
    for pipe in pair:
        pipe.load_ip_adapter(str(tmp_path), subfolder="", weight_name="ip.safetensors")
        pipe.set_ip_adapter_scale(0.7)
    same(theirs, ours, ip_adapter_image=picture(3, (28, 28)))
    with pytest.raises(OptionError, match="no picture is given"):
        ours("a cat", **QUICK)


def test_an_embedding_named_in_the_prompt(pair: tuple[Any, Any], tmp_path: Path) -> None:
    ours = pair[1]
    ours.set_progress_bar_config(disable=True)
    width = ours.text_encoder.config.width
    save_file({"emb_params": torch.randn(2, width)}, tmp_path / "zxq.safetensors")
    words = "a photo of embedding:zxq"

    def drawn(prompt: str) -> torch.Tensor:
        return ours(prompt, generator=torch.Generator().manual_seed(1), **QUICK).images

    with pytest.raises(OptionError, match="zxq"):
        drawn(words)
    ours.load_textual_inversion(tmp_path / "zxq.safetensors")
    assert not torch.equal(drawn(words), drawn("a photo of"))


def test_pipelines_that_share_a_network_share_its_loras(pair: tuple[Any, Any], tmp_path: Path) -> None:
    theirs, ours = pair
    lora(theirs, tmp_path / "one", 0)
    before = {key: value.clone() for key, value in ours.unet.network.state_dict().items()}
    ours.load_lora_weights(tmp_path / "one", adapter_name="one")
    ours.fuse_lora()
    other = sigmagraft.AutoPipelineForImage2Image.from_pipe(ours)
    assert other.get_active_adapters() == ["one"]
    other.unload_lora_weights()
    assert ours.get_active_adapters() == []
    after = ours.unet.network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


WORKER = """
import json, runpy, sys
sigmagraft = runpy.run_path(sys.argv[1])["load"]()
for name in sys.argv[2:]:
    pipe = sigmagraft.DiffusionPipeline.from_pretrained(name)
    auto = "" if "ddpm" in name else type(sigmagraft.AutoPipelineForInpainting.from_pretrained(name)).__name__
    print(json.dumps([type(pipe).__name__, type(pipe.scheduler).__name__, pipe.dtype.is_floating_point, auto]))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_by_hub_ids(folder: Path, tmp_path: Path) -> None:
    """A pipeline in folders, and an unconditional one that lies flat, as google/ddpm-cat-256 does."""
    flat = tmp_path / "flat"
    diffusers.UNet2DModel(**CAT).save_pretrained(flat)
    diffusers.DDPMScheduler().save_pretrained(flat)
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "U"], "scheduler": ["diffusers", "S"]}
    (flat / "model_index.json").write_text(json.dumps(index))
    repositories = {
        "someone/drawing": Repository({"main": files_of(folder)}),
        "someone/ddpm": Repository({"main": files_of(flat)}),
    }
    server = Server(repositories)
    environment = os.environ | {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "0",
    }
    command = [sys.executable, "-c", WORKER, str(ROOT / "bootstrap.py"), *repositories]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    finally:
        server.close()
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["StableDiffusionPipeline", "PNDMScheduler", True, "StableDiffusionInpaintPipeline"],
        ["DDPMPipeline", "DDPMScheduler", True, ""],
    ]
