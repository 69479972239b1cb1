"""A run that is stopped, saved and gone on with draws the pixels of one that was not; noise settings of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import ImageNoise, Recording
from sigmagraft.standalone.pipeline import Pipeline

from .small import small_model

SETTINGS = {"steps": 6, "seed": 5, "cfg": 2.0, "size": (64, 64)}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


def bytes_of(result) -> list[bytes]:
    return [image.tobytes() for image in result.images]


@pytest.mark.parametrize(
    "changed",
    [
        {"sampler": "dpmpp_2m"},
        {"sampler": "dpmpp_2m_sde"},
        {"sampler": "heun", "options": {"s_churn": 3.0}},
        {"sampler": "euler_ancestral", "step_noise": "nv", "noise_type": "perlin:cell=4"},
        {"sampler": "dpmpp_sde", "noise_type": "gaussian", "batch": 2, "guidance": "cfg++", "cfg": 0.6},
    ],
)
def test_the_same_pixels(pipe: Pipeline, tmp_path: Path, changed: dict) -> None:
    settings = {**SETTINGS, **changed}
    whole = pipe("a circle", **settings)
    recording, path = Recording(), tmp_path / "half.safetensors"
    half = pipe("a circle", recording=recording, stop_at=3, **settings)
    assert half.images == []
    recording.save(path)
    steps: list[int] = []
    result = pipe.resume(Recording.load(path), callback=lambda state: steps.append(state.index))
    assert steps == [3, 4, 5]
    assert bytes_of(result) == bytes_of(whole)
    assert json.dumps(result.settings) == json.dumps(whole.settings)


def test_a_repainted_picture(pipe: Pipeline, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 8, 32, 40))
    inputs, settings = (
        {"image": image, "mask": mask},
        {**SETTINGS, "strength": 0.8, "sampler": "dpmpp_2m_sde"},
    )
    whole = pipe("a", **inputs, **settings)
    recording = Recording()
    pipe("a", recording=recording, stop_at=2, **inputs, **settings)
    recording.save(tmp_path / "half.safetensors")
    recording = Recording.load(tmp_path / "half.safetensors")
    with pytest.raises(OptionError, match=r"sigmas|starts at"):
        pipe.resume(recording)
    with pytest.raises(OptionError, match="starts at"):
        pipe.resume(recording, image=Image.new("RGB", (64, 64)), mask=mask)
    assert bytes_of(pipe.resume(recording, **inputs)) == bytes_of(whole)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"stop_at": 3}, "stop_at without a recording"),
        ({"stop_at": 6, "recording": Recording()}, "stop at step 6.*1 to 5"),
        ({"noise_type": "pink"}, "noise_type for dpmpp_2m, which adds no noise"),
        ({"step_noise": "nv", "sampler": "euler"}, "step_noise for euler.*s_churn"),
        ({"noise_type": "pinc", "sampler": "euler_ancestral"}, "'pink'"),
        ({"noise_type": "fractal:alpha=99", "sampler": "euler_ancestral"}, "alpha='99'"),
        ({"step_noise": "gpu", "sampler": "euler_ancestral"}, "noise kind 'gpu'"),
    ],
)
def test_bad_settings(pipe: Pipeline, settings: dict, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        pipe("a", **{**SETTINGS, **settings})


def test_step_noise_apart_from_start_noise(pipe: Pipeline) -> None:
    """The same generator named twice is the default; another one changes the steps' noise and not the start's."""
    settings = {**SETTINGS, "sampler": "euler_ancestral", "noise": "cpu"}
    starts: list[torch.Tensor] = []
    ends = []
    for kind in (None, "cpu", "nv"):
        seen: list[torch.Tensor] = []
        result = pipe("a", step_noise=kind, callback=lambda s, seen=seen: seen.append(s.latent), **settings)
        starts.append(seen[0])
        ends.append(result.latents)
    assert torch.equal(starts[0], starts[2])
    assert torch.equal(ends[0], ends[1])
    assert not torch.allclose(ends[0], ends[2], rtol=0.1, atol=0.1)


def test_the_first_step_draws_the_generators_second_noise(pipe: Pipeline) -> None:
    """Of a generator with the start's own seed the first draw may be the start noise itself: it is left out."""
    seen: list[torch.Tensor] = []
    settings = {**SETTINGS, "sampler": "euler_ancestral", "options": {"s_noise": 0.0}}
    pipe("a", callback=lambda s: seen.append(s.latent), **settings)
    noisy: list[torch.Tensor] = []
    settings["options"] = {"s_noise": 1.0}
    pipe("a", step_noise="nv", callback=lambda s: noisy.append(s.latent), **settings)
    added = (noisy[1] - seen[1]).flatten()
    second = ImageNoise([5], (4, 8, 8), kind="nv", skip=1).next().flatten()
    assert torch.corrcoef(torch.stack([added, second]))[0, 1].item() > 0.999


ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import runpy, sys
runpy.run_path(sys.argv[3])["load"]()
from sigmagraft.samplers import Recording
from sigmagraft.standalone.pipeline import Pipeline
result = Pipeline.load("bundled", device="cpu").resume(Recording.load(sys.argv[1]))
result.images[0].save(sys.argv[2])
"""


def test_the_bundled_model_in_another_process(tmp_path: Path) -> None:
    settings = {"steps": 4, "seed": 3, "size": (64, 64), "sampler": "dpmpp_2m_sde"}
    pipe = Pipeline.load("bundled", device="cpu")
    whole = pipe("a red circle", **settings).images[0]
    recording, state, picture = Recording(), tmp_path / "half.safetensors", tmp_path / "a.png"
    pipe("a red circle", recording=recording, stop_at=2, **settings)
    recording.save(state)
    command = [sys.executable, "-c", CHILD, str(state), str(picture), str(ROOT / "bootstrap.py")]
    subprocess.run(command, check=True, timeout=300)
    with Image.open(picture) as resumed:
        assert resumed.tobytes() == whole.tobytes()
