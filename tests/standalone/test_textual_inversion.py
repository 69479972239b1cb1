"""Textual inversion files: every layout is read, what does not fit is named, nothing in a file runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.standalone.textual_inversion import Embeddings, read_embedding

MANIFESTS = Path(__file__).parents[3] / "shared" / "data" / "manifests"
ROWS = torch.arange(3 * 8, dtype=torch.float32).reshape(3, 8)


def parameter_dict() -> nn.ParameterDict:
    return nn.ParameterDict({"*": nn.Parameter(ROWS)})


A1111 = {
    "string_to_token": {"*": 265},
    "string_to_param": {"*": ROWS},
    "name": "x",
    "step": 99,
    "sd_checkpoint": None,
}
LAYOUTS = {
    "a1111.pt": lambda path: torch.save(A1111, path),
    "original.pt": lambda path: torch.save(
        {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameter_dict()}, path
    ),
    "old.pt": lambda path: torch.save(A1111, path, _use_new_zipfile_serialization=False),
    "emb.safetensors": lambda path: save_file({"emb_params": ROWS}, path),
    "learned_embeds.bin": lambda path: torch.save({"<token>": ROWS}, path),
    "half.bin": lambda path: torch.save({"<token>": ROWS.half()}, path),
    "token.safetensors": lambda path: save_file({"<token>": ROWS}, path),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    LAYOUTS[name](tmp_path / name)
    embedding = read_embedding(tmp_path / name)
    assert embedding.name == name.rpartition(".")[0]
    assert embedding.vectors == 3
    torch.testing.assert_close(embedding.rows("clip_l", 8), ROWS, rtol=0, atol=0)


def test_one_vector_without_an_axis_for_it(tmp_path):
    torch.save({"<token>": ROWS[0]}, tmp_path / "a.bin")
    assert read_embedding(tmp_path / "a.bin").rows("clip_l", 8).tolist() == [ROWS[0].tolist()]


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_sdxl_pair(tmp_path, save):
    path = tmp_path / ("a.pt" if save is torch.save else "a.safetensors")
    save({"clip_l": ROWS, "clip_g": ROWS.repeat(1, 2)}, path)
    embedding = read_embedding(path)
    assert embedding.vectors == 3
    assert embedding.rows("clip_l", 8).shape == (3, 8)
    assert embedding.rows("clip_g", 16).shape == (3, 16)


def test_the_file_is_free_once_read(tmp_path):
    save_file({"emb_params": ROWS}, tmp_path / "a.safetensors")
    embedding = read_embedding(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 200)
    torch.testing.assert_close(embedding.rows("", 8), ROWS)


def test_wrong_width_names_file_and_widths(tmp_path):
    torch.save({"<token>": torch.zeros(2, 1024)}, tmp_path / "sd2.bin")
    wanted = r"sd2\.bin: .*vectors are 1024 wide, for SD2\.x \(expected 768, .*clip_l\); take 'sd2' out"
    with pytest.raises(FileError, match=wanted):
        read_embedding(tmp_path / "sd2.bin").rows("clip_l", 768)


def test_file_for_one_of_two_encoders(tmp_path):
    save_file({"clip_l": ROWS}, tmp_path / "half.safetensors")
    with pytest.raises(
        FileError, match=r"half\.safetensors.*clip_l alone .*expected vectors for clip_g, 16 wide"
    ):
        read_embedding(tmp_path / "half.safetensors").rows("clip_g", 16)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"a.lora_up.weight": ROWS, "a.lora_down.weight": ROWS + 1},
            r"not a textual inversion file: 2 tensors \(a\.lora",
        ),
        ({"x": torch.zeros(2, 3, 4)}, r"not a textual inversion file: .*\(2, 3, 4\)"),
        ({"x": torch.zeros(2, 3, dtype=torch.int64)}, "not a textual inversion file: .*int64"),
        ({"x": torch.zeros(0, 8)}, "not a textual inversion file"),
        ({"x": torch.full((2, 8), float("nan"))}, "NaN"),
        ({"clip_l": ROWS, "clip_g": ROWS[:2] + 1}, "3 vectors for clip_l and 2 vectors for clip_g"),
    ],
)
def test_what_is_no_embedding(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(FileError, match=rf"bad\.safetensors: .*{message}"):
        read_embedding(tmp_path / "bad.safetensors")


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, capsys):
    torch.save({"string_to_param": {"*": ROWS}, "x": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(FileError, match=rf"{name}.*print"):
            read_embedding(tmp_path / name)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_what_is_no_weights_file(tmp_path, content):
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(FileError, match=r"bad\.pt"):
        read_embedding(tmp_path / "bad.pt")


def save(path: Path, value: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"string_to_param": {"*": torch.full((1, 8), float(value))}}, path)
    return path


def test_folders_and_files(tmp_path):
    save(tmp_path / "all" / "One.pt", 1)
    save(tmp_path / "all" / "sub" / "two.bin", 2)
    save_file({"emb_params": torch.full((1, 8), 3.0)}, tmp_path / "all" / "One.safetensors")
    (tmp_path / "all" / "notes.txt").write_text("no embedding")
    found = Embeddings([tmp_path / "all", save(tmp_path / "three.pt", 4)])
    assert found.names == ["One", "three", "two"]
    assert found["One"].path.suffix == ".safetensors"
    assert found["one"] is found["One"]
    assert found["sub/two"] is found["two"]
    assert found["three.pt"].rows("", 8)[0, 0] == 4
    assert "four" not in found


def test_unknown_name(tmp_path):
    found = Embeddings([save(tmp_path / "easynegative.pt")])
    with pytest.raises(OptionError, match="no embedding is named 'easynegativ'; did you mean 'easynegative'"):
        found["easynegativ"]
    with pytest.raises(OptionError, match="--embeddings"):
        Embeddings()["x"]


def test_two_files_of_one_name(tmp_path):
    found = Embeddings([save(tmp_path / "a" / "x.pt"), save(tmp_path / "b" / "x.pt")])
    with pytest.raises(OptionError, match=r"2 files are named 'x'.*a.x\.pt, .*b.x\.pt"):
        found["x"]


def test_missing_source(tmp_path):
    with pytest.raises(FileError, match="no such embedding file or folder"):
        Embeddings([tmp_path / "nothing"])


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("textual_inversion_sd15_a1111_pt", {"clip_l": 768}),
        ("textual_inversion_sd15_diffusers", {"clip_l": 768}),
        ("textual_inversion_sd15_safetensors", {"clip_l": 768}),
        ("textual_inversion_sdxl", {"clip_l": 768, "clip_g": 1280}),
    ],
)
def test_published_files(tmp_path, name, widths):
    if not MANIFESTS.is_dir():
        pytest.skip("no manifests of published files here")
    manifest = json.loads((MANIFESTS / f"{name}.json").read_text())
    save_file({key: torch.zeros(shape) for key, (shape, _) in manifest.items()}, tmp_path / "x.safetensors")
    embedding = read_embedding(tmp_path / "x.safetensors")
    for role, width in widths.items():
        assert embedding.rows(role, width).shape == (embedding.vectors, width)
