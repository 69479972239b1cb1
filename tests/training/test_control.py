"""Controls in training begin by adding nothing, follow their own hints, and are written as they were trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sigmagraft.controlnet.model import ControlModel
from sigmagraft.controlnet.settings import Control
from sigmagraft.core.patch import Inputs
from sigmagraft.training.control_forms import FORMS
from sigmagraft.training.draw import draw
from sigmagraft.training.latents import scene_at
from sigmagraft.training.train_control import HINTS
from sigmagraft.training.train_unet import new_unet

from ..controlnet.peers import filled, host_of
from ..controlnet.test_residuals import info_of, picture, pixels


@pytest.fixture(scope="module")
def given() -> Inputs:
    g = torch.Generator().manual_seed(1)
    return Inputs(
        torch.randn(2, 4, 16, 16, generator=g), torch.full((2,), 500.0), torch.randn(2, 77, 64, generator=g)
    )


@pytest.mark.parametrize("form", ["controlnet", "control-lora"])
def test_a_control_begins_by_adding_nothing_and_learns_at_once(form: str, given: Inputs) -> None:
    torch.manual_seed(0)
    network = FORMS[form](filled(new_unet()))
    found = network.residuals(given, pixels(picture()).repeat(2, 1, 1, 1))
    assert all(not residual.any() for residual in found.values())
    sum((residual - 1).square().mean() for residual in found.values()).backward()
    assert any(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_what_was_trained(form: str, given: Inputs, tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = filled(new_unet())
    network = FORMS[form](unet)
    for parameter in network.parameters():
        parameter.data += torch.randn_like(parameter) * 0.02
    path = tmp_path / f"{form}.safetensors"
    save_file({n: t.detach().contiguous() for n, t in network.published().items()}, path)
    model = ControlModel.load(path)
    assert model.file.kind == form
    found = model.acting(Control(model=model, image=picture()), host_of(unet)).residuals(info_of(given))
    with torch.no_grad():
        expected = network.residuals(given, pixels(picture()).repeat(2, 1, 1, 1))
    assert set(found) == set(expected)
    for place, residual in expected.items():
        torch.testing.assert_close(found[place], residual, atol=1e-4, rtol=1e-4)


def test_hints_are_the_scenes_truth() -> None:
    truth = draw(scene_at(0, 3))
    canny, depth = HINTS["canny"](truth), HINTS["depth"](truth)
    near = np.pad(canny > 0, 2)
    around = sum(near[2 + i : 130 + i, 2 + j : 130 + j] for i in range(-2, 3) for j in range(-2, 3))
    assert (around[truth.edges > 0] > 0).mean() > 0.9
    assert depth.max() == 255
    assert np.array_equal(depth > 0, truth.order > 0)
