"""LoRAs in the ComfyUI checkout that SIGMAGRAFT_COMFYUI names: what the runner draws, and gone bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, schedule

from .lora_real import euler_by_runner, write_tiny_loras
from .served import HERE, ROOT, Host, node, served, walk

CHECKOUT = os.environ.get("SIGMAGRAFT_COMFYUI", "")
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="SIGMAGRAFT_COMFYUI names no checkout")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    packs = {"sigmagraft": ROOT, "tiny_model": HERE / "tiny_model"}
    with served(Path(CHECKOUT), tmp_path_factory.mktemp("comfyui"), packs) as running:
        yield running


@pytest.mark.parametrize(
    "text",
    ["many:0.3:blocks=IN=0,OUT=0.5", "peft:0.5:sigma=0@10,1@2 ink:0.3", "many:0.3:step=0@0,1@4", "ia3:0.5"],
)
def test_loras_act_as_in_the_runner_and_leave_nothing(host: Host, text: str) -> None:
    unet = write_tiny_loras(host)
    prompt = walk("euler", "karras", steps=6)
    del prompt["picture"], prompt["save"]
    prompt["numbers"] = node("TinySave", samples=["walk", 0], name="latent")
    host.run(prompt)
    plain = host.latent("latent")
    rows = {f"lora_{i}": "None" for i in range(1, 5)} | {f"weight_{i}": 1.0 for i in range(1, 5)}
    prompt["lora"] = node("SigmaGraftLoraStack", model=["model", 0], more=text.replace(" ", "\n"), **rows)
    prompt["walk"]["inputs"]["model"] = ["lora", 0]
    told = host.run(prompt)
    assert told["status"]["status_str"] == "success", told["status"]
    assert "tensors" in json.dumps(told["outputs"]["lora"]["text"])
    settings = prompt["walk"]["inputs"]
    sigmas = schedule("karras", 6, NoiseLevels.discrete())
    drawn = torch.tensor(host.latent("latent")) * 0.18215
    expected = euler_by_runner(
        unet, host.folder / "models" / "loras", text, settings["seed"], sigmas, settings["cfg"]
    )
    assert (drawn - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (drawn - torch.tensor(plain) * 0.18215).abs().max() > 1e-2 * expected.abs().max()
    prompt["walk"]["inputs"]["model"] = ["model", 0]
    del prompt["lora"]
    host.post("/free", {"unload_models": True, "free_memory": True})
    host.run(prompt)
    assert host.latent("latent") == plain


def test_a_file_for_another_model_is_refused_in_the_page_s_words(host: Host) -> None:
    write_tiny_loras(host)
    prompt = walk("euler")
    weights = {"strength_model": 1.0, "strength_clip": 1.0}
    prompt["lora"] = node("SigmaGraftLora", model=["model", 0], lora_name="other.safetensors", **weights)
    prompt["walk"]["inputs"]["model"] = ["lora", 0]
    assert "made for a weight of 999" in json.dumps(host.run(prompt)["status"])
    prompt["lora"]["inputs"]["force"] = True
    assert host.run(prompt)["status"]["status_str"] == "success"
    prompt["lora"]["inputs"]["lora_name"] = "none.safetensors"
    assert "no such file in models/loras" in host.refused(prompt)
