"""The decoder learns from pieces that show things, latents and pixels of one place; hard scenes are shown oftener."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sigmagraft.training.draw import draw
from sigmagraft.training.hard import chances
from sigmagraft.training.latents import BATCH, Cache, scene_at
from sigmagraft.training.loop import Workers
from sigmagraft.training.train_decoder import FACTOR, SIDE, Task, corner, distance
from sigmagraft.training.train_vae import new_vae, pixels


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder: Path = tmp_path_factory.mktemp("runs")
    cache = Cache(folder, seed=0)
    cache.prepare(BATCH, workers=1)
    cache.fill(new_vae(), BATCH, rank=0, workers=1)
    return Task(folder, 0, 4, BATCH, Workers())


def test_pieces_are_latents_and_pixels_of_one_place(task: Task) -> None:
    z, x = task.pieces(np.random.default_rng(1))
    with torch.no_grad():
        inner = new_vae().encode(x)[0][..., 2:-2, 2:-2]
    assert z.shape[-1] == SIDE
    assert x.shape[-1] == SIDE * FACTOR
    near = (inner - z[..., 2:-2, 2:-2]).abs().mean()
    assert near < (inner - z.roll(1, 0)[..., 2:-2, 2:-2]).abs().mean() / 2


def test_redrawn_latents_stand_beside_their_scene(task: Task) -> None:
    """Most pieces are of the redrawn latents, each with the pixels of the scene it was made of."""
    task.redrawn = (np.full((3, 4, 16, 16), 9.0, np.float16), np.array([5, 5, 5]))
    rng, own = np.random.default_rng(2), pixels(draw(task.scenes[5]).image)
    drawn = [task.pieces(rng) for _ in range(20)]
    task.redrawn = (np.empty((0, 4, 16, 16), np.float16), np.empty(0, np.int64))
    z, x = (torch.cat(part) for part in zip(*drawn, strict=True))
    redrawn = (z == 9.0).all(dim=(1, 2, 3))
    assert 0.5 < redrawn.float().mean() < 0.9
    places = own.unfold(1, 64, 8).unfold(2, 64, 8).permute(1, 2, 0, 3, 4).flatten(0, 1)
    assert all((places == piece).all(dim=(1, 2, 3)).any() for piece in x[redrawn])


def test_pieces_show_things() -> None:
    rng = np.random.default_rng(0)
    for k in range(20):
        scene = scene_at(0, k)
        top, left = corner(scene, rng)
        mask = draw(scene).masks.max(0)
        shown = mask[FACTOR * top : FACTOR * (top + SIDE), FACTOR * left : FACTOR * (left + SIDE)]
        assert (shown > 0.5).sum() > 100


def test_the_loss_depends_on_seed_and_step_alone(task: Task) -> None:
    vae = new_vae()
    with torch.no_grad():
        losses = [float(task.loss(vae, step)) for step in (1, 1, 2, 3)]
    assert losses[0] == losses[1] != losses[2]
    assert all(0 < loss < 5 for loss in losses)


def test_blur_costs_more_than_a_shift_of_level() -> None:
    image = pixels(draw(scene_at(0, 0)).image)[None]
    blurred = torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)
    level = torch.full_like(image, float((blurred - image).abs().mean()))
    assert distance(blurred - image) > 1.3 * distance(level)
    assert distance(image - image) == 0


def test_hard_scenes_are_shown_oftener() -> None:
    scenes = [scene_at(0, k) for k in range(400)]
    share = chances(scenes)
    striped = np.array([bool(scene.background.stripes) for scene in scenes])
    assert share.sum() == pytest.approx(1.0)
    assert share[striped].sum() > 1.8 * striped.mean()
