"""Every file that is not what it should be: one clear sentence, and the model as it was, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sigmagraft.core.errors import FileError
from sigmagraft.loras import Targets, read_lora

from ..core.manifests import checkpoint, shapes_of
from .files import kohya_name, lora, matrices
from .small import Small, targets, write

Tensors = dict[str, Tensor]
FIRST = kohya_name(matrices(targets())[0])
MIDDLE = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn2_to_k"


def good() -> Tensors:
    return lora(matrices(targets()))


def _set(name: str, value: Tensor) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: value})


def _rank_0(tensors: Tensors) -> None:
    tensors[f"{MIDDLE}.lora_down.weight"] = torch.zeros(0, 64)
    tensors[f"{MIDDLE}.lora_up.weight"] = torch.zeros(64, 0)


def _no_up(tensors: Tensors) -> None:
    for name in [name for name in tensors if "lora_up" in name]:
        del tensors[name]


def _renamed(tensors: Tensors) -> None:
    for name in list(tensors):
        tensors[name.replace("lora_unet_", "lora_net_").replace("lora_te1_", "lora_txt_")] = tensors.pop(name)


def _flux(tensors: Tensors) -> None:
    tensors.clear()
    for i in range(3):
        tensors[f"lora_unet_double_blocks_{i}_img_attn_proj.lora_up.weight"] = torch.ones(8, 4)
        tensors[f"lora_unet_double_blocks_{i}_img_attn_proj.lora_down.weight"] = torch.ones(4, 8)


def _only(tensors: Tensors, names: list[str]) -> None:
    tensors.clear()
    tensors.update({name: torch.zeros(2, 2) for name in names})


def _two_adapters(tensors: Tensors) -> None:
    tensors.clear()
    name = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    for adapter in ("one", "two"):
        tensors[f"{name}.lora_A.{adapter}.weight"] = torch.ones(4, 32)
        tensors[f"{name}.lora_B.{adapter}.weight"] = torch.ones(32, 4)


_MOTION = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
_MOTION += ".processor.to_q_lora"
BAD: dict[str, tuple[Callable[[Tensors], None], str]] = {
    "NaN": (
        _set(f"{MIDDLE}.lora_up.weight", torch.full((64, 4), torch.nan)),
        f"{MIDDLE}.lora_up.weight.*NaN or inf",
    ),
    "infinity": (
        _set(f"{MIDDLE}.lora_down.weight", torch.full((4, 64), torch.inf)),
        f"{MIDDLE}.lora_down.weight.*NaN or inf",
    ),
    "another shape": (
        _set(f"{MIDDLE}.lora_down.weight", torch.ones(4, 48)),
        f"{MIDDLE}: made for a weight of 64 x 48, this one is 64 x 64",
    ),
    "factors that do not multiply": (
        _set(f"{MIDDLE}.lora_up.weight", torch.ones(64, 3)),
        f"{MIDDLE}: up .64, 3. and down .4, 64. do not multiply",
    ),
    "alpha 0": (_set(f"{MIDDLE}.alpha", torch.tensor(0.0)), f"{MIDDLE}: its alpha is 0"),
    "alpha of two numbers": (_set(f"{MIDDLE}.alpha", torch.ones(2)), "alpha has 2 values"),
    "rank 0": (_rank_0, f"{MIDDLE}: its rank is 0"),
    "half of each pair": (_no_up, "no tensor of it is known"),
    "unknown prefix": (_renamed, "modules are unknown here, such as lora_net_"),
    "Flux": (_flux, "this is an adapter for Flux"),
    "ControlNet": (lambda t: _only(t, ["controlnet_cond_embedding.conv_in.weight"]), "this is a ControlNet"),
    "Control-LoRA": (lambda t: _only(t, ["lora_controlnet"]), "this is a Control-LoRA"),
    "LLLite": (lambda t: _only(t, ["lllite_unet_x.down.weight"]), "this is a ControlNet-LLLite"),
    "IP-Adapter": (lambda t: _only(t, ["ip_adapter.1.to_k_ip.weight"]), "this is an IP-Adapter"),
    "motion LoRA": (
        lambda t: _only(t, [f"{_MOTION}.{side}.weight" for side in ("up", "down")]),
        "this is an adapter for AnimateDiff's motion modules",
    ),
    "checkpoint": (
        lambda t: _only(t, ["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x.weight"]),
        "this is a model",
    ),
    "embedding": (lambda t: t.clear() or t.update(emb_params=torch.zeros(2, 768)), "textual inversion"),
    "something else": (lambda t: _only(t, ["conv.weight", "fc.weight", "fc.bias"]), "unknown tensors"),
    "two adapters": (_two_adapters, "2 adapters: one, two"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_changes_nothing(kind: str, tmp_path: Path) -> None:
    change, sentence = BAD[kind]
    tensors = good()
    change(tensors)
    path = write(tmp_path / "bad.safetensors", tensors)
    small = Small()
    before = small.hashes()
    with pytest.raises(FileError, match=sentence) as caught:
        small.fuse(small.load(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert small.hashes() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["factors", "difference"])
def test_finite_tensors_whose_change_is_not_are_refused(
    family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    tensors = good()
    if family == "factors":
        tensors[f"{MIDDLE}.lora_up.weight"] = torch.full((64, 4), 1e20)
        tensors[f"{MIDDLE}.lora_down.weight"] = torch.full((4, 64), 1e20)
    else:
        tensors[f"{MIDDLE}.diff"] = torch.full((64, 64), 3e38)
    small = Small(dtype)
    before = small.hashes()
    bound = small.load(write(tmp_path / "a.safetensors", tensors))
    with pytest.raises(FileError, match="leaves the range of"):
        small.fuse(bound, 2.0)
    assert small.hashes() == before


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "cut.safetensors", good())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileError):
        read_lora(path)


def test_a_damaged_file_fails_with_our_error_or_not_at_all(tmp_path: Path) -> None:
    """Bytes exchanged anywhere in the header: never another exception than ours."""
    content = write(tmp_path / "good.safetensors", good()).read_bytes()
    header = int.from_bytes(content[:8], "little") + 8
    chance = random.Random(0)
    small, path = Small(), tmp_path / "bad.safetensors"
    before = small.hashes()
    for _ in range(30):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[chance.randrange(header)] = chance.randrange(256)
        path.write_bytes(damaged)
        with suppress(FileError):
            small.load(path)
    assert small.hashes() == before


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"x.lora_up.weight": Evil()}, tmp_path / "bad.pt")
    with pytest.raises(FileError, match="print"):
        read_lora(tmp_path / "bad.pt")


def test_a_weights_only_pickle_is_read_as_the_same(tmp_path: Path) -> None:
    tensors = good()
    torch.save(tensors, tmp_path / "a.pt")
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "a.safetensors")
    one, other = (Small().load(tmp_path / name) for name in ("a.pt", "a.safetensors"))
    assert one.deltas.keys() == other.deltas.keys()
    weight = torch.randn(64, 64)
    key = "unet.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    assert torch.equal(one.deltas[key][0].delta(weight), other.deltas[key][0].delta(weight))


def test_force_applies_what_fits(tmp_path: Path) -> None:
    tensors = good()
    tensors[f"{MIDDLE}.lora_down.weight"] = torch.ones(4, 48)
    tensors["lora_unet_nowhere.lora_up.weight"] = torch.ones(2, 2)
    tensors["lora_unet_nowhere.lora_down.weight"] = torch.ones(2, 2)
    small = Small()
    path = write(tmp_path / "a.safetensors", tensors)
    with pytest.raises(FileError, match="force"):
        small.load(path)
    report = small.load(path, force=True).report
    reasons = {item.key: item.reason for item in report.unused}
    assert len(reasons) == 5
    assert reasons["lora_unet_nowhere.lora_up.weight"] == "no module has this name"
    assert "64 x 48" in reasons[f"{MIDDLE}.alpha"]
    assert len(report.used) == len(tensors) - 5


def test_an_unused_key_is_told_with_its_reason_and_the_nearest_name(tmp_path: Path) -> None:
    tensors = good()
    wrong = MIDDLE.replace("attn2", "atn2")
    for part in ("lora_up.weight", "lora_down.weight", "alpha"):
        tensors[f"{wrong}.{part}"] = tensors.pop(f"{MIDDLE}.{part}")
    tensors[f"{FIRST}.bias_values"] = torch.ones(3)
    tensors[f"{FIRST}.sparkle"] = torch.ones(3)
    report = Small().load(write(tmp_path / "a.safetensors", tensors)).report
    found = {item.key: item for item in report.unused}
    assert set(found) == {f"{wrong}.{p}" for p in ("lora_up.weight", "lora_down.weight", "alpha")} | {
        f"{FIRST}.bias_values",
        f"{FIRST}.sparkle",
    }
    assert found[f"{wrong}.lora_up.weight"].nearest == MIDDLE
    assert "first LyCORIS" in found[f"{FIRST}.bias_values"].reason
    assert "ending" in found[f"{FIRST}.sparkle"].reason
    (line,) = report.warnings()
    assert f"5 of {len(tensors)} tensors not used" in line
    assert str(report).count("not used:") == 5


LORAS = [
    "lora_lcm_sd15_r64",
    "lora_lcm_sdxl_r64",
    "lora_sdxl_kohya_r8",
    "lora_sdxl_peft_r8",
    "lora_sdxl_diffusers_old_r8",
]
MODELS = ["ldm/sd15", "ldm/sd21", "ldm/sdxl_base", "ldm/sdxl_refiner"]


@pytest.mark.parametrize("model", MODELS)
def test_a_published_file_fits_its_model_alone(model: str, tmp_path: Path) -> None:
    """Every key of it is used there, and every other model refuses it with the model it was made for."""
    from sigmagraft.core.parts import parts_of
    from sigmagraft.core.parts import shapes as shapes_of_part
    from sigmagraft.loras.bind import bind
    from sigmagraft.loras.formats import deltas_of
    from sigmagraft.loras.lora_file import LoraFile, Part
    from sigmagraft.loras.read import _grouped

    parts = parts_of(checkpoint(model))
    there = Targets.of(shapes_of_part(parts.unet), [shapes_of_part(text) for text in parts.texts], model)
    for name in LORAS:
        tensors = {key: torch.ones(shape, device="meta") for key, shape in shapes_of()[name].items()}
        for key in tensors:
            if key.endswith(".alpha"):
                tensors[key] = torch.tensor(8.0)
        groups, unknown = _grouped(tensors, Path(name), None)
        made = {
            stem: Part(stem, deltas_of(group), list(group.keys.values())) for stem, group in groups.items()
        }
        file = LoraFile(Path(name), made)
        assert not unknown
        if ("sdxl" in name) == (model == "ldm/sdxl_base") and ("sd15" in name) == (model == "ldm/sd15"):
            report = bind(file, there).report
            assert len(report.used) == len(tensors)
            assert not report.unused
        else:
            with pytest.raises(FileError, match=r"made for Stable Diffusion (XL|1\.x)"):
                bind(file, there)


def test_a_file_may_be_replaced_once_it_is_read(tmp_path: Path) -> None:
    """Mapped pages of a file that was truncated would end the process."""
    small = Small()
    path = write(tmp_path / "a.safetensors", good())
    bound = small.load(path)
    small.fuse(bound)
    merged = small.hashes()
    small.fused.restore()
    with path.open("r+b") as file:
        file.truncate(10)
    small.fuse(bound)
    assert small.hashes() == merged
