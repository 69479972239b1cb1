"""Tiny control files in a real ComfyUI's folders, in the place of those that a workflow names."""

from __future__ import annotations

import json
from typing import Any

from sigmagraft.core.unet_config import UNetConfig

from .. import control_files as files
from .served import Host, node

CONFIG = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 16, None, False, 8, None)
CHOSEN = {
    "SigmaGraftControlLoader": {"file": "cn.safetensors"},
    "SigmaGraftIPAdapterLoader": {"file": "ip.safetensors", "image_encoder": "tiny.safetensors"},
}


def with_tiny_files(host: Host, prompt: dict[str, Any]) -> None:
    """Changes a prompt so that it runs on the tiny model: its files, its picture, a VAE of averages."""
    kinds = {number: one["class_type"] for number, one in prompt.items()}
    if not CHOSEN.keys() & set(kinds.values()):
        return
    _write(host)
    prompt["vae"] = node("TinyVae")
    for number, kind in kinds.items():
        inputs = prompt[number]["inputs"]
        inputs.update(CHOSEN.get(kind, {}))
        inputs.pop("clip_vision", None)
        if kind == "SigmaGraftReference":
            inputs["vae"] = ["vae", 0]
        if kind == "CLIPVisionLoader":
            del prompt[number]


def _write(host: Host) -> None:
    models = host.folder / "models"
    files.save(models / "controlnet", "cn", files.controlnet(CONFIG))
    files.save(models / "ipadapter", "ip", files.ip_adapter(CONFIG))
    tensors, said = files.image_encoder()
    files.save(models / "clip_vision", "tiny", tensors, {"clip_vision": json.dumps(said)})
    (host.folder / "input").mkdir(exist_ok=True)
    files.picture(1).save(host.folder / "input" / "example.png")
