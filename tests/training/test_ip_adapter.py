"""The image encoder's and the IP-Adapter's trainings: what they are asked, and that their files are what we load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.controlnet.clip_vision import ImageEncoder
from sigmagraft.controlnet.ip_adapter import IPAdapter
from sigmagraft.controlnet.ip_features import Features
from sigmagraft.standalone.ip_adapter_source import find_encoder
from sigmagraft.training.draw import draw
from sigmagraft.training.latents import BATCH, Cache, scene_at
from sigmagraft.training.loop import Loop, Plan, Workers
from sigmagraft.training.scenes import Background, Scene, Thing
from sigmagraft.training.train_image_encoder import FOLDER, GRID, Lessons, patch_truth
from sigmagraft.training.train_image_encoder import Task as EncoderTask
from sigmagraft.training.train_ip_adapter import Adapter, Task, elsewhere, export
from sigmagraft.training.train_text import Lessons as TextLessons
from sigmagraft.training.train_unet import new_unet
from sigmagraft.training.train_vae import new_vae
from sigmagraft.training.words import COLOURS, SHAPES


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of untrained networks and a few latents."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    for name, state in (("text", TextLessons().state_dict()), (FOLDER, Lessons().state_dict())):
        (folder / name).mkdir()
        torch.save({"module": state, "mean": state, "step": 0}, folder / name / "checkpoint.pt")
    unet = new_unet()
    for parameter in unet.out.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    for module in unet.modules():
        if hasattr(module, "proj_out"):
            torch.nn.init.normal_(module.proj_out.weight, std=0.05)
    (folder / "unet").mkdir()
    torch.save({"mean": unet.state_dict()}, folder / "unet" / "checkpoint.pt")
    cache = Cache(folder, seed=0)
    cache.prepare(BATCH, workers=1)
    cache.fill(new_vae(), BATCH, rank=0, workers=1)
    return folder


def test_patches_are_told_what_they_show() -> None:
    thing = Thing("square", "red", "large", "centre", 0.5, 0.5, 0.29)
    scene = Scene((thing,), Background("blue"))
    colours, shapes = (labels.reshape(GRID, GRID) for labels in patch_truth(scene, draw(scene)))
    names = list(COLOURS)
    assert colours[0, 0] == names.index("blue")
    assert colours[GRID // 2, GRID // 2] == names.index("red")
    assert shapes[0, 0] == 0
    assert shapes[GRID // 2, GRID // 2] == 1 + SHAPES.index("square")
    inside = 2 * 0.84 * 0.29 * GRID
    assert abs((shapes > 0).sum() - inside**2) < 2 * inside


def test_a_reference_shows_the_same_things() -> None:
    rng = np.random.default_rng(0)
    for k in range(20):
        scene = scene_at(0, k)
        other = elsewhere(scene, rng)
        assert [(t.shape, t.colour, t.size) for t in other.things] == [
            (t.shape, t.colour, t.size) for t in scene.things
        ]
        assert other.background == scene.background
        assert len(scene.things) == 1 or other == scene


def test_the_losses_depend_on_seed_and_step_alone(runs: Path) -> None:
    encoder, lessons = EncoderTask(runs, 0, 4), Lessons()
    task = Task(runs, 0, 4, BATCH, Workers())
    adapter = Adapter(task.unet)
    for loss, network in ((encoder.loss, lessons), (task.image_loss, adapter), (task.match_loss, adapter)):
        values = [float(loss(network, step)) for step in (1, 1, 2)]  # type: ignore[arg-type]
        assert values[0] == values[1] != values[2]


def test_what_words_add_is_told_of_every_layer(runs: Path) -> None:
    task = Task(runs, 0, 4, BATCH, Workers())
    found = task.added_by_words(task.examples(0))
    assert [at.number for at, _, _ in found] == [1, 7, 3, 5]  # input, middle, output, as they run
    for at, q, added in found:
        assert added.shape == q.shape
        assert q.shape[0] == 4
        assert q.shape[2] == at.channels
        assert added.std() > 0


def test_matching_alone_tells_pictures_apart(runs: Path, tmp_path: Path) -> None:
    task = Task(runs, 0, 4, BATCH, Workers())
    adapter = Adapter(task.unet)
    first = float(task.match_loss(adapter, 0))
    Loop(tmp_path, adapter, Plan(25, 5e-3, warm=1), lambda step: task.match_loss(adapter, 0)).run()
    assert float(task.match_loss(adapter, 0)) < 0.8 * first


def test_only_the_adapter_learns_and_goes_on_where_it_stopped(runs: Path, tmp_path: Path) -> None:
    task = Task(runs, 0, 4, BATCH, Workers())
    frozen = [p.clone() for p in task.unet.parameters()]

    def trained(folder: Path, *stops: int) -> dict[str, torch.Tensor]:
        for steps in stops:
            adapter = Adapter(task.unet)
            loop = Loop(
                folder, adapter, Plan(2, 1e-3, warm=1), lambda s, a=adapter: task.image_loss(a, s), 0.9
            )
            loop.plan = Plan(steps, 1e-3, warm=1, cool=1e-9)
            loop.run()
        return adapter.state_dict()

    once, twice = trained(tmp_path / "a", 2), trained(tmp_path / "b", 1, 2)
    start = Adapter(task.unet).state_dict()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert all(not torch.equal(once[name], start[name]) for name in once if name.endswith("_ip.weight"))
    assert all(torch.equal(a, b) for a, b in zip(frozen, task.unet.parameters(), strict=True))


def test_its_files_are_a_published_plus_adapter(runs: Path, tmp_path: Path) -> None:
    task = Task(runs, 0, 4, BATCH, Workers())
    adapter = Adapter(task.unet, seed=3)
    (runs / "ip_adapter").mkdir(exist_ok=True)
    torch.save({"mean": adapter.state_dict(), "step": 7}, runs / "ip_adapter" / "checkpoint.pt")
    written = export(runs, tmp_path)
    assert sum(path.stat().st_size for path in written) < 6_000_000
    loaded = IPAdapter.load(written[0])
    assert loaded.file.variant.name == "plus"
    loaded.check(task.unet.config)
    encoder = find_encoder(loaded.file, None)
    assert isinstance(encoder, ImageEncoder)
    hidden = encoder.encode([Image.fromarray(draw(scene_at(0, 0)).image)], ["hidden"])
    with torch.no_grad():
        wanted = adapter.image_proj(hidden.hidden)
    found = loaded.tokens(Features(hidden=hidden.hidden))
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-3)
