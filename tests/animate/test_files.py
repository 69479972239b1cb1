"""Motion modules recognised by names and shapes: published files, both layouts, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sigmagraft.animate.files import diffusers_name, open_motion, sizes_of
from sigmagraft.animate.network import Motion, check_fit, places
from sigmagraft.core.errors import FileError
from sigmagraft.core.kinds import adapter_kind
from sigmagraft.core.temporal import authors_name
from sigmagraft.core.unet_config import UNetConfig

MANIFESTS = Path(__file__).parents[3] / "shared/data/manifests"
PUBLISHED = {
    "animatediff_mm_sd_v15": ("v1", 24, False, 20),
    "animatediff_mm_sd_v15_v2": ("v2", 32, True, 21),
    "animatediff_v3_sd15_mm": ("v3", 32, False, 20),
    "animatediff_mm_sdxl_v10_beta": ("sdxl", 32, False, 15),
}
SD1 = UNetConfig()
SDXL = UNetConfig(channel_mult=(1, 2, 4), num_res_blocks=(2, 2, 2), transformer_depth=(0, 2, 10))


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    file = MANIFESTS / f"{name}.json"
    if not file.is_file():
        pytest.skip("no manifests of published files here")
    return {key: tuple(shape) for key, (shape, _) in json.loads(file.read_text()).items()}


def small(
    path: Path, length: int = 24, middle: bool = True, stored: bool = True, spell=lambda name: name
) -> Path:
    """A motion module for levels of 32 and 64 channels."""
    config = UNetConfig(
        model_channels=32, channel_mult=(1, 2), num_res_blocks=(1, 1), transformer_depth=(1, 1)
    )
    shapes = {}
    for where, (_, width) in places(config).items():
        if middle or not where.startswith("mid"):
            shapes |= {
                f"{where}.norm.weight": (width,),
                f"{where}.transformer_blocks.0.norm1.weight": (width,),
            }
            shapes |= {f"{where}.transformer_blocks.0.norm2.weight": (width,)}
            shapes |= {f"{where}.transformer_blocks.0.pe": (1, length, width)} if stored else {}
    tensors = Motion(sizes_of(shapes)).state_dict()
    save_file({spell(diffusers_name(name)): value.contiguous() for name, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("layout", ["", "_diffusers"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_recognised_with_every_tensor(tmp_path: Path, name: str, layout: str) -> None:
    shapes = shapes_of(name + layout)
    kind = adapter_kind(shapes)
    assert kind is not None
    assert kind.name == "motion-module"
    with torch.device("meta"):
        entries = {key: torch.empty(shape) for key, shape in shapes.items()}
    file = fake(tmp_path, entries)
    version, length, middle, modules = PUBLISHED[name]
    config = file.config
    assert (config.version, config.length, config.middle, len(config.modules)) == (
        version,
        length,
        middle,
        modules,
    )
    with torch.device("meta"):
        wanted = {key: tuple(value.shape) for key, value in Motion(config).state_dict().items()}
    assert {key: entry.shape for key, entry in file.tensors.items()} == wanted
    assert set(file.ignored.values()) <= {"the same positions once more"}
    check_fit(config, SDXL if version == "sdxl" else SD1)
    with pytest.raises(FileError, match="another model"):
        check_fit(config, SD1 if version == "sdxl" else UNetConfig(model_channels=64))


def fake(tmp_path: Path, tensors):
    """The file of these shapes, without their bytes on the disk."""
    from sigmagraft.core.checkpoint import Checkpoint
    from sigmagraft.core.entry import Entry

    path = tmp_path / "motion.ckpt"
    entries = {
        key: Entry(file=path, offset=0, shape=tuple(value.shape), dtype=value.dtype)
        for key, value in tensors.items()
    }
    return open_motion(Checkpoint(entries, path))


def test_authors_layout_opens_as_diffusers_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = small(tmp_path / "a.safetensors")
    ours = open_motion(plain).build(torch.device("cpu"), torch.float32)
    tensors = {}
    for name, value in ours.state_dict().items():
        head, _, tail = name.rpartition(".pe")
        if tail == "" and head:
            for n in (0, 1):
                path = authors_name(f"{head}.attn{n + 1}")
                tensors[f"module.{path}.pos_encoder.pe"] = value.clone()
        else:
            tensors[f"module.{authors_name(name)}"] = value
    other = tmp_path / "b.ckpt"
    torch.save({"epoch": 1, "state_dict": tensors}, other)
    again = open_motion(other).build(torch.device("cpu"), torch.float32)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_file_without_positions_gets_64_of_them(tmp_path: Path) -> None:
    file = open_motion(small(tmp_path / "lcm.safetensors", stored=False, middle=False))
    assert file.config.version == "lcm"
    network = file.build(torch.device("cpu"), torch.float16)
    block = network.modules_by_path()["down_blocks.0.motion_modules.0"].transformer_blocks[0]
    assert block.pe.shape == (1, 64, 32)
    assert block.pe.dtype == torch.float16


def test_what_is_no_motion_module_is_refused(tmp_path: Path) -> None:
    plain = small(tmp_path / "a.safetensors")
    tensors = open_motion(plain).build(torch.device("cpu"), torch.float32).state_dict()
    tensors = {diffusers_name(name): value for name, value in tensors.items()}
    lora = {
        "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight": torch.ones(
            1
        )
    }
    cases = [
        (lora, "motion LoRA"),
        ({"emb_params": torch.ones(1, 768)}, "textual inversion"),
        ({**tensors, "conv_in.weight": torch.ones(1)}, "conv_in"),
        ({**tensors, "down_blocks.0.motion_modules.0.odd.weight": torch.ones(1)}, "odd"),
        (
            {n: v for n, v in tensors.items() if n != "down_blocks.0.motion_modules.0.norm.weight"},
            "incomplete",
        ),
    ]
    for number, (each, words) in enumerate(cases):
        path = tmp_path / f"bad{number}.safetensors"
        save_file({name: value.clone() for name, value in each.items()}, path)
        with pytest.raises(FileError, match=words):
            open_motion(path)


def test_a_renamed_tensor_is_a_missing_one(tmp_path: Path) -> None:
    path = small(tmp_path / "a.safetensors", spell=lambda name: name.replace("proj_in.bias", "proj_in.bias2"))
    with pytest.raises(FileError, match=r"proj_in\.bias"):
        open_motion(path).build(torch.device("cpu"), torch.float32)
