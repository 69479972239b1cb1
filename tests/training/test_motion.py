"""Scenes that move do what their captions say; motion modules begin at nothing and are written as trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sigmagraft.animate.acting import MotionActing
from sigmagraft.animate.files import open_motion
from sigmagraft.core.patch import Hooks, Inputs, StepInfo
from sigmagraft.training.captions import text
from sigmagraft.training.clip_latents import ClipCache, clip_at
from sigmagraft.training.motions import DIRECTIONS, GROWTH, MOTIONS, clip_caption, clip_of
from sigmagraft.training.scenes import scene_held_out
from sigmagraft.training.train_motion import LIMIT, export, new_motion, opposite
from sigmagraft.training.train_unet import CONFIG, new_unet

from ..controlnet.peers import filled


@pytest.mark.parametrize("motion", MOTIONS)
def test_an_object_does_what_is_said(motion: str) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        clip = clip_of(clip_at(0, seed, 6).frames[0], motion, 6, rng)
        things = [frame.things[0] for frame in clip.frames]
        for thing in things:
            assert thing.extent <= thing.x <= 1 - thing.extent
            assert thing.extent <= thing.y <= 1 - thing.extent
        xs, ys, extents = (np.array([getattr(t, f) for t in things]) for f in ("x", "y", "extent"))
        if motion in GROWTH:
            assert (np.sign(np.diff(extents)) == (1 if GROWTH[motion] else -1)).all()
            assert np.ptp(xs) == np.ptp(ys) == 0
        else:
            dx, dy = DIRECTIONS[motion]
            assert np.allclose(np.diff(xs), np.diff(xs)[0])
            assert np.sign(xs[-1] - xs[0]) == dx
            assert np.sign(ys[-1] - ys[0]) == dy
            assert np.ptp(extents) == 0
        assert not any(scene_held_out(frame) for frame in clip.frames)
        said = text(clip_caption(clip, rng))
        assert motion in said
        assert opposite(motion) not in said
        assert not any(word in said for word in ("on the", "in the", "at the"))


def test_the_cache_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def encode(model: None, x: torch.Tensor) -> torch.Tensor:
        drawn.append(len(drawn))
        return x.mean(dim=(1, 2, 3))[:, None, None, None].expand(-1, 4, 16, 16)

    monkeypatch.setattr("sigmagraft.training.clip_latents.latents.encode", encode)
    cache = ClipCache(tmp_path / "clips", 0, 3, 2)
    first = cache.fill(None).copy()  # type: ignore[arg-type]
    assert cache.filled == 3
    again = ClipCache(tmp_path / "clips", 0, 3, 2)
    assert np.array_equal(again.fill(None), first)  # type: ignore[arg-type]
    assert len(drawn) == 3
    assert again.clips(first, np.array([2, 0])).shape == (4, 4, 16, 16)
    assert ClipCache(tmp_path / "clips", 1, 3, 2).filled == 0


def test_modules_begin_by_adding_nothing_and_are_written_as_trained(tmp_path: Path) -> None:
    unet, network = filled(new_unet()), new_motion(CONFIG)
    x, context = torch.randn(4, 4, 16, 16), torch.randn(4, 77, 64)
    inputs = Inputs(x, torch.full((4,), 500.0), context)

    def out(motion: torch.nn.Module | None) -> torch.Tensor:
        patches = [] if motion is None else MotionActing(motion, CONFIG).patches()  # type: ignore[arg-type]
        with torch.no_grad():
            return unet(x, inputs.timesteps, context, None, Hooks(patches, StepInfo(inputs=inputs)))

    assert torch.equal(out(network), out(None))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    (tmp_path / "motion").mkdir()
    torch.save({"mean": network.state_dict(), "step": 7}, tmp_path / "motion" / "checkpoint.pt")
    path = export(tmp_path, tmp_path, frames=6)
    assert path.stat().st_size <= LIMIT
    file = open_motion(path)
    assert file.metadata["betas"] == "model"
    assert file.config.length == 6
    assert not file.ignored
    again = file.build(torch.device("cpu"), torch.float32)
    torch.testing.assert_close(out(again), out(network), rtol=1e-2, atol=1e-2)
    assert (out(network) - out(None)).abs().max() > 0.01
