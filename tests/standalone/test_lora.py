"""Adapters on the pipeline: in prompts and settings, by name, over the run; what goes in comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.loras import fuse
from sigmagraft.loras.curve import place_of
from sigmagraft.loras.fuse import merged
from sigmagraft.samplers import Recording
from sigmagraft.standalone.lora_source import Folders, locate_lora, lora_hash
from sigmagraft.standalone.lora_stack import plain
from sigmagraft.standalone.pipeline import Pipeline

from ..loras.files import lora, matrices, mixed
from ..loras.small import bytes_of, write
from .small import small_model

DRAW: dict[str, Any] = {"steps": 4, "seed": 5, "sampler": "euler", "cfg": 3.0}


@pytest.fixture
def pipe(tmp_path: Path) -> Pipeline:
    made = Pipeline(small_model())
    modules = matrices(made.loras.targets)
    write(tmp_path / "ink.safetensors", lora(modules))
    write(tmp_path / "wash.safetensors", lora(modules[::2], seed=3))
    kept = [m for m in modules if min(m.shapes["weight"][:2]) >= 32]
    write(tmp_path / "many.safetensors", mixed(kept))
    made.loras.folders = Folders([tmp_path])
    return made


def drawn(pipe: Pipeline, prompt: str = "a house", **settings: Any) -> Tensor:
    return pipe(prompt, **{**DRAW, **settings}).latents


def hashes(pipe: Pipeline) -> dict[str, int]:
    networks = [pipe.model.unet, *pipe.model.texts]
    return {
        f"{i}.{name}": hash(bytes_of(value))
        for i, network in enumerate(networks)
        for name, value in plain(network).named_parameters()
    }


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-3 * other.abs().max().item())


def far(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > 5e-3 * other.abs().max())


def test_a_prompt_an_option_and_a_loaded_name_draw_the_same(pipe: Pipeline, tmp_path: Path) -> None:
    before, plain_picture = hashes(pipe), drawn(pipe)
    tagged = drawn(pipe, "a house<lora:ink:0.6>")
    assert far(tagged, plain_picture)
    assert torch.equal(drawn(pipe, loras=["ink:0.6"]), tagged)
    assert torch.equal(drawn(pipe, loras=[f"{tmp_path / 'ink.safetensors'}:0.6"]), tagged)
    assert torch.equal(drawn(pipe), plain_picture)
    assert hashes(pipe) == before
    pipe.load_lora_weights("ink", "mine")
    pipe.set_adapters("mine", 0.6)
    assert close(drawn(pipe), tagged)
    assert hashes(pipe) == before  # kept apart
    pipe.fuse_lora()
    assert hashes(pipe) != before
    assert torch.equal(drawn(pipe), tagged)
    pipe.unfuse_lora()
    assert hashes(pipe) == before
    spare = pipe.loras.wiring.fused.spare
    assert spare
    pipe.fuse_lora()
    assert not spare
    pipe.unfuse_lora()
    assert close(drawn(pipe), tagged)
    assert not pipe.loras.wiring.fused.spare  # a run gives back what waits for a merge
    pipe.unload_lora_weights()
    assert torch.equal(drawn(pipe), plain_picture)


def test_the_text_encoder_apart(pipe: Pipeline) -> None:
    assert far(drawn(pipe, "a house<lora:ink:0:0.9>"), drawn(pipe))
    unet = drawn(pipe, "a house<lora:ink:0.9:te=0>")
    assert torch.equal(unet, drawn(pipe, "a house<lora:ink:unet=0.9:te=0>"))
    assert not torch.equal(unet, drawn(pipe, "a house<lora:ink:0.9>"))
    both = drawn(pipe, "a house<lora:ink:0.9:te=0> <lora:ink:te=0.9:unet=0>")
    assert close(both, drawn(pipe, "a house <lora:ink:0.9>"))


def test_a_constant_curve_is_the_weight_and_a_window_ends_it(pipe: Pipeline) -> None:
    constant = drawn(pipe, "a house<lora:ink:0.9>")
    assert close(drawn(pipe, "a house<lora:ink:0.9:sigma=1@14,1@2>"), constant)
    assert close(drawn(pipe, "a house<lora:ink:0.9:fraction=1@0>"), constant)
    off = drawn(pipe, "a house<lora:ink:0.9:te=0:sigma=0@14>")
    assert torch.equal(off, drawn(pipe))
    ramp = drawn(pipe, "a house<lora:ink:0.9:sigma=0@14,1@2>")
    assert far(ramp, constant)
    assert far(ramp, off)


def test_a_curve_follows_every_evaluation(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    move = pipe.loras.at
    monkeypatch.setattr(pipe.loras, "at", lambda place: (places.append(place), move(place)))
    drawn(pipe, "a house<lora:many:0.5:step=0@0,1@4>", sampler="heun", schedule="karras")
    assert [place.step for place in places[:7]] == pytest.approx([0, 1, 1, 2, 2, 3, 3])
    assert {place.steps for place in places} == {4}


@pytest.mark.parametrize("sigma", [14.0, 10.0, 9.9, 4.0, 1.0, 0.5, 0.0, 20.0])
def test_a_sigma_stands_between_two_steps(sigma: float) -> None:
    sigmas = [14.0, 6.0, 1.0, 0.0]
    step = place_of(sigma, sigmas).step
    assert 0.0 <= step <= 3.0
    if sigma <= 14.0:
        low = int(step)
        high = min(low + 1, 3)
        assert sigmas[low] + (sigmas[high] - sigmas[low]) * (step - low) == pytest.approx(sigma)


def test_blocks_in_a_prompt(pipe: Pipeline) -> None:
    outside = drawn(pipe, "a house<lora:ink:1:te=0:blocks=IN=0,MID=0,OUT=0>")
    assert far(drawn(pipe, "a house<lora:ink:1:te=0>"), outside)  # time embedding and last convolution stay
    split = "a house<lora:ink:1:te=0:blocks=OUT=0> <lora:ink:1:te=0:blocks=IN=0,MID=0>"
    once = "a house<lora:ink:1:te=0> <lora:ink:1:te=0:blocks=IN=0,MID=0,OUT=0>"
    assert close(drawn(pipe, split), drawn(pipe, once))


def test_prompts_of_a_batch_that_differ_are_drawn_one_by_one(pipe: Pipeline) -> None:
    prompts = ["a house<lora:ink:0.5>", "a house<lora:wash:0.8>", "a house"]
    together = drawn(pipe, prompts, batch=3)  # type: ignore[arg-type]
    for i, prompt in enumerate(prompts):
        assert close(together[i : i + 1], drawn(pipe, prompt, seed=5 + i))


def test_the_settings_tell_of_adapters_and_draw_the_same_again(pipe: Pipeline, tmp_path: Path) -> None:
    result = pipe("a house<lora:ink:0.6>", loras=["wash:0.3"], **DRAW)
    assert result.settings["prompt"] == "a house<lora:ink:0.6>"
    assert result.settings["loras"] == ["wash:0.3"]
    assert result.settings["lora_hashes"] == {
        name: lora_hash(tmp_path / f"{name}.safetensors") for name in ("wash", "ink")
    }
    kept = {k: v for k, v in result.settings.items() if k not in ("model", "lora_hashes")}
    assert torch.equal(pipe(**kept).latents, result.latents)


def test_drawing_again_with_the_same_adapters_merges_once(pipe: Pipeline) -> None:
    drawn(pipe, "a house<lora:ink:0.6>")
    addresses = {key: value.data_ptr() for key, value in pipe.loras.wiring.fused.parameters.items()}
    drawn(pipe, "another <lora:ink:0.6>", seed=6)
    assert {key: value.data_ptr() for key, value in pipe.loras.wiring.fused.parameters.items()} == addresses


def test_weights_are_ordinary_tensors_after_a_run(pipe: Pipeline) -> None:
    """A run goes on in inference mode; what it merges must still be good for training."""
    drawn(pipe, "a house<lora:ink:0.6>")
    assert not any(value.is_inference() for value in pipe.loras.wiring.fused.parameters.values())
    pipe.loras.clear()


def test_bundled_embeddings_serve_while_their_adapter_is_in_use(pipe: Pipeline, tmp_path: Path) -> None:
    tensors = lora(matrices(pipe.loras.targets)[:3], size=0.0)
    tensors["bundle_emb.star.string_to_param.*"] = torch.randn(2, 64) * 8
    write(tmp_path / "starry.safetensors", tensors)
    with_star = drawn(pipe, "a house, embedding:star <lora:starry:1>", emphasis="comfyui")
    assert far(with_star, drawn(pipe, "a house, <lora:starry:1>", emphasis="comfyui"))
    with pytest.raises(OptionError, match="no embedding is named 'star'"):
        drawn(pipe, "a house, embedding:star", emphasis="comfyui")


BAD: dict[str, tuple[Callable[[Pipeline], Any], type[Exception], str]] = {
    "no such adapter": (lambda p: drawn(p, "x<lora:inc:1>"), FileError, "did you mean 'ink'"),
    "no number": (lambda p: drawn(p, "x<lora:ink:much>"), OptionError, "weight 'much'"),
    "a name twice": (lambda p: p.load_lora_weights("ink", "one"), OptionError, "named 'one' already"),
    "weights": (lambda p: p.set_adapters(["one"], [1.0, 2.0]), OptionError, "2 weights for 1 adapters"),
    "named twice": (lambda p: p.set_adapters(["one", "one"]), OptionError, "named twice"),
    "unknown adapter": (lambda p: p.set_adapters("onne"), OptionError, "did you mean 'one'"),
    "unknown block": (
        lambda p: p.set_adapters("one", {"unet": {"dwn": 1}}),
        OptionError,
        "did you mean 'down'",
    ),
    "infinite": (lambda p: p.set_adapters("one", float("inf")), OptionError, "weight inf"),
    "unknown component": (lambda p: p.fuse_lora(components=["vae"]), OptionError, "unknown component"),
    "deleting": (lambda p: p.delete_adapters("two"), OptionError, "no adapter is named 'two'"),
    "not there": (lambda p: p.load_lora_weights("/nowhere/x.safetensors"), FileError, "no such adapter"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_mistake_leaves_everything_as_it_was(kind: str, pipe: Pipeline) -> None:
    act, error, sentence = BAD[kind]
    pipe.load_lora_weights("wash", "one")
    pipe.fuse_lora()
    before, picture = hashes(pipe), drawn(pipe)
    with pytest.raises(error, match=sentence):
        act(pipe)
    assert hashes(pipe) == before
    assert pipe.get_active_adapters() == ["one"]
    assert pipe.fused_loras == {"one"}
    assert torch.equal(drawn(pipe), picture)


def test_a_broken_second_adapter_does_not_let_the_first_in(pipe: Pipeline, tmp_path: Path) -> None:
    tensors = lora(matrices(pipe.loras.targets))
    tensors[next(iter(tensors))].fill_(torch.nan)
    write(tmp_path / "broken.safetensors", tensors)
    before = hashes(pipe)
    with pytest.raises(FileError, match="NaN"):
        drawn(pipe, "a house<lora:ink:1><lora:broken:1>")
    assert hashes(pipe) == before


def test_unused_keys_are_told_once(pipe: Pipeline, tmp_path: Path) -> None:
    tensors = lora(matrices(pipe.loras.targets))
    tensors["lora_unet_input_blocks_0_0.glitter"] = torch.ones(1)
    write(tmp_path / "glitter.safetensors", tensors)
    told: list[str] = []
    pipe.loras.warn = told.append
    drawn(pipe, "a house<lora:glitter:0.1>")
    drawn(pipe, "a house<lora:glitter:0.1>")
    (line,) = told
    assert "lora_unet_input_blocks_0_0.glitter" in line


def test_disabled_adapters_wait(pipe: Pipeline) -> None:
    plain_picture = drawn(pipe)
    pipe.load_lora_weights("ink")
    picture = drawn(pipe)
    assert far(picture, plain_picture)
    pipe.disable_lora()
    assert torch.equal(drawn(pipe), plain_picture)
    pipe.enable_lora()
    assert torch.equal(drawn(pipe), picture)
    assert pipe.get_list_adapters() == {"unet": ["default_0"], "text_encoder": ["default_0"]}


def test_folders_and_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.safetensors", "b.safetensors", "sub/b.pt"):
        (tmp_path / name).write_bytes(b"")
    folders = Folders([tmp_path])
    assert locate_lora("a", folders) == locate_lora("a.safetensors", folders) == tmp_path / "a.safetensors"
    assert locate_lora("sub/b", folders) == tmp_path / "sub/b.pt"
    with pytest.raises(OptionError, match="2 adapters are named 'b'"):
        locate_lora("b", folders)
    assert locate_lora(tmp_path, None, {"weight_name": "b.safetensors"}) == tmp_path / "b.safetensors"
    with pytest.raises(FileError, match="weight_name"):
        locate_lora(tmp_path)
    with pytest.raises(FileError, match=r"did you mean 'a\.safetensors'"):
        locate_lora(tmp_path, None, {"weight_name": "aa.safetensors"})
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"")
    assert locate_lora(tmp_path).name == "pytorch_lora_weights.safetensors"
    with pytest.raises(FileError, match="no such folder"):
        Folders([tmp_path / "none"])


@pytest.mark.parametrize("prompt", ["a house<lora:ink:0.6>", "a house<lora:ink:0.6:sigma=0@14,1@2>"])
def test_a_stopped_run_goes_on_with_its_adapters(prompt: str, pipe: Pipeline, tmp_path: Path) -> None:
    whole = drawn(pipe, prompt)
    recording = Recording()
    pipe(prompt, recording=recording, stop_at=2, **DRAW)
    recording.save(tmp_path / "state")
    assert torch.equal(pipe.resume(Recording.load(tmp_path / "state")).latents, whole)


def test_a_header_that_names_another_model_is_told(pipe: Pipeline, tmp_path: Path) -> None:
    """Shapes alone cannot tell where an adapter changes only layers that both families have."""
    tensors = lora(matrices(pipe.loras.targets)[:2])
    path = write(
        tmp_path / "xl.safetensors", tensors, {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}
    )
    told: list[str] = []
    pipe.loras.warn = told.append
    report = pipe.load_lora_weights(path)
    assert told == ["xl.safetensors: its header says it was made for Stable Diffusion XL"]
    assert report.base == "Stable Diffusion XL"


def test_an_interrupted_merge_leaves_no_trace(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe.load_lora_weights("wash", "one")
    pipe.load_lora_weights("ink", "two")
    before, picture = hashes(pipe), drawn(pipe)
    count = iter(range(1000))

    def stopping(*args: Any, **kwargs: Any) -> Tensor:
        if next(count) == 20:
            raise KeyboardInterrupt
        return merged(*args, **kwargs)

    monkeypatch.setattr(fuse, "merged", stopping)
    with pytest.raises(KeyboardInterrupt):
        pipe.fuse_lora(adapter_names=["one", "two"])
    assert hashes(pipe) == before
    assert pipe.num_fused_loras == 0
    assert torch.equal(drawn(pipe), picture)
