"""Offloading: no weight is read that was not brought, only what has to be is there, pictures stay the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import sigmagraft
from sigmagraft.core.errors import OptionError
from sigmagraft.standalone.mover import Copies
from sigmagraft.standalone.offload import Offload

from ..animate.files import random_motion
from ..controlnet.ip_small import image_encoder, random_adapter
from .reference import make
from .test_adapters import controlnet, lora, picture

CPU = torch.device("cpu")


class Waiting(Copies):
    """A device's double: weights that were not brought are NaN, and who comes and goes is written down."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.real: dict[int, tuple[Tensor, Tensor]] = {}  # with the tensor, so that its id stays its own
        self.said: list[str] = []
        self.held: dict[str, int] = {}  # the most bytes that were there when a name had come

    @property
    def most(self) -> int:
        return max(self.held.values())

    def empty(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if tensor.is_floating_point() and id(tensor) not in self.real:
                self.real[id(tensor)] = tensor, tensor.data
                tensor.data = torch.full_like(tensor.data, torch.nan)

    def bring(self, name: str, tensors: Iterable[Tensor]) -> None:
        super().bring(name, tensors)
        self.said.append(name)
        there = {id(tensor): tensor.nbytes for own in self._brought.values() for tensor in own}
        self.held[name] = max(self.held.get(name, 0), sum(there.values()))

    def _come(self, tensor: Tensor) -> None:
        tensor.data = self.real.get(id(tensor), (tensor, tensor.data))[1]


class Emptying(Offload):
    """Whatever it moves waits as NaN from the moment that it is known."""

    _mover: Waiting

    def _add(self, stage: Any, name: str, network: torch.nn.Module) -> None:
        super()._add(stage, name, network)
        self._mover.empty([*network.parameters(), *network.buffers()])


def _all(network: torch.nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def weights(pipe: Any) -> list[Tensor]:
    return [tensor for network in pipe.networks.values() for tensor in _all(network)]


def drawn(pipe: Any, **given: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    told = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "pt", **given}
    return pipe("a red cat", generator=torch.Generator().manual_seed(0), **told).images


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("offload")
    make("sd1", root)
    return root


def order(said: list[str]) -> list[str]:
    """The networks as they come, each once for each time that it comes."""
    names = [name.removeprefix(".").partition(".")[0] for name in said]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


@pytest.mark.parametrize("mode", ["model", "sequential"])
def test_a_picture_with_a_lora_and_a_control(folders: Path, tmp_path: Path, mode: str) -> None:
    theirs = make("sd1", tmp_path)
    controlnet(theirs.unet, tmp_path / "control", 2)
    pipe = sigmagraft.StableDiffusionControlNetPipeline.from_pretrained(
        folders / "sd1", controlnet=sigmagraft.ControlNetModel.from_pretrained(tmp_path / "control")
    )
    lora(theirs, tmp_path / "lora", 0)
    pipe.load_lora_weights(tmp_path / "lora")
    hint = picture(1)
    expected = drawn(pipe, image=hint)
    waiting, all_of_them = Waiting(), weights(pipe)
    waiting.empty(all_of_them)
    pipe.offload_to(CPU, mode, waiting)
    found = drawn(pipe, image=hint)
    assert torch.allclose(found, expected, atol=1e-5)
    assert waiting._brought == {}
    stages = order(waiting.said)
    assert [name for name in stages if name not in ("unet", "controlnet")] == ["text_encoder", "vae"]
    largest = sum(t.nbytes for part in (pipe.unet, pipe.controlnet) for t in (*part.parameters(),))
    assert waiting.most <= (largest if mode == "model" else largest / 10)


def test_pictures_in_and_shared_networks(folders: Path) -> None:
    pipe = sigmagraft.AutoPipelineForImage2Image.from_pretrained(folders / "sd1")
    given = {"image": torch.rand(1, 3, 64, 64), "strength": 0.9, "height": None, "width": None}
    given = {k: v for k, v in given.items() if k not in ("height", "width")}
    expected = _img2img(pipe, **given)
    waiting = Waiting()
    waiting.empty(weights(pipe))
    pipe.offload_to(CPU, "model", waiting)
    other = sigmagraft.AutoPipelineForImage2Image.from_pipe(pipe)
    assert torch.equal(_img2img(other, **given), expected)
    assert waiting.said == ["text_encoder", "vae", "unet", "vae"]
    assert waiting._brought == {}


@pytest.mark.parametrize("mode", ["model", "sequential"])
def test_clips_and_image_prompts(folders: Path, tmp_path: Path, mode: str) -> None:
    pipe = sigmagraft.StableDiffusionPipeline.from_pretrained(folders / "sd1")
    config = pipe.unet.network.config
    motion = random_motion(tmp_path / "motion.safetensors", config, length=8)
    save_file(random_adapter("ipadapter-plus_sd15", config), tmp_path / "ip.safetensors")
    image_encoder().save_pretrained(tmp_path / "image_encoder")
    adapter = sigmagraft.MotionAdapter.from_single_file(motion)
    pipe = sigmagraft.AnimateDiffPipeline.from_pipe(pipe, motion_adapter=adapter)
    pipe.load_ip_adapter(str(tmp_path), subfolder="", weight_name="ip.safetensors")
    told = {"num_frames": 2, "ip_adapter_image": picture(1), "output_type": "latent"}
    expected = clip(pipe, **told)
    waiting = Waiting()
    waiting.empty(weights(pipe))
    pipe.offload_to(CPU, mode, waiting)
    pipe.ip_adapters._features.clear()  # or else the picture need not be looked at again
    assert torch.equal(clip(pipe, **told), expected)
    assert waiting._brought == {}
    came = {*order(waiting.said)}
    assert came == {"text_encoder", "image_encoder", "ip_adapter", "unet", "motion_adapter"}
    if mode == "model":
        together = (pipe.unet, pipe.motion_adapter)
        assert waiting.held["motion_adapter"] == sum(t.nbytes for n in together for t in _all(n))


def clip(pipe: Any, **given: Any) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(0)
    return pipe("a cat", num_inference_steps=2, height=64, width=64, generator=seed, **given).frames


def test_two_pipelines_that_share_networks_make_room_for_each_other(folders: Path) -> None:
    first = sigmagraft.DiffusionPipeline.from_pretrained(folders / "sd1")
    shared = {"vae": first.vae, "text_encoder": first.text_encoder}
    second = sigmagraft.StableDiffusionImg2ImgPipeline.from_pretrained(folders / "sd1", **shared)
    given = {"image": torch.rand(1, 3, 64, 64), "strength": 0.9}
    expected = drawn(first), _img2img(second, **given)
    waiting = Waiting()
    waiting.empty([*weights(first), *_all(second.unet)])
    first.offload_to(CPU, "model", waiting)
    second.offload_to(CPU, "model")
    assert first.offload is second.offload
    first.unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 77, 64))  # by hand: it stays until another runs
    assert torch.equal(_img2img(second, **given), expected[1])
    assert order(waiting.said) == ["unet", "text_encoder", "vae", "unet_2", "vae"]
    assert max(waiting.held[name] for name in ("unet", "unet_2")) == sum(t.nbytes for t in _all(first.unet))
    second.remove_all_hooks()
    assert second.offload is None
    assert torch.equal(drawn(first), expected[0])


def _img2img(pipe: Any, **given: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(0)
    return pipe("a cat", num_inference_steps=3, generator=seed, output_type="pt", **given).images


def test_fusing_takes_what_is_there_off_the_device_first(folders: Path, tmp_path: Path) -> None:
    lora(make("sd1", tmp_path), tmp_path / "lora", 0)
    pipe = sigmagraft.DiffusionPipeline.from_pretrained(folders / "sd1")
    expected = drawn(pipe)
    before = {key: value.clone() for key, value in pipe.unet.state_dict().items()}
    pipe.offload_to(CPU, "model", Copies(torch.device("cpu")))
    pipe.unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 77, 64))  # by hand: the UNet stays there
    pipe.load_lora_weights(tmp_path / "lora")
    pipe.fuse_lora()
    assert not torch.allclose(drawn(pipe), expected)
    pipe.unload_lora_weights()
    assert torch.equal(drawn(pipe), expected)
    assert all(torch.equal(value, before[key]) for key, value in pipe.unet.state_dict().items())
    pipe.remove_all_hooks()
    assert pipe.offload is None


def test_on_the_cpu_nothing_is_moved_and_a_device_that_is_not_here_is_refused(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = sigmagraft.DiffusionPipeline.from_pretrained(folders / "sd1")
    monkeypatch.setenv("SIGMAGRAFT_DEVICE", "cpu")
    pipe.enable_model_cpu_offload()
    assert pipe.offload is None
    assert pipe.device == CPU
    with pytest.raises(OptionError, match="not here"):
        pipe.enable_sequential_cpu_offload(device="xla")
    pipe.offload_to(CPU, "sequential")
    with pytest.raises(OptionError, match="remove_all_hooks"):
        pipe.to("cpu")
    assert pipe.to(torch.float16).dtype == torch.float16
