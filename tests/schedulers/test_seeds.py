"""What the guides that this project comes from do with schedulers (rows H11 to H51), with the import line changed.

The networks are stand-ins of the same call; that the pictures are diffusers' is test_trajectories.py's matter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sigmagraft import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
)

from .test_config import SD15

CAT = {
    "_class_name": "DDPMScheduler",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "steps_offset": 0,
    "thresholding": False,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "variance_type": "fixed_small",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two repositories the guides name."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    files = {("runwayml/stable-diffusion-v1-5", "scheduler"): SD15, ("google/ddpm-cat-256", None): CAT}

    def download(repo: str, name: str, subfolder: str | None = None, **_: Any) -> str:
        file = tmp_path / f"{subfolder}-{name}"
        file.write_text(json.dumps(files[repo, subfolder]))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)


class Pipeline:
    """A pipeline's own loop around whatever scheduler it has."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def __call__(self, start: torch.Generator, num_inference_steps: int = 50, **step: Any) -> torch.Tensor:
        self.scheduler.set_timesteps(num_inference_steps)
        latents = torch.randn(1, 4, 8, 8, generator=start) * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            noise_pred = 0.5 * self.scheduler.scale_model_input(latents, t)
            latents = self.scheduler.step(noise_pred, t, latents, **step).prev_sample
        return latents


def test_h14_h15_a_scheduler_from_its_file_in_place_of_the_pipelines(hub: None) -> None:
    ddim = DDIMScheduler.from_pretrained("runwayml/stable-diffusion-v1-5", subfolder="scheduler")
    assert ddim.config.clip_sample is False
    assert Pipeline(ddim)(torch.manual_seed(8)).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        (LMSDiscreteScheduler, 50),
        (EulerDiscreteScheduler, 30),
        (EulerAncestralDiscreteScheduler, 30),
        (DPMSolverMultistepScheduler, 20),
        (DDIMScheduler, 50),
    ],
)
def test_h16_h21_to_h26_the_comparison(hub: None, kind: type[Any], steps: int) -> None:
    """Swapped in place, the same seed made anew before each picture."""
    pipeline = Pipeline(
        PNDMScheduler.from_pretrained("runwayml/stable-diffusion-v1-5", subfolder="scheduler")
    )
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    pictures = [pipeline(torch.Generator().manual_seed(8), steps) for _ in range(2)]
    if kind is not EulerAncestralDiscreteScheduler:  # its own noise comes from the generator of `step`
        assert torch.equal(*pictures)
    assert pictures[0].isfinite().all()


def test_h39_to_h43_the_cat_by_hand(hub: None) -> None:
    """One step right away at timestep 2; then all 1,000, without set_timesteps."""
    repo_id = "google/ddpm-cat-256"
    scheduler = DDPMScheduler.from_pretrained(repo_id)
    assert dict(scheduler.config) | {"_use_default_values": 0, "_class_name": 0} == CAT | {
        "rescale_betas_zero_snr": False, "_use_default_values": 0, "_class_name": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    noisy_sample = torch.randn(1, 3, 32, 32)
    noisy_residual = torch.randn(1, 3, 32, 32)
    less_noisy_sample = scheduler.step(
        model_output=noisy_residual, timestep=2, sample=noisy_sample
    ).prev_sample
    assert less_noisy_sample.shape == noisy_sample.shape
    sample = noisy_sample
    assert len(scheduler.timesteps) == 1000
    for t in scheduler.timesteps:
        residual = 0.1 * sample
        sample = scheduler.step(residual, t, sample).prev_sample
    assert sample.abs().max() <= 1.0  # clipped


@pytest.mark.parametrize("steps", [4, 8, 50])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_h45_to_h51_tcd(hub: None, steps: int, eta: float) -> None:
    pipe = Pipeline(PNDMScheduler.from_pretrained("runwayml/stable-diffusion-v1-5", subfolder="scheduler"))
    pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
    assert pipe.scheduler.config.original_inference_steps == 50
    picture = pipe(torch.manual_seed(0), num_inference_steps=steps, eta=eta, generator=torch.manual_seed(0))
    assert picture.isfinite().all()
