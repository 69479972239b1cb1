"""AnimateDiff's pipelines draw diffusers' latents, from the same folder, motion modules and seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file

import sigmagraft
from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.core.temporal import authors_name

from ..controlnet.ip_small import image_encoder, picture, random_adapter
from .reference import make
from .test_adapters import controlnet

SIZE, FRAMES = 32, 6
PROMPT = "a red cat, sitting on a mat"
KINDS = {  # base, most frames, in the middle as well
    "v1": ("sd1", 24, False),
    "v2": ("sd1", 32, True),
    "v3": ("sd1", 32, False),
    "sdxl": ("sdxl", 32, False),
}


def adapter(widths: list[int], length: int, middle: bool, folder: Path) -> Any:
    """diffusers' motion modules with random weights, saved; none of them is zero, as they are before training."""
    torch.manual_seed(5)
    made = diffusers.MotionAdapter(
        tuple(widths), motion_layers_per_block=2, motion_max_seq_length=length, use_motion_mid_block=middle
    ).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    made.save_pretrained(folder)
    return made


class Pair:
    """diffusers' pipeline of clips and ours, on one base and one file of motion modules."""

    def __init__(self, kind: str, root: Path) -> None:
        base, length, middle = KINDS[kind]
        made, self.base = make(base, root), root / base
        layers = made.unet.config.layers_per_block
        widths = list(made.unet.config.block_out_channels)
        assert layers == 2 or set(layers) == {2}
        self.folder = root / "motion"
        motion = adapter(widths, length, middle, self.folder)
        self.name = "AnimateDiffSDXLPipeline" if base == "sdxl" else "AnimateDiffPipeline"
        self.theirs = getattr(diffusers, self.name).from_pretrained(self.base, motion_adapter=motion)
        if base == "sdxl":  # diffusers leaves these layers of SDXL's at random values
            self.theirs.unet.add_embedding.load_state_dict(made.unet.add_embedding.state_dict())
        loaded = sigmagraft.MotionAdapter.from_pretrained(self.folder)
        self.ours = getattr(sigmagraft, self.name).from_pretrained(self.base, motion_adapter=loaded)
        self.use("DDIMScheduler")

    def use(self, name: str) -> None:
        config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear", "clip_sample": False}
        self.theirs.scheduler = getattr(diffusers, name).from_config(config)
        self.ours.scheduler = getattr(sigmagraft, name).from_config(config)

    def check(self, prompt: Any = PROMPT, away: float = 1e-4, **given: Any) -> Any:
        found = []
        for pipe in (self.theirs, self.ours):
            pipe.set_progress_bar_config(disable=True)
            told = {"num_frames": FRAMES, "height": SIZE, "width": SIZE, "num_inference_steps": 2}
            told |= {"generator": torch.Generator().manual_seed(3), "output_type": "latent", **given}
            found.append(pipe(prompt, **told).frames)
        theirs, ours = found
        assert ours.shape == theirs.shape
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        assert difference <= away
        return ours


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    return cache(lambda kind: Pair(kind, tmp_path_factory.mktemp(kind)))


@pytest.fixture(params=["v2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("v1", "v3", "sdxl"))])
def pair(request: pytest.FixtureRequest, made: Callable[[str], Pair]) -> Pair:
    return made(request.param)


@pytest.fixture
def v2(made: Callable[[str], Pair]) -> Pair:
    return made("v2")


def test_clips_of_every_version(pair: Pair) -> None:
    clip = pair.check(negative_prompt="blurry", guidance_scale=5.0)
    assert clip.shape[2] == FRAMES


def motion_lora(pipe: Any, folder: Path) -> None:
    """LoRAs with random weights on the UNet and on the motion modules: files of each, the last in two layouts."""
    torch.manual_seed(9)
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_out.0"], init_lora_weights="gaussian")
    pipe.unet.add_adapter(config)
    with torch.no_grad():
        for key, weight in pipe.unet.named_parameters():
            if "lora_B" in key:
                weight.normal_(std=0.1)
    tensors = {f"unet.{key}": value for key, value in get_peft_model_state_dict(pipe.unet).items()}
    pipe.unet.delete_adapters(pipe.unet.active_adapters())
    motion = {key: value for key, value in tensors.items() if "motion_modules" in key}
    save_file(motion, folder / "motion.safetensors")
    save_file({key: value for key, value in tensors.items() if key not in motion}, folder / "tcd.safetensors")
    authors = {}
    for key, value in motion.items():
        path, side = key.removeprefix("unet.").split(".lora_")
        block, _, name = authors_name(path).removesuffix(".0").rpartition(".")
        authors[f"{block}.processor.{name}_lora.{'up' if side[0] == 'B' else 'down'}.weight"] = value
    save_file(authors, folder / "authors.safetensors")


@pytest.mark.parametrize("file", [pytest.param("motion", marks=pytest.mark.slow), "authors"])
def test_the_guides_example_with_two_loras(v2: Pair, tmp_path: Path, file: str) -> None:
    motion_lora(v2.theirs, tmp_path)
    v2.use("TCDScheduler")
    told = {"guidance_scale": 0, "eta": 0.3, "num_frames": 24, "num_inference_steps": 5}
    try:
        for pipe, motion in ((v2.theirs, "motion"), (v2.ours, file)):
            pipe.load_lora_weights(tmp_path, weight_name="tcd.safetensors", adapter_name="tcd")
            pipe.load_lora_weights(tmp_path, weight_name=f"{motion}.safetensors", adapter_name="motion-lora")
            pipe.set_adapters(["tcd", "motion-lora"], adapter_weights=[1.0, 1.2])
        frames = v2.check(cross_attention_kwargs={"scale": 1}, **told)
        v2.ours.set_adapters(["tcd"], [1.0])
        less = v2.ours(
            PROMPT,
            height=SIZE,
            width=SIZE,
            output_type="latent",
            generator=torch.Generator().manual_seed(3),
            **told,
        ).frames
        assert (frames - less).abs().max() > 1e-3
    finally:
        for pipe in (v2.theirs, v2.ours):
            pipe.unload_lora_weights()
        v2.use("DDIMScheduler")


def test_an_image_prompt(v2: Pair, tmp_path: Path) -> None:
    save_file(random_adapter("ipadapter_sd15", v2.ours.unet.network.config), tmp_path / "ip.safetensors")
    encoder = image_encoder()
    encoder.save_pretrained(tmp_path / "image_encoder")
    plain = v2.check(guidance_scale=2.0)
    try:
        for pipe in (v2.theirs, v2.ours):
            pipe.load_ip_adapter(str(tmp_path), subfolder="", weight_name="ip.safetensors")
            pipe.set_ip_adapter_scale(0.7)
        clip = v2.check(guidance_scale=2.0, ip_adapter_image=picture(3, (28, 28)))
        assert (clip - plain).abs().max() > 1e-3
    finally:
        for pipe in (v2.theirs, v2.ours):
            pipe.unload_ip_adapter()


def test_two_clips_and_what_a_callback_gives(v2: Pair) -> None:
    def on_step_end(pipe: Any, index: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        assert given["latents"].shape == (2, 4, FRAMES, SIZE // 8, SIZE // 8)
        return {"latents": given["latents"] * 0.9}

    v2.use("EulerDiscreteScheduler")
    v2.check([PROMPT, "a dog"], guidance_scale=2.0, callback_on_step_end=on_step_end)
    v2.use("DDIMScheduler")


@pytest.mark.parametrize(
    "method", ["butterworth", *(pytest.param(m, marks=pytest.mark.slow) for m in ("gaussian", "ideal"))]
)
def test_free_init(v2: Pair, method: str) -> None:
    settings = {"num_iters": 2, "method": method, "use_fast_sampling": method == "ideal"}
    alone = v2.check()
    try:
        for pipe in (v2.theirs, v2.ours):
            pipe.enable_free_init(**settings)
        assert v2.ours.free_init_enabled
        again = v2.check()
    finally:
        for pipe in (v2.theirs, v2.ours):
            pipe.disable_free_init()
    assert (again - alone).abs().max() > 0.01


# of windows that do not end with the clip diffusers weighs the last frames by one weight and divides by another
@pytest.mark.parametrize(
    ("scheme", "frames", "noise"),
    [
        ("pyramid", 8, "shuffle_context"),
        pytest.param("flat", 9, "random", marks=pytest.mark.slow),
        pytest.param("delayed_reverse_sawtooth", 6, "shuffle_context", marks=pytest.mark.slow),
        pytest.param("flat", 4, "random", marks=pytest.mark.slow),
    ],
)
def test_free_noise(v2: Pair, scheme: str, frames: int, noise: str) -> None:
    settings = {"context_length": 4, "context_stride": 2, "weighting_scheme": scheme, "noise_type": noise}
    try:
        for pipe in (v2.theirs, v2.ours):
            pipe.enable_free_noise(**settings)
        if frames != 9:
            v2.check(num_frames=frames, guidance_scale=2.0)
        else:
            v2.check({0: "a cat", 3: "a dog", frames - 1: "a bird"}, num_frames=frames, guidance_scale=2.0)
    finally:
        for pipe in (v2.theirs, v2.ours):
            pipe.disable_free_noise()


def test_a_picture_for_each_frame(v2: Pair, tmp_path: Path) -> None:
    made = controlnet(diffusers.UNet2DConditionModel.from_pretrained(v2.base / "unet"), tmp_path, 1)
    ours = sigmagraft.ControlNetModel.from_pretrained(tmp_path)
    parts = {name: part for name, part in v2.theirs.components.items() if name != "controlnet"}
    theirs = diffusers.AnimateDiffControlNetPipeline(**parts, controlnet=made)
    drawn = sigmagraft.AnimateDiffControlNetPipeline.from_pipe(v2.ours, controlnet=ours)
    pixels = np.random.default_rng(0).integers(0, 255, (FRAMES, SIZE, SIZE, 3), "uint8")
    frames = [Image.fromarray(one) for one in pixels]
    both = object.__new__(Pair)
    both.theirs, both.ours = theirs, drawn
    both.check(conditioning_frames=frames, controlnet_conditioning_scale=0.5, guidance_scale=2.0)
    with pytest.raises(OptionError, match="5 conditioning_frames for 6 frames"):
        drawn(PROMPT, num_frames=6, conditioning_frames=frames[:5])


def test_a_video_drawn_anew(v2: Pair) -> None:
    both = object.__new__(Pair)
    parts = {name: part for name, part in v2.theirs.components.items()}
    both.theirs = diffusers.AnimateDiffVideoToVideoPipeline(**parts)
    both.ours = sigmagraft.AnimateDiffVideoToVideoPipeline.from_pipe(v2.ours)
    video = [picture(seed, (SIZE, SIZE)) for seed in range(4)]
    results = []
    for pipe in (both.theirs, both.ours):
        pipe.set_progress_bar_config(disable=True)
        told = {"num_inference_steps": 4, "strength": 0.5, "height": SIZE, "width": SIZE}
        seed = torch.Generator().manual_seed(3)
        results.append(pipe(video, PROMPT, generator=seed, output_type="latent", **told).frames)
    away = float((results[1] - results[0]).abs().max() / results[0].abs().max())
    assert results[0].shape == results[1].shape
    assert away <= 1e-4
    with pytest.raises(OptionError, match="no video"):
        both.ours(None, PROMPT)


def test_frames_as_people_ask_for_them(v2: Pair) -> None:
    told = {"num_frames": 3, "height": SIZE, "width": SIZE, "num_inference_steps": 1}
    for kind in ("pil", "np", "pt"):
        found = []
        for pipe in (v2.theirs, v2.ours):
            frames = pipe(PROMPT, generator=torch.Generator().manual_seed(1), output_type=kind, **told).frames
            found.append(np.stack([np.asarray(f) for f in frames[0]]) / 255 if kind == "pil" else frames)
        assert np.shape(found[0]) == np.shape(found[1])
        assert np.abs(np.asarray(found[0]) - np.asarray(found[1])).max() < (0.01 if kind == "pil" else 1e-4)
        assert kind != "pil" or isinstance(frames[0][0], Image.Image)


def test_motion_adapters_are_saved_as_diffusers_reads_them(v2: Pair, tmp_path: Path) -> None:
    pair = v2
    pair.ours.motion_adapter.save_pretrained(tmp_path / "saved", variant="fp16")
    again = diffusers.MotionAdapter.from_pretrained(tmp_path / "saved", variant="fp16")
    first = diffusers.MotionAdapter.from_pretrained(pair.folder)
    assert (
        dict(again.config).items() >= {k: v for k, v in first.config.items() if not k.startswith("_")}.items()
    )
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    file = sigmagraft.MotionAdapter.from_single_file(
        pair.folder / "diffusion_pytorch_model.safetensors"
    )  # as a file says less than a folder, the config comes from its sizes
    told = {k: v for k, v in first.config.items() if not k.startswith("_")}
    assert {**told, "block_out_channels": list(told["block_out_channels"])} == {
        **file.config,
        "block_out_channels": list(file.config["block_out_channels"]),
    }


@pytest.mark.slow
def test_a_saved_pipeline_is_read_by_diffusers_and_by_us(v2: Pair, tmp_path: Path) -> None:
    v2.ours.save_pretrained(tmp_path / "ours")
    v2.theirs.save_pretrained(tmp_path / "theirs")  # its UNet holds the motion modules as well
    both = object.__new__(Pair)
    both.theirs = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "ours")
    both.ours = sigmagraft.DiffusionPipeline.from_pretrained(tmp_path / "theirs")
    assert type(both.ours) is sigmagraft.AnimateDiffPipeline
    assert torch.equal(both.check(), v2.check())


def test_what_cannot_work_is_refused(v2: Pair, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="33 frames at once"):
        v2.ours(PROMPT, num_frames=33, height=SIZE, width=SIZE)
    with pytest.raises(OptionError, match="no motion_adapter"):
        sigmagraft.AnimateDiffPipeline.from_pretrained(v2.base)
    other = adapter([32, 32, 64, 64], 16, False, tmp_path / "other")
    assert other is not None
    with pytest.raises(FileError, match="another model"):
        sigmagraft.AnimateDiffPipeline.from_pretrained(
            v2.base, motion_adapter=sigmagraft.MotionAdapter.from_pretrained(tmp_path / "other")
        )
    with pytest.raises(OptionError, match="prompts at frames"):
        v2.ours({0: "a", 9: "b"}, num_frames=4, height=SIZE, width=SIZE)
    with pytest.raises(OptionError, match="fuse 'flta'"):
        v2.ours.enable_free_noise(weighting_scheme="flta")
    with pytest.raises(OptionError, match="filter 'sharp'"):
        v2.ours.enable_free_init(method="sharp")
