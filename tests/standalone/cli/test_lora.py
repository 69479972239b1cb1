"""--lora, --lora-dir and <lora:...> as a user types them, and what pictures keep of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sigmagraft.standalone import metadata, output

from ...loras.files import lora, matrices
from ...loras.small import write
from .conftest import Answer, Loaded
from .test_generate import QUICK, pixels

Run = Callable[..., Answer]


@pytest.fixture
def ink(loaded: Loaded, tmp_path: Path) -> Path:
    return write(tmp_path / "ink.safetensors", lora(matrices(loaded.pipe.loras.targets), size=0.2))


def test_an_adapter_changes_the_picture_and_the_picture_makes_itself_again(
    run: Run, ink: Path, tmp_path: Path
) -> None:
    run("a house", "--seed", 1, "--out", "plain.png", *QUICK)
    answer = run("a house", "--seed", 1, "--lora", f"{ink}:0.8:te=0.5", "--out", "ink.png", *QUICK)
    assert (answer.code, answer.err) == (0, "")
    assert abs(pixels("ink.png") - pixels("plain.png")).max() > 8
    text = output.read_text("ink.png")
    assert "Lora hashes: " in text
    settings = metadata.from_text(text).settings
    assert settings["loras"] == [f"{ink}:0.8:te=0.5"]
    assert set(settings["lora_hashes"]) == {"ink"}
    again = run("--from-image", "ink.png", "--out", "again.png")
    assert (again.code, again.err) == (0, "")
    assert abs(pixels("again.png") - pixels("ink.png")).max() == 0


def test_a_tag_in_the_prompt_stays_in_the_pictures_text(run: Run, ink: Path, loaded: Loaded) -> None:
    run("a house", "--seed", 1, "--lora", f"{ink}:0.8", "--out", "one.png", *QUICK)
    answer = run(
        f"a house<lora:{ink}:0.8>", "--seed", 1, "--lora-dir", str(ink.parent), "--out", "two.png", *QUICK
    )
    assert (answer.code, answer.err) == (0, "")
    assert loaded.options["lora_dir"] == [str(ink.parent)]
    assert abs(pixels("one.png") - pixels("two.png")).max() == 0
    settings = metadata.from_text(output.read_text("two.png")).settings
    assert settings["prompt"] == f"a house<lora:{ink}:0.8>"
    assert settings["lora_dir"] == [str(ink.parent)]


def test_another_file_of_the_same_name_is_told(run: Run, ink: Path, loaded: Loaded) -> None:
    run("a house", "--seed", 1, "--lora", f"{ink}:0.8", "--out", "one.png", *QUICK)
    write(ink, lora(matrices(loaded.pipe.loras.targets), seed=9))
    answer = run("--from-image", "one.png", "--out", "two.png")
    assert "the picture was made with ink of hash" in answer.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--lora", "nowhere.safetensors"], "no such adapter"),
        (["--lora", "ink.safetensors:much"], "weight 'much'"),
        (["--lora", "ink.safetensors:1:bloks=IN"], "did you mean 'blocks'"),
        (["--lora", "cut.safetensors"], "cut.safetensors"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run: Run, ink: Path, words: list[str], sentence: str) -> None:
    (ink.parent / "cut.safetensors").write_bytes(ink.read_bytes()[:5000])
    answer = run("a house", *words, *QUICK)
    assert answer.code == 2
    assert sentence in answer.err
    assert answer.err.count("\n") == 1


def test_unused_tensors_are_told_and_another_models_file_is_forced(
    run: Run, loaded: Loaded, tmp_path: Path
) -> None:
    tensors = lora(matrices(loaded.pipe.loras.targets))
    tensors["lora_unet_input_blocks_0_0.lora_down.weight"] = torch.ones(4, 9, 3, 3)
    path = write(tmp_path / "other.safetensors", tensors)
    refused = run("a house", "--lora", str(path), *QUICK)
    assert refused.code == 2
    assert (
        "made for a weight of 32 x 9 x 3 x 3" in refused.err or "made for a weight of 32 x 81" in refused.err
    )
    forced = run("a house", "--lora", str(path), "--lora-force", "--json", *QUICK)
    assert forced.code == 0
    assert "not used" in forced.err
    assert json.loads(forced.out)["images"]


def test_a_missing_adapter_is_told_before_the_model_loads(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    for words in (["--lora", "nowhere.safetensors"], ["x <lora:nowhere:1>"], ["--lora-dir", "none"]):
        assert run("a house", *words, *QUICK).code == 2
    assert not loaded.options
