"""Models as one file and as a folder: both read back by diffusers and by us, in another dtype, averaged or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sigmagraft.core.errors import FileError, MissingPartError, OptionError
from sigmagraft.standalone.cli import main
from sigmagraft.standalone.convert import convert
from sigmagraft.standalone.load import load_model

from ..pipelines.reference import CLASSES, make

FAMILIES = ["sd1", pytest.param("sd1-inpaint", marks=pytest.mark.slow), "sd2-depth", "sdxl"]
FAMILIES += [pytest.param("sdxl-refiner", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """diffusers' pipeline of a family and the folder that it saved."""

    def build(family: str) -> tuple[Any, Path]:
        root = tmp_path_factory.mktemp(family)
        return make(family, root), root / family

    return cache(build)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name].to(dtype), value.to(dtype)) for name, value in theirs.items())


def networks(pipe: Any) -> dict[str, Any]:
    return {n: p for n, p in pipe.components.items() if isinstance(p, torch.nn.Module)}


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_to_file_to_folder(
    family: str, saved: Callable[[str], tuple[Any, Path]], tmp_path: Path
) -> None:
    """There and back every weight is what it was, and diffusers loads what we wrote."""
    pipe, folder = saved(family)
    convert(folder, tmp_path / "one.safetensors")
    convert(tmp_path / "one.safetensors", tmp_path / "back")
    kind, absent = CLASSES[family]
    absent = {name: part for name, part in absent.items() if part is None}
    back = getattr(diffusers, kind).from_pretrained(tmp_path / "back", **absent)
    for name, network in networks(pipe).items():
        same(networks(back)[name].state_dict(), network.state_dict())
    said, was = (
        json.loads((place / "model_index.json").read_text()) for place in (tmp_path / "back", folder)
    )
    assert said["_class_name"] == was["_class_name"]
    ours = [load_model(place) for place in (folder, tmp_path / "one.safetensors", tmp_path / "back")]
    assert len({(m.info.family, m.info.task, m.info.prediction, m.scale_factor) for m in ours}) == 1
    for model in ours[1:]:
        same(model.unet.state_dict(), ours[0].unet.state_dict())


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_diffusers_reads_the_file(
    family: str, saved: Callable[[str], tuple[Any, Path]], tmp_path: Path
) -> None:
    pipe, folder = saved(family)
    convert(folder, tmp_path / "one.safetensors", torch.float16)
    kind = getattr(diffusers, CLASSES[family][0])
    read = kind.from_single_file(tmp_path / "one.safetensors", config=str(folder), local_files_only=True)
    for name, network in networks(pipe).items():
        theirs = network.state_dict()
        ours = networks(read)[name].state_dict()
        same({k: v for k, v in ours.items() if k in theirs}, theirs, torch.float16)


def averaged(folder: Path, path: Path) -> dict[str, Tensor]:
    """A file with its training average beside its weights: twice their value."""
    convert(folder, path.with_name("plain.safetensors"))
    tensors = load_file(path.with_name("plain.safetensors"))
    for name, value in list(tensors.items()):
        if name.startswith("model.diffusion_model."):
            tensors["model_ema.diffusion_model" + name[22:].replace(".", "")] = value * 2
    tensors["model_ema.num_updates"] = torch.tensor(5)
    save_file(tensors, path)
    return tensors


def test_averages(saved: Callable[[str], tuple[Any, Path]], tmp_path: Path) -> None:
    pipe, folder = saved("sd1")
    tensors = averaged(folder, tmp_path / "both.safetensors")
    theirs = pipe.unet.state_dict()
    for variant, factor in (("ema", 2), ("non_ema", 1)):
        convert(tmp_path / "both.safetensors", tmp_path / variant, variant=variant, as_variant=variant)
        unet = diffusers.UNet2DConditionModel.from_pretrained(
            tmp_path / variant, subfolder="unet", variant=variant
        )
        same(unet.state_dict(), {name: value * factor for name, value in theirs.items()})
        pruned = convert(tmp_path / "both.safetensors", tmp_path / f"{variant}.safetensors", variant=variant)
        kept = load_file(pruned)
        assert not any(name.startswith("model_ema") for name in kept)
        same(load_model(pruned).unet.state_dict(), load_model(tmp_path / variant).unet.state_dict())
    whole = load_file(convert(tmp_path / "both.safetensors", tmp_path / "half.safetensors", torch.float16))
    assert whole.keys() == tensors.keys()
    assert whole["model_ema.num_updates"].dtype == torch.int64
    assert whole["model.diffusion_model.out.2.weight"].dtype == torch.float16


def test_a_folder_in_another_dtype_keeps_what_is_no_weight(
    saved: Callable[[str], tuple[Any, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, folder = saved("sd1")
    (folder / "README.md").write_text("a card")
    out = tmp_path / "half"
    words = ["convert", str(folder), "-o", str(out), "--dtype", "bf16", "--as-variant", "bf16"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert (out / "README.md").read_text() == "a card"
    assert (out / "unet/config.json").read_text() == (folder / "unet/config.json").read_text()
    assert not list(out.rglob("diffusion_pytorch_model.safetensors"))
    back = diffusers.DiffusionPipeline.from_pretrained(out, variant="bf16", torch_dtype=torch.bfloat16)
    same(back.unet.state_dict(), pipe.unet.state_dict(), torch.bfloat16)


def test_the_weights_are_never_in_memory_at_once(
    saved: Callable[[str], tuple[Any, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tensor is made when its bytes are written, and is gone when the next one is."""
    import weakref

    from sigmagraft.core import safetensors_stream as stream

    alive: list[Any] = []
    most: list[int] = []
    bytes_of = stream._bytes

    def watched(name: str, planned: Any) -> Any:
        def make() -> Tensor:
            value = planned.make()
            most.append(sum(ref() is not None for ref in alive))
            alive.append(weakref.ref(value))
            return value

        return bytes_of(name, planned._replace(make=make))

    monkeypatch.setattr(stream, "_bytes", watched)
    convert(saved("sd1")[1], tmp_path / "one.safetensors", torch.float16)
    assert len(alive) > 1000
    assert max(most) <= 1


def test_mistakes(saved: Callable[[str], tuple[Any, Path]], tmp_path: Path) -> None:
    _, folder = saved("sd1")
    with pytest.raises(MissingPartError, match="not only unet"):
        convert(folder / "unet", tmp_path / "a.safetensors")
    with pytest.raises(OptionError, match=r"\.safetensors"):
        convert(folder, tmp_path / "a.ckpt")
    with pytest.raises(OptionError, match="one file"):
        convert(folder, tmp_path / "a.safetensors", as_variant="fp16")
    (tmp_path / "there").mkdir()
    with pytest.raises(OptionError, match="there already"):
        convert(folder, tmp_path / "there")
    large = load_file(convert(folder, tmp_path / "large.safetensors"))
    large["first_stage_model.decoder.conv_in.weight"][0] = 1e6
    save_file(large, tmp_path / "large2.safetensors")
    for place in ("half.safetensors", "half"):
        with pytest.raises(FileError, match="too large for float16"):
            convert(tmp_path / "large2.safetensors", tmp_path / place, torch.float16)
        assert not (tmp_path / place).exists()
    assert not list(tmp_path.glob("*.partial"))
