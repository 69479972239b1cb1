"""What a bad --model gets on the command line: one line that names the file, exit code 2, no picture."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import PREFIXES, Answer

Run = Callable[..., Answer]


def truncated(checkpoint: Path, folder: Path) -> Path:
    path = folder / "cut.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:100_000])
    return path


def empty(checkpoint: Path, folder: Path) -> Path:
    path = folder / "empty.safetensors"
    path.touch()
    return path


def text(checkpoint: Path, folder: Path) -> Path:
    path = folder / "notes.safetensors"
    path.write_text("<!DOCTYPE html> sign in to download this model")
    return path


def picture(checkpoint: Path, folder: Path) -> Path:
    from PIL import Image

    path = folder / "picture.ckpt"
    Image.new("RGB", (8, 8)).save(path, "PNG")
    return path


def program(checkpoint: Path, folder: Path) -> Path:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (folder / "ran",)  # type: ignore[return-value]

    path = folder / "evil.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Evil()}))
    return path


def lora(checkpoint: Path, folder: Path) -> Path:
    path = folder / "lora.safetensors"
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file(
        {f"{name}.lora_up.weight": torch.zeros(8, 4), f"{name}.lora_down.weight": torch.zeros(4, 8)}, path
    )
    return path


def without_vae(checkpoint: Path, folder: Path) -> Path:
    path = folder / "no-vae.safetensors"
    save_file({k: v for k, v in load_file(checkpoint).items() if not k.startswith(PREFIXES[1])}, path)
    return path


def not_a_number(checkpoint: Path, folder: Path) -> Path:
    path = folder / "nan.safetensors"
    tensors = load_file(checkpoint)
    tensors[PREFIXES[0] + "out.2.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, path)
    return path


def bare_folder(checkpoint: Path, folder: Path) -> Path:
    path = folder / "bare"
    path.mkdir()
    (path / "config.json").write_text("{}")
    return path


def missing(checkpoint: Path, folder: Path) -> Path:
    return folder / "none.safetensors"


BAD = [truncated, empty, text, picture, program, lora, without_vae, not_a_number, bare_folder, missing]


@pytest.mark.parametrize("make", BAD, ids=[make.__name__ for make in BAD])
def test_bad_weights(run: Run, checkpoint: Path, tmp_path: Path, make: Callable[[Path, Path], Path]) -> None:
    path = make(checkpoint, tmp_path)
    answer = run("--model", path, "--steps", 1, "--offline", "x", "--out", tmp_path / "out" / "x.png")
    assert answer.code == 2, answer
    assert answer.err.count("\n") == 1, answer.err
    assert path.name in answer.err
    assert answer.err.startswith("sigmagraft: ")
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "ran").exists()


def test_what_is_missing_names_its_option(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    answer = run("--model", without_vae(checkpoint, tmp_path), "x")
    assert "no VAE" in answer.err
    assert "--vae" in answer.err
