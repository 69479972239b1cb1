"""Clips in the runner: what they are made of, one evaluation at a time; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sigmagraft.animate.norms import over_frames, volume_norms
from sigmagraft.animate.windows import Plan
from sigmagraft.controlnet.network import ControlNet
from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.samplers.levels import NoiseLevels
from sigmagraft.standalone.animate_run import ClipRun
from sigmagraft.standalone.pipeline import Pipeline

from ..animate.files import random_motion
from ..controlnet.ip_small import picture
from ..controlnet.peers import filled, saved
from .small import UNET, small_model

WORDS: dict[str, Any] = {"prompt": "a red circle", "steps": 2, "seed": 1, "cfg": 3.0, "sampler": "euler"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_motion(tmp_path_factory.mktemp("motion") / "v2.safetensors", UNET, length=8)


@pytest.fixture(scope="module")
def pipe(file: Path) -> Pipeline:
    made = Pipeline(small_model())
    made.load_motion(file)
    return made


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[ClipRun]:
    """Every run of a clip in a test."""
    found: list[ClipRun] = []
    first = ClipRun.__init__

    def remember(self: ClipRun, *args: Any) -> None:
        first(self, *args)
        found.append(self)

    monkeypatch.setattr(ClipRun, "__init__", remember)
    return found


def test_frames_know_of_each_other_and_pictures_do_not(pipe: Pipeline) -> None:
    clip = pipe.animate(**WORDS, frames=4)
    assert len(clip.frames) == 4
    assert clip.frames[0].size == (64, 64)
    assert clip.seeds == [1, 2, 3, 4]
    assert clip.settings["motion"] == "v2.safetensors"
    pictures = pipe(**WORDS, batch=4)
    assert (clip.latents - pictures.latents).abs().max() > 1e-3
    still = pipe.animate(**WORDS, frames=4, motion_strength=0.0, betas="model")
    assert torch.equal(still.latents, pictures.latents)
    again = pipe.animate(**WORDS, frames=4)
    assert torch.equal(again.latents, clip.latents)


def test_the_betas_are_those_of_the_modules(pipe: Pipeline, runs: list[ClipRun], tmp_path: Path) -> None:
    pipe.animate(**WORDS, frames=1)
    linear = NoiseLevels.discrete(beta_schedule="linear")
    assert runs[-1].levels.sigma_max == linear.sigma_max != pipe.levels.sigma_max
    pipe.animate(**WORDS, frames=1, betas="model")
    assert runs[-1].levels is pipe.levels
    own = Pipeline(small_model())
    own.load_motion(random_motion(tmp_path / "own.safetensors", UNET, betas="model"))
    own.animate(**WORDS, frames=1)
    assert runs[-1].levels is own.levels


def one_evaluation(run: ClipRun, x: Tensor, sigma: float = 2.0) -> Tensor:
    with torch.no_grad():
        return run._denoise(None, x)(x, sigma)


def test_windows_are_fused_evaluations_of_parts(pipe: Pipeline, runs: list[ClipRun]) -> None:
    pipe.animate(**WORDS, frames=6, windows="static:length=4:overlap=2:fuse=flat")
    run, x = runs[-1], torch.randn(6, 4, 8, 8)
    assert isinstance(run.clip.windows, Plan)
    found = one_evaluation(run, x)
    pipe.animate(**WORDS, frames=4, windows="none")
    first, second = (one_evaluation(runs[-1], part) for part in (x[:4], x[2:]))
    expected = torch.cat([first[:2], (first[2:] + second[:2]) / 2, second[2:]])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("windows", ["static:length=2:overlap=1", "looped:length=3:overlap=1"])
def test_each_frame_keeps_its_own_control_in_windows(pipe: Pipeline, tmp_path: Path, windows: str) -> None:
    net = filled(ControlNet(UNET, (3, 16, 16, 32, 32, 48, 48, 64, 32)), 2)
    table = {
        "model": str(saved(net, tmp_path / "net.safetensors")),
        "image": [picture(seed, (64, 64)) for seed in range(5)],
    }
    told = {**WORDS, "control": table}
    pictures = pipe(**told, batch=5)
    plain = pipe(**WORDS, batch=5)
    assert (pictures.latents - plain.latents).abs().max() > 1e-3
    still = {"motion_strength": 0.0, "betas": "model"}
    clip = pipe.animate(**told, frames=5, windows=windows, **still)
    torch.testing.assert_close(clip.latents, pictures.latents, rtol=1e-4, atol=1e-4)


def test_long_clips_are_cut_by_themselves(pipe: Pipeline, runs: list[ClipRun]) -> None:
    once = {**WORDS, "steps": 1}
    clip = pipe.animate(**once, frames=11)
    assert runs[-1].clip.windows == Plan(8, 4, "uniform")
    assert len(clip.frames) == 11
    pipe.animate(**once, frames=6, loop=True)
    assert runs[-1].clip.windows == Plan(6, 4, "looped")
    sizes = []
    pipe.model.unet.register_forward_pre_hook(lambda unet, given: sizes.append(len(given[0])))
    pipe.animate(**once, frames=12, windows="uniform:length=3:overlap=1")
    assert max(sizes) == 2 * 3


def test_free_init_mixes_the_last_walks_low_frequencies(pipe: Pipeline, runs: list[ClipRun]) -> None:
    once = pipe.animate(**WORDS, frames=4)
    noise = runs[-1].begun
    assert torch.equal(pipe.animate(**WORDS, frames=4, free_init=1).latents, once.latents)
    pipe.animate(**WORDS, frames=4, free_init="2:method=ideal:spatial=1:temporal=1")
    begun = runs[-1].begun
    bar = 1 / (1 + runs[-1].levels.sigma_max ** 2)
    assert noise is not None
    assert begun is not None
    # what lets every frequency through starts from the noised end of the walk before
    everything = once.latents * bar**0.5 + noise * (1 - bar) ** 0.5
    keep = runs[-1].clip.free_init.passed((4, 8, 8))
    assert keep.mean() > 0.8
    spectra = [
        torch.fft.fftshift(torch.fft.fftn(x.transpose(0, 1), dim=(-3, -2, -1)), dim=(-3, -2, -1))
        for x in (begun, everything)
    ]
    mask = (keep > 0).expand_as(spectra[0].real)
    torch.testing.assert_close(spectra[0][mask], spectra[1][mask], rtol=1e-3, atol=1e-3)
    pipe.animate(**{**WORDS, "steps": 4}, frames=2, free_init="2:coarse=true")
    assert [run.request.steps for run in runs[-2:]] == [2, 4]


def test_free_noise_takes_the_frames_in_windows(pipe: Pipeline, runs: list[ClipRun]) -> None:
    clip = pipe.animate(**WORDS, frames=12, free_noise="4:stride=2")
    noise = runs[-1].begun
    assert noise is not None
    assert len({tuple(row.flatten()[:3].tolist()) for row in noise}) == 4
    assert len(clip.frames) == 12


def test_prompts_travel(pipe: Pipeline) -> None:
    told = {**WORDS, "motion_strength": 0.0, "betas": "model", "frames": 5}
    told.pop("prompt")
    clip = pipe.animate({0: "a red circle", 4: "a blue square"}, **told)
    ends = [pipe.animate(prompt, **told).latents for prompt in ("a red circle", "a blue square")]
    assert torch.equal(clip.latents[0], ends[0][0])
    torch.testing.assert_close(clip.latents[4], ends[1][4], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(clip.latents[2], ends[0][2], atol=1e-3)
    assert clip.settings["prompt"] == ["0: a red circle", "4: a blue square"]
    each = pipe.animate(["a red circle"] * 4 + ["a blue square"], **told)
    assert torch.equal(each.latents[3], ends[0][3])


def test_a_video_is_where_each_frame_starts(pipe: Pipeline) -> None:
    video = [picture(seed, (64, 64)) for seed in range(3)]
    still = {"motion_strength": 0.0, "betas": "model", "strength": 0.5}
    clip = pipe.animate(**WORDS, frames=3, video=video, **still)
    for k in range(3):
        alone = pipe(**{**WORDS, "seed": 1 + k}, image=video[k], strength=0.5)
        torch.testing.assert_close(clip.latents[k : k + 1], alone.latents, rtol=1e-4, atol=1e-4)


class VolumeNorm(nn.Module):
    """Group norm of [parts * frames, c, h, w] over the frames of each part, written from its definition."""

    def __init__(self, norm: nn.GroupNorm, parts: int) -> None:
        super().__init__()
        self.norm, self.parts = norm, parts

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (self.norm.num_groups, -1)).unflatten(0, (self.parts, -1))
        mean = groups.mean(dim=(1, 3, 4, 5), keepdim=True)
        var = groups.var(dim=(1, 3, 4, 5), keepdim=True, unbiased=False)
        even = ((groups - mean) / (var + self.norm.eps).sqrt()).flatten(0, 1).flatten(1, 2)
        return even * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def test_the_norms_of_v1_go_over_all_frames(tmp_path: Path, runs: list[ClipRun]) -> None:
    pipe = Pipeline(small_model())
    pipe.load_motion(random_motion(tmp_path / "v1.safetensors", UNET, middle=False))
    clip = pipe.animate(**WORDS, frames=3)
    plain = pipe.animate(**WORDS, frames=3, norms="diffusers")
    assert (clip.latents - plain.latents).abs().max() > 1e-3
    unet, x = pipe.model.unet, torch.randn(6, 4, 8, 8)
    given = (x, torch.full((6,), 500.0), torch.randn(6, 77, 64))
    with torch.no_grad(), over_frames(unet, lambda: 2):
        found = unet(*given)
    norms = volume_norms(unet)
    assert len(norms) == 2 * sum(type(layer).__name__ == "ResBlock" for layer in unet.modules()) + 1
    for layer in list(unet.modules()):
        for name, inner in list(layer.named_children()):
            if any(inner is norm for norm in norms):
                setattr(layer, name, VolumeNorm(inner, 2))  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(found, unet(*given), rtol=1e-4, atol=1e-4)


def test_unloaded_modules_leave_nothing(file: Path) -> None:
    pipe = Pipeline(small_model())
    before = pipe(**WORDS, batch=2).latents
    pipe.load_motion(file)
    assert torch.equal(pipe(**WORDS, batch=2).latents, before)
    pipe.unload_motion()
    assert torch.equal(pipe(**WORDS, batch=2).latents, before)
    with pytest.raises(OptionError, match="load_motion"):
        pipe.animate(**WORDS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frames": 0}, "frames 0"),
        ({"frames": 9, "windows": "none"}, "9 frames at once.*at most 8"),
        ({"windows": "circular"}, "looped|uniform|static"),
        ({"windows": "uniform:lenght=4"}, "length"),
        ({"windows": "uniform:length=many"}, "such as 16"),
        ({"windows": "uniform", "free_noise": True}, "one of them"),
        ({"norms": "author"}, "authors"),
        ({"betas": "linear"}, "model|motion"),
        ({"free_init": 0}, "rounds"),
        ({"batch": 2}, "means nothing to a clip"),
        ({"hires": 2.0}, "means nothing to a clip"),
        ({"guidance": ["cfg", "sag"], "frames": 16}, "Self-attention guidance in windows"),
        ({"video": [Image.new("RGB", (64, 64))]}, "1 pictures for 8 frames"),
        ({"strength": 0.5}, "without a picture"),
        ({"framse": 4}, "frames|framse"),
    ],
)
def test_what_cannot_work_is_refused(pipe: Pipeline, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        pipe.animate(**WORDS, **settings)


def test_modules_for_another_model_are_refused(pipe: Pipeline, tmp_path: Path) -> None:
    other = random_motion(tmp_path / "other.safetensors", replace(UNET, model_channels=64))
    before = pipe.model.motion
    with pytest.raises(FileError, match="made for another model"):
        pipe.load_motion(other)
    assert pipe.model.motion is before
