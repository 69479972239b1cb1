"""Pixel-space models: the network, the pipelines and the loop by hand, against diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

import sigmagraft
from sigmagraft.core.errors import FileError
from sigmagraft.pipelines.pixel_unet import PixelUNet, PixelUNetConfig

# the topologies of google/ddpm-cat-256 and google/ddpm-cifar10-32, narrower
CAT: dict[str, Any] = {
    "sample_size": 32,
    "block_out_channels": (32, 32, 64, 64),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
HEADS = {**CAT, "attention_head_dim": 16, "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0}


@pytest.fixture(scope="module", params=[CAT, HEADS], ids=["cat", "heads"])
def theirs(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(**request.param).eval()


@pytest.fixture
def folder(theirs: Any, tmp_path: Path) -> Path:
    """As the repositories lie: one folder with weights, configs and model_index.json."""
    theirs.save_pretrained(tmp_path)
    diffusers.DDPMScheduler(clip_sample=True, variance_type="fixed_small").save_pretrained(tmp_path)
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (tmp_path / "model_index.json").write_text(
        json.dumps({**index, "scheduler": ["diffusers", "DDPMScheduler"]})
    )
    return tmp_path


def near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max() / theirs.abs().max()) <= 1e-4


def test_the_loop_by_hand(theirs: Any, folder: Path) -> None:
    model = sigmagraft.UNet2DModel.from_pretrained(folder, use_safetensors=True)
    assert (model.config.sample_size, model.config.in_channels) == (32, 3)
    torch.manual_seed(0)
    noisy = torch.randn(1, model.config.in_channels, model.config.sample_size, model.config.sample_size)
    with torch.no_grad():
        residual = model(sample=noisy, timestep=2).sample
        near(residual, theirs(sample=noisy, timestep=2).sample)
    scheduler = sigmagraft.DDPMScheduler.from_pretrained(folder)
    stepped = scheduler.step(model_output=residual, timestep=2, sample=noisy).prev_sample
    assert stepped.shape == noisy.shape


@pytest.mark.parametrize("name", ["DDPMPipeline", "DDIMPipeline"])
def test_pipelines(theirs: Any, folder: Path, name: str) -> None:
    ours = sigmagraft.DiffusionPipeline.from_pretrained(folder)
    assert type(ours) is sigmagraft.DDPMPipeline
    kind = name.replace("Pipeline", "Scheduler")
    config = {**sigmagraft.DDPMScheduler.from_pretrained(folder).config}
    config.pop("_use_default_values", None)
    found = []
    for module, unet in ((diffusers, theirs), (sigmagraft, ours.unet)):
        pipe = getattr(module, name)(unet=unet, scheduler=getattr(module, kind).from_config(config))
        pipe.set_progress_bar_config(disable=True)
        seed = torch.Generator().manual_seed(4)
        found.append(pipe(batch_size=2, generator=seed, num_inference_steps=3, output_type="np").images)
    near(torch.from_numpy(found[1]), torch.from_numpy(found[0]))


def test_older_names_of_attention_and_saving(theirs: Any, folder: Path, tmp_path: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    new, old = ("to_q", "to_k", "to_v", "to_out.0"), ("query", "key", "value", "proj_attn")
    tensors = load_file(file)
    for a, b in zip(new, old, strict=True):
        tensors = {name.replace(f".{a}.", f".{b}."): value for name, value in tensors.items()}
    save_file(tensors, file)
    ours = sigmagraft.UNet2DModel.from_pretrained(folder)
    ours.save_pretrained(tmp_path / "saved", variant="non_ema")
    back = diffusers.UNet2DModel.from_pretrained(tmp_path / "saved", variant="non_ema")
    state = back.state_dict()
    assert all(torch.equal(state[name], value) for name, value in theirs.state_dict().items())


def test_a_block_it_does_not_have_is_refused(folder: Path) -> None:
    file = folder / "config.json"
    said = json.loads(file.read_text())
    file.write_text(
        json.dumps({**said, "down_block_types": ["SkipDownBlock2D", *said["down_block_types"][1:]]})
    )
    with pytest.raises(FileError, match="SkipDownBlock2D"):
        sigmagraft.UNet2DModel.from_pretrained(folder)


@pytest.mark.parametrize("name", ["ddpm_cat_256_unet", "ddpm_cifar10_32_unet"])
def test_published_shapes(name: str) -> None:
    """Every key and shape of the published files, where their lists are at hand."""
    lists = Path(__file__).resolve().parents[3] / "shared" / "data" / "manifests"
    if not (lists / f"{name}.json").is_file():
        pytest.skip("no lists of published tensors here")
    published = json.loads((lists / f"{name}.json").read_text())
    published = published.get("tensors", published)
    said = {"in_channels": 3, "out_channels": 3, "layers_per_block": 2, "attention_head_dim": None}
    cat = "cat" in name
    widths = (128, 128, 256, 256, 512, 512) if cat else (128, 256, 256, 256)
    attends = 4 if cat else 1
    down = ["AttnDownBlock2D" if i == attends else "DownBlock2D" for i in range(len(widths))]
    up = [kind.replace("Down", "Up") for kind in reversed(down)]
    config = PixelUNetConfig.of(
        {**said, "block_out_channels": widths, "down_block_types": down, "up_block_types": up}
    )
    with torch.device("meta"):
        state = PixelUNet(config).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == {
        key: list(entry[0]) for key, entry in published.items()
    }
