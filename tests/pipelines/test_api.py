"""What people do with a pipeline around the call: components, callbacks, saving, single files, bad arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sigmagraft
from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.pipelines import StableDiffusionPipeline

from ..standalone.families import Reference, single_file
from .reference import make

QUICK: dict[str, Any] = {"height": 64, "width": 64, "num_inference_steps": 2, "output_type": "latent"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("api")
    make("sd1", root)
    return root / "sd1"


@pytest.fixture
def pipe(folder: Path) -> StableDiffusionPipeline:
    found = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    found.set_progress_bar_config(disable=True)
    return found


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def drawn(pipe: Any, **more: Any) -> torch.Tensor:
    return pipe("a cat", generator=seed(), **{**QUICK, **more}).images


def test_what_it_prints(pipe: StableDiffusionPipeline) -> None:
    shown = repr(pipe)
    assert shown.startswith("StableDiffusionPipeline {")
    said = json.loads(shown.partition(" ")[2])
    assert said["scheduler"] == ["sigmagraft", "PNDMScheduler"]
    assert said["unet"] == ["sigmagraft", "UNet2DConditionModel"]


def test_swapping_the_scheduler(pipe: StableDiffusionPipeline, folder: Path) -> None:
    before = drawn(pipe)
    pipe.scheduler = sigmagraft.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    after = drawn(pipe)
    assert not torch.equal(before, after)
    ddim = sigmagraft.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    given = sigmagraft.DiffusionPipeline.from_pretrained(folder, scheduler=ddim)
    assert given.scheduler is ddim


def test_components_make_another_pipeline_without_a_copy(pipe: StableDiffusionPipeline) -> None:
    other = sigmagraft.StableDiffusionImg2ImgPipeline(**pipe.components)
    assert other.unet is pipe.unet
    image = Image.new("RGB", (64, 64), "red")
    more = {"image": image, "strength": 0.5, "num_inference_steps": 4, "output_type": "pil"}
    assert other("a cat", generator=seed(), **more).images[0].size == (64, 64)
    assert sigmagraft.AutoPipelineForInpainting.from_pipe(pipe).vae is pipe.vae


def test_auto_pipelines(folder: Path) -> None:
    for auto, task in (("Text2Image", ""), ("Image2Image", "Img2Img"), ("Inpainting", "Inpaint")):
        made = getattr(sigmagraft, f"AutoPipelineFor{auto}").from_pretrained(folder)
        assert type(made).__name__ == f"StableDiffusion{task}Pipeline"


def test_the_callback_sees_and_changes_and_ends_the_run(pipe: StableDiffusionPipeline) -> None:
    seen = []

    def each(owner: Any, index: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        seen.append((index, int(timestep), set(state)))
        owner.stopped = index == 1
        return {"latents": torch.zeros_like(state["latents"])}

    got = drawn(pipe, num_inference_steps=5, callback_on_step_end=each)
    assert [index for index, _, _ in seen] == [0, 1]
    assert all(names == {"latents"} for _, _, names in seen)
    assert not got.any()


def test_embeddings_in_place_of_words(pipe: StableDiffusionPipeline) -> None:
    kept: dict[str, Any] = {}

    def keep(owner: Any, index: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        kept.update(state)
        return {}

    told = ("latents", "prompt_embeds")
    words = drawn(
        pipe, guidance_scale=0.0, callback_on_step_end=keep, callback_on_step_end_tensor_inputs=told
    )
    given = pipe(prompt_embeds=kept["prompt_embeds"], guidance_scale=0.0, generator=seed(), **QUICK).images
    assert torch.equal(words, given)


def test_as_a_tuple_and_as_arrays(pipe: StableDiffusionPipeline) -> None:
    assert torch.equal(drawn(pipe), pipe("a cat", generator=seed(), return_dict=False, **QUICK)[0])
    array = drawn(pipe, output_type="np")
    assert array.shape == (1, 64, 64, 3)
    assert 0 <= array.min() <= array.max() <= 1


def test_dtype(pipe: StableDiffusionPipeline) -> None:
    assert pipe.to(torch.bfloat16) is pipe
    assert (pipe.dtype, pipe.vae.dtype) == (torch.bfloat16, torch.bfloat16)
    assert drawn(pipe).isfinite().all()


def test_a_saved_pipeline_is_loaded_by_both(pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    expected = drawn(pipe)
    pipe.save_pretrained(tmp_path / "saved")
    assert torch.equal(drawn(sigmagraft.DiffusionPipeline.from_pretrained(tmp_path / "saved")), expected)
    theirs = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "saved", safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    away = theirs("a cat", generator=seed(), **QUICK).images - expected
    assert away.abs().max() <= 1e-4 * expected.abs().max()


def test_a_saved_network_is_loaded_by_diffusers(
    pipe: StableDiffusionPipeline, folder: Path, tmp_path: Path
) -> None:
    for part, kind in ((pipe.unet, diffusers.UNet2DConditionModel), (pipe.vae, diffusers.AutoencoderKL)):
        part.save_pretrained(tmp_path / kind.__name__, variant="non_ema")
        state = kind.from_pretrained(tmp_path / kind.__name__, variant="non_ema").state_dict()
        original = load_file(folder / part.folder / "diffusion_pytorch_model.safetensors")
        assert all(torch.equal(state[name], value) for name, value in original.items())


def test_one_file(pipe: StableDiffusionPipeline, folder: Path, tmp_path: Path) -> None:
    """The same weights from one file, whose scheduler is found from what the file is."""
    from safetensors.torch import save_file

    theirs = diffusers.DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    from ..standalone.families import FAMILIES

    made = Reference(FAMILIES["sd1"], theirs.unet, theirs.vae, [theirs.text_encoder], folder, tmp_path / "a")
    save_file(single_file(made), tmp_path / "one.safetensors")
    one = StableDiffusionPipeline.from_single_file(tmp_path / "one.safetensors")
    one.set_progress_bar_config(disable=True)
    assert type(one.scheduler) is sigmagraft.DDIMScheduler
    one.scheduler = pipe.scheduler
    assert torch.allclose(drawn(one), drawn(pipe), rtol=1e-4, atol=1e-5)
    one.save_pretrained(tmp_path / "folder")
    back = sigmagraft.DiffusionPipeline.from_pretrained(tmp_path / "folder")
    assert torch.allclose(drawn(back), drawn(one), rtol=1e-4, atol=1e-5)


IMAGE = Image.new("RGB", (64, 64))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"guidance": 3.0}, "unknown argument 'guidance'.*guidance_scale"),
        ({"output_type": "jpg"}, "output_type 'jpg'"),
        ({"height": 60}, "height 60.*multiple of 8"),
        ({"timesteps": [9, 5], "sigmas": [1.0]}, "timesteps and sigmas"),
        ({"latents": torch.zeros(1, 4, 9, 9)}, r"latents of shape \(1, 4, 9, 9\)"),
        ({"negative_prompt": ["a", "b"]}, "2 prompts beside 1"),
        ({"prompt_embeds": torch.zeros(1, 77, 64)}, "prompt and prompt_embeds"),
        ({"cross_attention_kwargs": {"gligen": 1}}, "cross_attention_kwargs with 'gligen'"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "with 'noise'"),
    ],
)
def test_bad_arguments(pipe: StableDiffusionPipeline, given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        drawn(pipe, **given)


@pytest.mark.parametrize("strength", [-0.1, 0.0, 1.5])
def test_bad_strength(pipe: StableDiffusionPipeline, strength: float) -> None:
    other = sigmagraft.StableDiffusionImg2ImgPipeline(**pipe.components)
    with pytest.raises(OptionError, match="strength"):
        other("a cat", image=IMAGE, strength=strength)


def test_bad_folders(pipe: StableDiffusionPipeline, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no model_index\.json"):
        sigmagraft.DiffusionPipeline.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipelin"}')
    with pytest.raises(OptionError, match="did you mean 'StableDiffusionPipeline'"):
        sigmagraft.DiffusionPipeline.from_pretrained(tmp_path)
    with pytest.raises(OptionError, match="no component has the variant 'fp16'"):
        sigmagraft.DiffusionPipeline.from_pretrained(folder, variant="fp16")
    with pytest.raises(OptionError, match="unknown argument 'torch_dtyp'"):
        sigmagraft.DiffusionPipeline.from_pretrained(folder, torch_dtyp=torch.float16)
    with pytest.raises(FileError, match="no VAE in it"):
        sigmagraft.AutoencoderKL.from_pretrained(folder, subfolder="unet")


def test_pictures_in_and_out(tmp_path: Path) -> None:
    colours = [Image.new("RGB", (8, 6), name) for name in ("red", "lime", "blue", "white")]
    colours[0].save(tmp_path / "red.png")
    assert sigmagraft.load_image(tmp_path / "red.png").getpixel((0, 0)) == (255, 0, 0)
    grid = sigmagraft.make_image_grid(colours, rows=2, cols=2)
    assert grid.size == (16, 12)
    assert grid.getpixel((9, 1)) == (0, 255, 0)
    assert grid.getpixel((1, 7)) == (0, 0, 255)
    path = sigmagraft.export_to_gif(colours, tmp_path / "a.gif", fps=5)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["duration"]) == (4, 200)
    with pytest.raises(OptionError, match="3 pictures"):
        sigmagraft.make_image_grid(colours[:3], 2, 2)
    with pytest.raises(FileError, match="cannot write"):
        sigmagraft.export_to_gif(colours, tmp_path / "no" / "a.gif")


def test_the_safety_checker_blackens_what_its_own_arithmetic_finds(tmp_path: Path) -> None:
    """Against diffusers' on the same random weights, thresholds set so that some pictures pass."""
    from transformers import CLIPConfig

    from sigmagraft.pipelines.safety import StableDiffusionSafetyChecker

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 8, "projection_dim": 16}
    torch.manual_seed(0)
    kind = diffusers.pipelines.stable_diffusion.safety_checker.StableDiffusionSafetyChecker
    theirs = kind(CLIPConfig(vision_config=vision, text_config=small, projection_dim=16)).eval()
    pictures = [
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (40, 48, 3), "uint8")) for k in range(6)
    ]
    with torch.no_grad():
        theirs.concept_embeds.normal_()
        theirs.special_care_embeds.normal_()
        theirs.special_care_embeds_weights.fill_(0.9)
        theirs.concept_embeds_weights.fill_(0.45)
    theirs.save_pretrained(tmp_path)
    ours = StableDiffusionSafetyChecker.from_pretrained(tmp_path)
    from sigmagraft.controlnet.ip_image import pixels

    arrays = np.stack([np.asarray(p, np.float32) / 255 for p in pictures])
    _, expected = theirs(images=arrays, clip_input=pixels(pictures, 32))
    got, found = ours.checked(list(pictures))
    assert found == [bool(bad) for bad in expected]
    assert [not np.asarray(image).any() for image in got] == found
