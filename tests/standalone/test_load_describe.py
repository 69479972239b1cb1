"""`describe`: what a file is, without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sigmagraft.core.errors import FileError
from sigmagraft.standalone.describe import describe

from .files import diffusers_parts, parts, tensors, write_file, write_folder


def count(part: dict[str, torch.Tensor]) -> int:
    return sum(value.numel() for value in part.values())


def test_a_whole_model(tmp_path: Path) -> None:
    found = describe(
        write_file(tmp_path / "a.safetensors", {"v_pred": torch.zeros(0)}, {"modelspec.title": "x"})
    )
    assert json.loads(json.dumps(found)) == found
    assert (found["kind"], found["family"], found["task"], found["prediction"]) == (
        "model",
        "sd1",
        "base",
        "v",
    )
    assert found["label"] == "Stable Diffusion 1.x"
    assert found["parameters"] == count(tensors())
    assert found["dtypes"] == {"float32": count(tensors())}
    expected = dict(zip(("unet", "vae", "text_encoder"), map(count, parts()), strict=True))
    assert {name: part["parameters"] for name, part in found["parts"].items()} == expected
    assert found["missing"] == found["unknown"] == []
    assert found["metadata"] == {"modelspec.title": "x"}
    assert any("v_pred" in reason for reason in found["reasons"])


def test_what_is_missing_comes_with_its_option(tmp_path: Path) -> None:
    found = describe(write_file(tmp_path / "a.safetensors", vae=False, text=False))
    assert found["kind"] == "unet"
    assert found["missing"] == ["VAE (--vae)", "text encoder 1 (--text-encoder)"]
    assert describe(write_file(tmp_path / "b.safetensors", unet=False))["label"] == "vae and text_encoder"


def test_ignored_and_unknown_tensors(tmp_path: Path) -> None:
    change = {"betas": torch.ones(3), "alphas_cumprod": torch.ones(3), "mystery": torch.ones(1)}
    found = describe(write_file(tmp_path / "a.safetensors", change))
    assert found["ignored"] == {"noise schedule": 2}
    assert found["unknown"] == ["mystery"]


def test_a_folder(tmp_path: Path) -> None:
    found = describe(write_folder(tmp_path / "f", {"_class_name": "D", "prediction_type": "v_prediction"}))
    assert (found["kind"], found["family"], found["prediction"]) == ("model", "sd1", "v")
    assert found["container"] == "folder"
    assert found["parameters"] == count(tensors())


KINDS: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "vae": (parts()[1], "a VAE"),
    "text_encoder": (parts()[2], "a text encoder"),
    "unet": (diffusers_parts()["unet"], "Stable Diffusion 1.x"),
    "lora": ({"lora_unet_x.lora_down.weight": torch.ones(4, 8)}, "a LoRA"),
    "controlnet": ({"control_model.zero_convs.0.0.weight": torch.ones(4, 4, 1, 1)}, "a ControlNet"),
    "embedding": ({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, "a textual inversion"),
    "motion-module": (
        {"down_blocks.0.motion_modules.0.temporal_transformer.x": torch.ones(1)},
        "AnimateDiff",
    ),
    "flux": ({"model.diffusion_model.double_blocks.0.img_attn.x": torch.ones(2)}, "a Flux model"),
    "clip-vision": ({"vision_model.embeddings.class_embedding": torch.ones(2)}, "a CLIP image encoder"),
    "unknown": ({"what.is.this": torch.ones(2)}, "unknown kind"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pickled", [False, True])
def test_every_kind(tmp_path: Path, kind: str, pickled: bool) -> None:
    state, label = KINDS[kind]
    state = {name: value.contiguous() for name, value in state.items()}
    path = tmp_path / ("a.pt" if pickled else "a.safetensors")
    torch.save(state, path) if pickled else save_file(state, path)
    found = describe(path)
    assert found["kind"] == kind
    assert label in found["label"]
    assert found["container"] == ("pickle" if pickled else "safetensors")


def test_checking_reads_every_value(tmp_path: Path) -> None:
    bad = parts()[0]["out.2.weight"].clone()
    bad[1, 2, 0, 0] = float("nan")
    path = write_file(tmp_path / "a.safetensors", {"model.diffusion_model.out.2.weight": bad})
    assert describe(path, check=True)["not_finite"] == ["model.diffusion_model.out.2.weight"]
    assert describe(write_file(tmp_path / "b.safetensors"), check=True)["not_finite"] == []


def test_unsupported_relatives_are_described(tmp_path: Path) -> None:
    change: dict[str, Any] = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3)}
    found = describe(write_file(tmp_path / "a.safetensors", change))
    assert "by instruction" in found["label"]


def test_what_is_no_weights_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    with pytest.raises(FileError, match="a PNG picture"):
        describe(tmp_path / "a.png")
    with pytest.raises(FileError, match="no such file"):
        describe(tmp_path / "none")
