"""The cache of latents and the UNet's loss: the same for the same seed, whoever filled the cache and however often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sigmagraft.training.draw import draw
from sigmagraft.training.latents import BATCH, Cache, scene_at
from sigmagraft.training.loop import Workers
from sigmagraft.training.train_text import Lessons
from sigmagraft.training.train_unet import Task, new_unet
from sigmagraft.training.train_vae import new_vae, pixels

COUNT = 3 * BATCH


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an untrained text encoder and a cache filled by two workers, one after the other."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text").mkdir()
    torch.manual_seed(0)
    torch.save({"module": Lessons().state_dict()}, folder / "text" / "checkpoint.pt")
    cache = Cache(folder, seed=4)
    cache.prepare(COUNT, workers=2)
    cache.fill(new_vae(), COUNT, rank=0, workers=2)
    assert cache.filled == BATCH, "the second worker's batch in between is still missing"
    cache.fill(new_vae(), COUNT, rank=1, workers=2)
    return folder


def test_the_cache_holds_each_scenes_latent_in_order(runs: Path):
    cache, vae = Cache(runs, seed=4), new_vae()
    assert cache.filled == COUNT
    assert cache.array().shape == (COUNT, 4, 16, 16)
    for k in (0, BATCH, COUNT - 1):
        with torch.no_grad():
            mean = vae.encode(pixels(draw(scene_at(4, k)).image)[None])[0][0]
        assert np.allclose(cache.array()[k], mean.numpy(), atol=2e-2)


def test_a_filled_cache_is_not_filled_again(runs: Path):
    cache = Cache(runs, seed=4)
    before = cache.array().copy()
    cache.prepare(COUNT, workers=2)
    cache.fill(new_vae(seed=9), COUNT, rank=0, workers=2)
    assert np.array_equal(before, cache.array())


def test_the_loss_depends_on_seed_and_step_alone_and_starts_at_the_noise_itself(runs: Path):
    task = Task(runs, seed=4, batch=8, count=COUNT, workers=Workers())
    unet = new_unet()
    with torch.no_grad():
        losses = [float(task.loss(unet, step)) for step in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    # A UNet that starts at zero errs by the noise: about sigma-weighted 1, plus the coarse averages' share.
    assert 1.0 < losses[0] < 6.0


def test_words_change_what_the_unet_sees(runs: Path):
    words = Task(runs, seed=4, batch=2, count=COUNT, workers=Workers()).words
    scene = scene_at(4, 0)
    tokens = [words.tokens(scene, np.random.default_rng(k)) for k in range(20)]
    assert words.empty in tokens or len({tuple(t) for t in tokens}) > 10
    states = words.states(tokens[:2])
    assert states.shape == (2, 77, 64)
    assert not torch.equal(states[0], states[1])
