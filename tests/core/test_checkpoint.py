"""Weights files opened by content: what is in them comes out, what would run code is refused, damage is named."""

from __future__ import annotations

import json
import pickle
import random
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sigmagraft.core.checkpoint import Checkpoint, open_weights
from sigmagraft.core.entry import Entry, Pages
from sigmagraft.core.errors import FileError

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
KINDS = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int8,
    torch.bool,
    *FP8,
]


def some() -> dict[str, Tensor]:
    torch.manual_seed(0)
    found = {str(kind).split(".")[1]: (torch.rand(3, 5) * 4).to(kind) for kind in KINDS}
    return found | {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4)}


def same(opened: Checkpoint, tensors: dict[str, Tensor]) -> None:
    assert set(opened) == set(tensors)
    for name, tensor in tensors.items():
        got = opened.tensor(name)
        assert got.dtype == tensor.dtype
        assert opened[name].shape == tuple(tensor.shape) == tuple(got.shape)
        assert torch.equal(
            got.contiguous().view(-1).view(torch.uint8), tensor.contiguous().view(-1).view(torch.uint8)
        )


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.ckpt"
    torch.save(
        {"state_dict": some(), "global_step": 7, "note": "x"}, path, _use_new_zipfile_serialization=zipped
    )
    opened = open_weights(path)
    same(opened, some())
    assert opened.metadata == {"global_step": "7", "note": "x"}
    assert opened.container == ("zip" if zipped else "pickle")


def test_safetensors(tmp_path: Path) -> None:
    save_file(some(), tmp_path / "a.safetensors", metadata={"format": "pt"})
    opened = open_weights(tmp_path / "a.safetensors")
    same(opened, some())
    assert opened.metadata == {"format": "pt"}
    assert opened.notes == ()


def test_tensors_that_do_not_start_at_a_multiple_of_their_size(tmp_path: Path) -> None:
    """Old writers did not pad the header."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    header += b" " * (len(header) % 2 == 0)
    data = torch.tensor([1.5, -2.0])
    (tmp_path / "odd.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + data.numpy().tobytes()
    )
    assert torch.equal(open_weights(tmp_path / "odd.safetensors").tensor("a"), data)


def test_opening_reads_no_tensor_and_writing_changes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1000)}, path)
    before = path.read_bytes()
    tensor = open_weights(path).tensor("a")
    tensor.add_(1)
    assert float(tensor[0]) == 2
    assert path.read_bytes() == before


def test_what_people_pickle(tmp_path: Path) -> None:
    """Parameters, shared and transposed storages, nested dictionaries, attribute-carrying ordered dictionaries."""
    base = torch.arange(12.0).reshape(3, 4)
    ordered = OrderedDict(part=nn.Parameter(base))
    ordered._metadata = {"version": 1}  # type: ignore[attr-defined]
    value = {"image_proj": ordered, "ip_adapter": {"1.to_k_ip.weight": base.T, "row": base[1]}, "name": "x"}
    torch.save(value, tmp_path / "a.bin")
    opened = open_weights(tmp_path / "a.bin")
    same(opened, {"image_proj.part": base, "ip_adapter.1.to_k_ip.weight": base.T, "ip_adapter.row": base[1]})
    assert opened.metadata == {"name": "x"}


def test_textual_inversion_of_the_first_kind(tmp_path: Path) -> None:
    value = {
        "string_to_token": {"*": 265},
        "string_to_param": nn.ParameterDict({"*": nn.Parameter(torch.ones(2, 8))}),
    }
    torch.save(value, tmp_path / "a.pt")
    assert torch.equal(open_weights(tmp_path / "a.pt").tensor("string_to_param.*"), torch.ones(2, 8))


def spelled(module: str, name: str, then: bytes = b"(tR") -> bytes:
    """A pickle that puts `module.name` on the stack and goes on from there."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + then + b"."


def as_checkpoint(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3")
    return path


@pytest.mark.parametrize(
    "called",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "__builtin__.exec",
        "builtins.getattr",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "torch.storage._load_from_bytes",
        "torch._utils._rebuild_device_tensor_from_numpy",
        "numpy.testing._private.utils.runstring",
        "runpy.run_path",
        "pytorch_lightnings.x",
        "importlib.import_module",
        "functools.partial",
        "webbrowser.open",
    ],
)
def test_a_pickle_that_wants_to_run_code_is_refused_by_name(tmp_path: Path, called: str) -> None:
    module, _, name = called.rpartition(".")
    path = as_checkpoint(tmp_path / "evil.ckpt", spelled(module, name))
    with pytest.raises(FileError, match="refused") as caught:
        open_weights(path)
    assert f"{module.replace('__builtin__', 'builtins')}.{name}" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_hidden_in_a_real_checkpoint_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": some(), "callbacks": Evil()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileError, match=r"refused: the pickle asks for builtins\.exec"):
        open_weights(path)


def test_a_pickle_cannot_alter_the_reader(tmp_path: Path) -> None:
    """BUILD sets attributes on whatever is on the stack: a function that rebuilds tensors must not take them."""
    for then in (b"}U\x01aU\x01bsb", b"N}U\x05_makeU\x01bs\x86b"):
        path = as_checkpoint(tmp_path / "evil.ckpt", spelled("torch._utils", "_rebuild_tensor_v2", then))
        with pytest.raises(FileError, match="change a function"):
            open_weights(path)
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pt")
    assert torch.equal(open_weights(tmp_path / "good.pt").tensor("a"), torch.ones(2))


def test_leftovers_of_training_frameworks_are_inert(tmp_path: Path) -> None:
    """Real SD checkpoints pickle lightning's callbacks as keys and numpy scalars in optimiser states."""
    tensors = {"a": torch.ones(3)}
    torch.save({"state_dict": tensors, "extra": "PLACE"}, tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "a.ckpt") as archive:
        data = archive.read("a/data.pkl")
    callback = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    omega = b"comegaconf.dictconfig\nDictConfig\n)\x81}(X\x01\x00\x00\x00kK\x01ub"
    scalar = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8tRU\x08\0\0\0\0\0\0\0\0tR"
    place = b"X\x05\x00\x00\x00PLACE"
    assert place in data
    new = data.replace(place, b"}(" + callback + b"}(U\x01m" + scalar + b"u" + omega + b"K\x02u")
    path = tmp_path / "b.ckpt"
    with zipfile.ZipFile(tmp_path / "a.ckpt") as source, zipfile.ZipFile(path, "w") as out:
        for item in source.infolist():
            out.writestr(item, new if item.filename == "a/data.pkl" else source.read(item))
    same(open_weights(path), tensors)


def test_the_table_of_inert_names_holds_no_function_that_is_called(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "x": defaultdict(int, {"b": 1})}, tmp_path / "a.ckpt")
    assert set(open_weights(tmp_path / "a.ckpt")) == {"a"}


def test_a_pointer_outside_its_storage_is_damage(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(4)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        items = {i.filename: archive.read(i) for i in archive.infolist()}
    items["a/data/0"] = items["a/data/0"][:8]
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as out:
        for name, data in items.items():
            out.writestr(name, data)
    with pytest.raises(FileError, match="outside its data"):
        open_weights(tmp_path / "b.pt")


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("kind", ["a.safetensors", "a.ckpt", "old.ckpt"])
def test_truncated_files_are_named_as_such(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / kind
    tensors = {f"layer{i}": torch.randn(100, 100) for i in range(5)}
    if kind == "a.safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "a.ckpt")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(FileError, match=r"truncated|damaged") as caught:
        open_weights(path)
    assert str(path) in str(caught.value)
    assert "download or copy" in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}',
        b'{"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}',
        b'{"a": [1]}',
        b'{"a": ',
    ],
)
def test_damaged_headers(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(FileError, match=r"a\.safetensors"):
        open_weights(path)


@pytest.mark.parametrize("kind", ["a.safetensors", "a.ckpt", "old.ckpt"])
def test_whatever_is_damaged_the_answer_is_an_error_of_ours(tmp_path: Path, kind: str) -> None:
    """Bytes changed at random in the header or the pickle: it opens and reads, or FileError, nothing else."""
    path = tmp_path / kind
    tensors = {f"layer{i}": torch.randn(4, 4) for i in range(3)}
    if kind == "a.safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=kind == "a.ckpt")
    whole, refused, r = path.read_bytes(), 0, random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(r.randint(1, 3)):
            data[r.randrange(min(len(data), 1200))] = r.randrange(256)
        path.write_bytes(data)
        try:
            open_weights(path).tensors()
        except FileError:
            refused += 1
    assert refused > 100


def test_attributes_over_a_dictionary_change_nothing(tmp_path: Path) -> None:
    ordered = OrderedDict(a=torch.ones(2))
    ordered.get = ordered.values = ordered.keys = 3  # type: ignore[method-assign, assignment]
    for zipped in (True, False):
        torch.save(ordered, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
        same(open_weights(tmp_path / "a.ckpt"), {"a": torch.ones(2)})


def test_a_pickle_that_contains_itself(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="contains itself"):
        open_weights(as_checkpoint(tmp_path / "a.ckpt", b"\x80\x02}q\0X\x01\0\0\0ah\0s."))


def test_a_file_is_opened_by_content_and_its_wrong_name_is_noted(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "pickle.safetensors")
    save_file({"a": torch.ones(2)}, tmp_path / "safe.ckpt")
    assert "is a torch pickle" in open_weights(tmp_path / "pickle.safetensors").notes[0]
    assert "is a safetensors file" in open_weights(tmp_path / "safe.ckpt").notes[0]


NOT_WEIGHTS = {
    b"": "empty",
    b"\x89PNG\r\n\x1a\n" + bytes(50): "a PNG picture",
    b"\xff\xd8\xff\xe0" + bytes(50): "a JPEG picture",
    b"<!DOCTYPE html>\n<html><body>Sign in</body></html>": "a web page",
    b"  <html lang='en'>": "a web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n": "git lfs pull",
    b"GGUF\x03\x00\x00\x00" + bytes(50): "GGUF",
    bytes(4096): "zero bytes",
    b"just a few words of text that are no weights at all": "unknown kind of file",
    b"\x1f\x8b\x08" + bytes(50): "gzip",
    b'{"model": "SDXL"}': "no index of shards",
    b"PK\x03\x04": "truncated or damaged",
    pickle.dumps({"a": [1, 2]}, protocol=2): "torch.save did not write",
}


@pytest.mark.parametrize("data", NOT_WEIGHTS)
def test_what_is_no_weights_file_is_named_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(FileError) as caught:
        open_weights(path)
    assert NOT_WEIGHTS[data] in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_zip_without_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FileError, match="zip archive without weights"):
        open_weights(tmp_path / "a.ckpt")


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        open_weights(tmp_path / "none.safetensors")
    with pytest.raises(FileError, match="this is a folder"):
        open_weights(tmp_path)


def shard(folder: Path) -> Path:
    for i in (1, 2):
        save_file({f"t{i}": torch.full((2,), float(i))}, folder / f"m-{i}.safetensors")
    index = {"metadata": {}, "weight_map": {"t1": "m-1.safetensors", "t2": "m-2.safetensors"}}
    (folder / "m.safetensors.index.json").write_text(json.dumps(index))
    return folder / "m.safetensors.index.json"


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    same(open_weights(shard(tmp_path)), {"t1": torch.ones(2), "t2": torch.full((2,), 2.0)})


def test_a_missing_shard_and_a_missing_tensor_are_named(tmp_path: Path) -> None:
    index = shard(tmp_path)
    save_file({"other": torch.ones(1)}, tmp_path / "m-2.safetensors")
    with pytest.raises(FileError, match="'t2'"):
        open_weights(index)
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(FileError, match=r"1 of 2 shards are missing: m-2\.safetensors"):
        open_weights(index)


def test_scaled_fp8_weights_carry_their_scale(tmp_path: Path) -> None:
    weight = torch.randn(4, 4).to(torch.float8_e4m3fn)
    for suffix in ("scale_weight", "weight_scale"):
        save_file({"a.weight": weight, f"a.{suffix}": torch.tensor(0.5)}, tmp_path / "a.safetensors")
        opened = open_weights(tmp_path / "a.safetensors")
        assert set(opened) == {"a.weight"}
        assert opened["a.weight"].scale is not None
        assert float(Pages().tensor(opened["a.weight"].scale)) == 0.5


def test_views_of_an_entry(tmp_path: Path) -> None:
    value = torch.arange(24.0).reshape(6, 4)
    save_file({"a": value}, tmp_path / "a.safetensors")
    entry, pages = open_weights(tmp_path / "a.safetensors")["a"], Pages()
    assert torch.equal(pages.tensor(entry.transpose()), value.T)
    assert torch.equal(pages.tensor(entry.transpose().transpose()), value)
    assert torch.equal(pages.tensor(entry.reshape((6, 4, 1, 1))), value[..., None, None])
    for piece, part in zip(entry.split(3), value.chunk(3), strict=True):
        assert torch.equal(pages.tensor(piece), part)
    with pytest.raises(ValueError, match="cannot become"):
        entry.reshape((5, 5))
    with pytest.raises(ValueError, match="cannot be cut"):
        entry.split(4)
    assert isinstance(entry, Entry)
