"""LoRAs in training begin by changing nothing, are written as they were trained, and are taught what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sigmagraft.loras import Targets, read_lora
from sigmagraft.loras.bind import bind
from sigmagraft.training.captions import caption, text
from sigmagraft.training.draw import draw
from sigmagraft.training.latents import Cache
from sigmagraft.training.lessons import LESSONS, RINGS, SUBJECT, manner
from sigmagraft.training.loop import Workers
from sigmagraft.training.lora_forms import FORMS, LoraForm
from sigmagraft.training.train_tcd import Points, Task
from sigmagraft.training.train_text import Lessons
from sigmagraft.training.train_unet import new_unet
from sigmagraft.training.train_vae import new_vae
from sigmagraft.training.words import COLOURS

from ..controlnet.peers import filled

SMALL = 4


def shaken(form: LoraForm) -> LoraForm:
    torch.manual_seed(1)
    for parameter in form.parameters():
        parameter.data += torch.randn_like(parameter) * 0.02
    return form


@pytest.mark.parametrize("name", FORMS)
def test_a_lora_begins_by_changing_nothing_and_learns_at_once(name: str) -> None:
    unet = filled(new_unet())
    form = LoraForm(unet, name)
    state = unet.state_dict()
    for path, weight in form.weights().items():
        torch.testing.assert_close(weight, state[path], atol=1e-6, rtol=1e-6)
    x, t, context = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 77, 64)
    form.predict(form.weights(), x, t, context).square().mean().backward()
    moved = [p for p in form.parameters() if p.grad is not None and p.grad.any()]
    assert len(moved) >= len(form.stems)


@pytest.mark.parametrize("name", FORMS)
def test_what_is_written_is_what_was_trained(name: str, tmp_path: Path) -> None:
    unet = filled(new_unet())
    form = shaken(LoraForm(unet, name))
    path = tmp_path / f"{name}.safetensors"
    save_file({n: t.detach().contiguous() for n, t in form.published().items()}, path)
    state = unet.state_dict()
    bound = bind(read_lora(path), Targets.of({n: tuple(v.shape) for n, v in state.items()}))
    trained = form.weights()
    assert len(bound.deltas) == len(trained)
    for key, (delta,) in bound.deltas.items():
        weight = state[key.removeprefix("unet.")]
        torch.testing.assert_close(weight + delta.delta(weight), trained[key.removeprefix("unet.")])


@pytest.mark.parametrize("name", LESSONS)
def test_lessons_show_what_their_captions_tell(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        shown = LESSONS[name].show(rng)
        told = text(caption(shown.told, rng, manner(shown.told)))
        plain = draw(shown.told).image if name != SUBJECT else None
        image = draw(shown.drawn).image
        if plain is not None:
            assert (plain != image).any(axis=2).mean() > 0.005
            continue
        assert SUBJECT in told
        thing = shown.drawn.things[0]
        for colour, share in RINGS:
            at = int((thing.x + thing.extent * (share - 0.12)) * 128)
            assert np.abs(image[int(thing.y * 128), at] - np.array(COLOURS[colour], float)).max() < 40


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("runs")
    cache = Cache(folder, seed=0)
    cache.prepare(SMALL, workers=1)
    cache.fill(new_vae(), SMALL, rank=0, workers=1)
    for part, module in (("text", Lessons()), ("unet", filled(new_unet()))):
        (folder / part).mkdir()
        torch.save(
            {"mean": module.state_dict(), "module": module.state_dict()}, folder / part / "checkpoint.pt"
        )
    return Task(folder, 0, SMALL, SMALL, Workers())


def test_the_teachers_step_is_of_second_order(task: Task) -> None:
    """Of an exactly known field: for data of deviation 1 eps is sigma x, and the step keeps x as it is."""

    def exact(unet: object, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return task.sides(t)[1] * x

    errors = []
    for points in (10, 20, 40):
        grid = torch.arange(points + 1) * (1000 // points) - 1
        x, wrong = torch.ones(1, 4, 2, 2, dtype=torch.float64), task.guided
        task.guided = exact  # type: ignore[method-assign]
        for at in range(points, points // 2, -1):
            x = task.followed(x, Points(grid[at : at + 1], grid[at - 1 : at], grid[:1]), torch.zeros(1, 1, 1))
        task.guided = wrong  # type: ignore[method-assign]
        errors.append(float((x - 1).abs().max()))
    assert errors[0] / errors[1] > 3
    assert errors[1] / errors[2] > 3


def test_a_student_that_is_right_already_has_nothing_to_learn(task: Task) -> None:
    """A field of eps = 0 is a straight line in x / alpha: every step of it is exact."""
    form = LoraForm(task.teacher)
    saved = form.predict, task.guided
    form.predict = lambda weights, x, t, context: torch.zeros_like(x)  # type: ignore[method-assign]
    task.guided = lambda unet, x, t, context: torch.zeros_like(x)  # type: ignore[method-assign]
    right = float(task.tcd_loss(form, 0))
    form.predict, task.guided = saved  # type: ignore[method-assign]
    assert right < 1e-4 < 1e-2 < float(task.tcd_loss(form, 0))
