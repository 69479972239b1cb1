"""Windows: every frame is seen, what they find is fused exactly, and controls know which frames they see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
from torch import Tensor

from sigmagraft.animate.free_noise import FreeNoise
from sigmagraft.animate.windows import FUSE, KINDS, Plan, fused, halved
from sigmagraft.controlnet.model import ControlModel
from sigmagraft.controlnet.settings import Control
from sigmagraft.core.errors import OptionError
from sigmagraft.core.patch import Block, Inputs

from ..controlnet.peers import FAMILIES, host_of, our_unet, saved, their_unet
from ..controlnet.test_residuals import info_of, picture, their_control_sparse


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 8, 16])
@pytest.mark.parametrize("stride", [1, 3])
def test_every_frame_is_seen_at_every_step(kind: str, length: int, stride: int) -> None:
    plan = Plan(length, min(3, length - 1), kind, stride)
    for frames in (1, 7, 8, 9, 17, 31, 48):
        for step in range(5):
            windows = plan.windows(frames, step)
            assert {row for window in windows for row in window.rows} == set(range(frames))
            for window in windows:
                assert len(window.rows) == len(set(window.rows)) == min(length, frames)
                assert len(window.weights) == len(window.rows)


def test_kinds_differ_in_what_they_promise() -> None:
    static, uniform, looped = (Plan(8, 2, kind) for kind in ("static", "uniform", "looped"))
    assert static.windows(20, 0) == static.windows(20, 3)
    assert looped.windows(20, 0) != looped.windows(20, 1)
    assert any(window.rows[0] > window.rows[-1] for window in looped.windows(20, 1))
    for plan in (static, uniform):
        for step in range(4):
            assert all(list(w.rows) == sorted(w.rows) for w in plan.windows(20, step))
    strided = Plan(8, 2, "uniform", 2).windows(20, 0)
    assert {w.rows[1] - w.rows[0] for w in strided} == {1, 2}


def test_the_sequence_of_halves() -> None:
    assert [halved(n) for n in range(6)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8]


@pytest.mark.parametrize("fuse", FUSE)
def test_fused_is_the_weighted_mean(fuse: str) -> None:
    plan = Plan(5, 2, "static", fuse=fuse)
    windows = plan.windows(12)
    like = torch.zeros(2, 12, 3)
    seen = {window: torch.randn(2, len(window.rows), 3) for window in windows}
    found = fused(windows, seen.__getitem__, like, 1)
    for frame in range(12):
        there = [
            (w.weights[w.rows.index(frame)], seen[w][:, w.rows.index(frame)])
            for w in windows
            if frame in w.rows
        ]
        mean = sum(weight * value for weight, value in there) / sum(weight for weight, _ in there)
        torch.testing.assert_close(found[:, frame], mean)


def test_what_sees_single_frames_is_not_changed_by_windows() -> None:
    x = torch.randn(3, 21, 4)
    for kind in KINDS:
        windows = Plan(6, 2, kind).windows(21, 2)
        torch.testing.assert_close(fused(windows, lambda w: x[:, list(w.rows)].tanh(), x, 1), x.tanh())
    over = FreeNoise(6, 4).over(21)
    torch.testing.assert_close(over(torch.tanh, x), x.tanh())


def test_free_noise_keeps_the_noise_and_its_order() -> None:
    free, noise = FreeNoise(4, 2), torch.randn(1, 2, 9, 3)
    found = free.rescheduled(noise, 2, lambda n: torch.arange(n).flip(0))
    assert torch.equal(found[:, :, :4], noise[:, :, :4])
    order = [0, 1, 2, 3, 1, 0, 3, 2, 0]
    assert torch.equal(found, noise[:, :, order])
    repeated = FreeNoise(4, 2, noise="repeat_context").rescheduled(noise, 2, torch.randperm)
    assert torch.equal(repeated, noise[:, :, [0, 1, 2, 3, 0, 1, 2, 3, 0]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "statik"}, "static"),
        ({"fuse": "pyramide"}, "pyramid"),
        ({"length": 0}, "1 or more"),
        ({"overlap": 16}, "0 to 15"),
        ({"stride": 0}, "1 to 16"),
    ],
)
def test_bad_plans_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Plan(**settings)


def test_a_sparse_control_finds_its_frame_in_a_window(tmp_path: Path) -> None:
    settings = {
        k: v for k, v in FAMILIES["sd1"].items() if k in ("block_out_channels", "cross_attention_dim")
    }
    control = their_control_sparse(diffusers.SparseControlNetModel, settings, simple=False)
    model = ControlModel.load(saved(control, tmp_path / "sparse.safetensors"))
    host = host_of(our_unet(their_unet("sd1")))
    inputs = Inputs(torch.randn(6, 4, 16, 16), torch.full((6,), 601.0), torch.randn(6, 5, 48))
    info = info_of(inputs)

    def residuals(frame: int, rows: tuple[int, ...] = ()) -> dict[Block, Tensor]:
        asked = Control(model=model, image=picture(), frames=[frame])
        return model.acting(asked, host).residuals(replace(info, rows=rows))

    inside, alone = residuals(7, (6, 7, 8)), residuals(1)
    outside, other = residuals(7, (0, 1, 2)), residuals(9, (0, 1, 2))
    for place, found in inside.items():
        torch.testing.assert_close(found, alone[place])
        torch.testing.assert_close(outside[place], other[place])
    assert any(not torch.allclose(outside[place], alone[place], atol=1e-4) for place in alone)
    with pytest.raises(OptionError, match="a frame of its own"):
        residuals(7)
