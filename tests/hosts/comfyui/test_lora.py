"""The LoRA nodes on a double of ComfyUI's models: what the runner computes, on clones, and gone without a trace."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.hosts.comfyui import lora_apply
from sigmagraft.hosts.comfyui.lora_fields import BlocksNode, ScheduleNode
from sigmagraft.hosts.comfyui.lora_nodes import NONE, LoadLora, LoraStack

from ...loras.small import Small
from ..patcher import ModelPatcher, WeightAdapterBase
from ..small_lora import SIGMAS, Held, by_runner, inputs, write_files
from .double import Executor

TOKENS = torch.arange(3, 80)[None]


def read(encoder: Any) -> Tensor:
    """The hidden states of a few words."""
    embeds = encoder.embed(TOKENS)
    return encoder(embeds, torch.tensor([9]))[0]


class Clip:
    def __init__(self, patcher: ModelPatcher) -> None:
        self.patcher = patcher

    def clone(self) -> Clip:
        return Clip(self.patcher.clone())


class World:
    """A ComfyUI with one small model: what a MODEL answers at a sigma, what a CLIP answers."""

    def __init__(self, folder: Path) -> None:
        self.small, self.folder = Small(), folder
        write_files(folder, self.small.targets)
        network = Held(diffusion_model=self.small.networks["unet"])
        text = Held(clip_l=Held(transformer=self.small.networks["text_encoder"]))
        self.model, self.clip = ModelPatcher(network), Clip(ModelPatcher(text))

    @torch.inference_mode()
    def answer(self, model: ModelPatcher, sigma: float) -> Tensor:
        """One evaluation as in a walk down SIGMAS."""
        model.load()
        network = model.model
        network.current_patcher = model  # type: ignore[assignment]
        x, _, context = inputs()

        def evaluate(x: Tensor, t: Tensor, *rest: Any) -> Tensor:
            return network.diffusion_model(x, torch.tensor([400.0, 400.0]), context)  # type: ignore[operator]

        def walk() -> Tensor:
            options = {"sample_sigmas": torch.tensor(SIGMAS)}
            executor = Executor(evaluate, network, model.wrappers.get("apply_model", []))
            return executor(x, torch.tensor([sigma, sigma]), None, context, None, options)

        try:
            return Executor(walk, None, model.wrappers.get("outer_sample", []))()
        finally:
            model.unload()

    @torch.inference_mode()
    def encoded(self, clip: Clip) -> Tensor:
        clip.patcher.load()
        try:
            return read(clip.patcher.model.clip_l.transformer)  # type: ignore[union-attr]
        finally:
            clip.patcher.unload()

    def by_runner(self, text: str, sigma: float) -> Tensor:
        x, t, context = inputs()
        return by_runner(
            self.small, self.folder, text, sigma, lambda: self.small.networks["unet"](x, t, context)
        )


@pytest.fixture
def world(tmp_path: Path, host: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    names = lambda kind: sorted(file.name for file in tmp_path.glob("*.safetensors"))  # noqa: E731
    paths = SimpleNamespace(
        folder_names_and_paths={"loras": ()},
        get_filename_list=names,
        get_full_path=lambda kind, name: str(tmp_path / name) if (tmp_path / name).is_file() else None,
    )
    monkeypatch.setitem(__import__("sys").modules, "folder_paths", paths)

    def comfy(name: str) -> Any:
        return {
            "weight_adapter": SimpleNamespace(WeightAdapterBase=WeightAdapterBase),
            "patcher_extension": SimpleNamespace(
                WrappersMP=SimpleNamespace(APPLY_MODEL="apply_model", OUTER_SAMPLE="outer_sample")
            ),
            "model_patcher": SimpleNamespace(
                get_key_weight=lambda m, key: (m.get_parameter(key), None, None)
            ),
        }[name]

    monkeypatch.setattr(lora_apply, "comfy", comfy)
    return made


def stack(world: World, more: str, **given: Any) -> tuple[Any, Any, str]:
    return LoraStack().make(world.model, more, clip=world.clip, **given)["result"]


@pytest.mark.parametrize(
    "text",
    [
        "ink:0.8",
        "many:0.7:blocks=IN=0,OUT=0.5",
        "ia3",
        "peft:1:sigma=0@10,1@2",
        "many:0.7:step=0@0,1@4",
        "many:0.5 ink:0.5:0.7 peft:0.5:fraction=1@0,0@0.9",
    ],
)
def test_an_evaluation_is_the_runner_s(world: World, text: str) -> None:
    plain, before = world.answer(world.model, 5.0), world.small.hashes()
    model, _, report = stack(world, text.replace(" ", "\n"))
    for sigma in (14.0, 5.0, 1.0):
        assert torch.allclose(world.answer(model, sigma), world.by_runner(text, sigma), atol=1e-5)
    assert not torch.allclose(world.answer(model, 1.0), plain, atol=1e-3)
    # nothing of it is left: the model given, its weights, its layers
    assert torch.equal(world.answer(world.model, 5.0), plain)
    assert world.small.hashes() == before
    assert not any(layer._forward_hooks for layer in world.model.model.modules())
    assert report.count("tensors ") == len(text.split())


def test_text_encoders_are_changed_where_a_clip_is_connected(world: World) -> None:
    plain = world.encoded(world.clip)
    _, clip, _ = stack(world, "ink:1:te=0.5:unet=0")
    x = world.encoded(clip)
    assert not torch.allclose(x, plain, atol=1e-3)
    assert torch.equal(world.encoded(world.clip), plain)
    encoder = world.small.networks["text_encoder"]
    expected = by_runner(world.small, world.folder, "ink:1:te=0.5:unet=0", 1.0, lambda: read(encoder))
    assert torch.allclose(x, expected, atol=1e-5)
    _, none, report = LoadLora().make(world.model, "ink.safetensors", 1.0, 1.0)["result"]
    assert none is None
    assert "no text encoder is connected" in report


def test_loaders_one_after_the_other_are_a_stack_in_any_order(world: World) -> None:
    (blocks,) = BlocksNode().make("ALL", "IN=0,OUT=0.5")
    (curve,) = ScheduleNode().make("sigma", "0@10,1@2", "")
    first, _, _ = LoadLora().make(world.model, "many.safetensors", 0.5, 0.5, clip=world.clip, blocks=blocks)[
        "result"
    ]
    first, _, _ = LoadLora().make(first, "peft.safetensors", 0.8, 0.8, schedule=curve)["result"]
    other, _, _ = LoadLora().make(world.model, "peft.safetensors", 0.8, 0.8, schedule=curve)["result"]
    other, _, _ = LoadLora().make(other, "many.safetensors", 0.5, 0.5, blocks=blocks)["result"]
    expected = world.by_runner("many:0.5:blocks=IN=0,OUT=0.5 peft:0.8:sigma=0@10,1@2", 4.0)
    assert torch.allclose(world.answer(first, 4.0), expected, atol=1e-5)
    assert torch.allclose(world.answer(other, 4.0), expected, atol=1e-5)


def test_schedules_multiply_and_windows_leave_out(world: World) -> None:
    (one,) = ScheduleNode().make("fraction", "0@0,1@1", "")
    (both,) = ScheduleNode().make("step", "", "2-3", one)
    assert len(both) == 2
    model, _, _ = LoadLora().make(world.model, "ink.safetensors", 1.0, 1.0, schedule=both)["result"]
    assert torch.equal(world.answer(model, 14.0), world.answer(world.model, 14.0))
    assert not torch.allclose(world.answer(model, 5.0), world.answer(world.model, 5.0), atol=1e-3)


def test_rows_a_stack_of_another_pack_and_lines_act_together(world: World) -> None:
    rows = {"lora_1": "ink.safetensors", "weight_1": 0.3, "lora_2": NONE, "weight_2": 1.0}
    given = [("ia3.safetensors", 0.5, 0.5), (NONE, 1.0, 1.0)]
    model, _, report = stack(world, "\n<lora:peft:0.5>\n", lora_stack=given, **rows)
    expected = world.by_runner("ink:0.3 ia3:0.5 peft:0.5", 5.0)
    assert torch.allclose(world.answer(model, 5.0), expected, atol=1e-5)
    assert [name for name in ("ia3", "ink", "peft") if f"{name}.safetensors" in report] == [
        "ia3",
        "ink",
        "peft",
    ]


def test_a_file_for_another_model_is_refused_and_nothing_changed(world: World) -> None:
    before = world.small.hashes()
    with pytest.raises(FileError, match="made for a weight of 999"):
        LoadLora().make(world.model, "other.safetensors", 1.0, 1.0, clip=world.clip)
    with pytest.raises(FileError, match="no such file"):
        LoadLora().make(world.model, "none.safetensors", 1.0, 1.0)
    assert world.small.hashes() == before
    assert not world.model.patches


def test_texts_are_read_before_anything_runs(world: World) -> None:
    assert LoraStack.VALIDATE_INPUTS("ink:0.8\n\npeft:1:blocks=OUTALL") is True
    assert "did you mean 'blocks'" in str(LoraStack.VALIDATE_INPUTS("ink:1:block=ALL"))
    assert "did you mean 'ink'" in str(LoraStack.VALIDATE_INPUTS("inky:1"))
    assert "hub id" in str(LoraStack.VALIDATE_INPUTS("ink:1:weight_name=x"))
    assert "no such file" in str(LoadLora.VALIDATE_INPUTS("none.safetensors"))
    assert "IN99" in str(BlocksNode.VALIDATE_INPUTS("IN99=1"))
    assert "value@place" in str(ScheduleNode.VALIDATE_INPUTS("sigma", "0.5", ""))


def test_a_file_that_changed_makes_the_node_run_again(world: World) -> None:
    before = LoadLora.IS_CHANGED("ink.safetensors"), LoraStack.IS_CHANGED("ink:1", lora_1="ia3.safetensors")
    import os

    for name in ("ink", "ia3"):
        os.utime(world.folder / f"{name}.safetensors", ns=(2**60, 2**60))
    after = LoadLora.IS_CHANGED("ink.safetensors"), LoraStack.IS_CHANGED("ink:1", lora_1="ia3.safetensors")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_model_of_another_kind_is_given_to_the_host_s_loader(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flux(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.diffusion_model = Held(double_blocks=torch.nn.Linear(2, 2))

    asked: list[Any] = []

    def load(model: Any, clip: Any, tensors: Any, unet: float, text: float) -> tuple[Any, Any]:
        asked.append((tensors, unet, text))
        return "patched", "text"

    comfy = {
        "utils": SimpleNamespace(load_torch_file=lambda path, safe_load: Path(path).name),
        "sd": SimpleNamespace(load_lora_for_models=load),
    }
    monkeypatch.setattr(lora_apply, "comfy", comfy.__getitem__)
    model, clip, report = LoadLora().make(ModelPatcher(Flux()), "ink.safetensors", 0.8, 0.4)["result"]
    assert (model, clip, asked) == ("patched", "text", [("ink.safetensors", 0.8, 0.4)])
    assert "ComfyUI's own loader" in report
    (curve,) = ScheduleNode().make("sigma", "0@10,1@2", "")
    with pytest.raises(OptionError, match="not SD1, SD2 or SDXL"):
        LoadLora().make(ModelPatcher(Flux()), "ink.safetensors", 1.0, 1.0, schedule=curve)
