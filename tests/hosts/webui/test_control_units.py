"""Units of the panel: from fields and the API, into pictures' parameters and back, into what acts; and whose rows."""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.controlnet.ip_settings import ImagePrompt
from sigmagraft.controlnet.settings import Control
from sigmagraft.core.errors import OptionError
from sigmagraft.hosts.webui.control_rows import Rows
from sigmagraft.hosts.webui.control_units import (
    Unit,
    control_of,
    pictures,
    prompt_of,
    read_back,
    settings_of,
    units_of,
    written,
)

from .. import control_files as files

A = files.picture(1)
UNIT = Unit(A, None, "canny.pth", "canny", 0.8, 0.1, 0.7, "mode=control; low=50; keyframes=0@1,0.5@0.3")


def text_of(image: Image.Image) -> str:
    into = io.BytesIO()
    image.save(into, "PNG")
    return base64.b64encode(into.getvalue()).decode()


def test_the_page_gives_fields_and_the_api_tables() -> None:
    fields = [getattr(UNIT, name) for name in vars(UNIT)]
    assert units_of([*fields, None, None, "None", "none", 1.0, 0.0, 1.0, ""]) == [UNIT, Unit()]
    table = {"file": "canny.pth", "weight": 0.5}
    assert units_of([table, {"file": "None"}]) == [Unit(file="canny.pth", weight=0.5), Unit()]
    assert units_of([]) == []
    with pytest.raises(OptionError, match="did you mean 'weight'"):
        units_of([{"file": "x", "wieght": 1}])


def test_parameters_come_back() -> None:
    text = written([UNIT, Unit(), Unit(file="reference")])
    back = [Unit(**told) for told in read_back(text)]
    assert back == [Unit(**{**vars(UNIT), "image": None}), Unit(file="reference")]
    assert [read_back(bad) for bad in (None, "", "{", '{"a": 1}', "[1]")] == [[]] * 5
    assert json.loads(written([Unit()])) == []


def test_a_unit_becomes_a_control() -> None:
    made = control_of(UNIT, "loaded", ())
    assert (made.strength, made.start, made.end, made.mode) == (0.8, 0.1, 0.7, "control")
    assert made.keyframes == [(0.0, 1.0), (0.5, 0.3)]
    assert made.options == {"low": 50}
    assert made.types == ()
    assert control_of(UNIT, "loaded", (), union=True).types == ["canny"]
    redrawn = files.picture(2)
    assert control_of(Unit(file="x"), "loaded", [redrawn]).images == [redrawn]


def test_a_unit_becomes_an_image_prompt() -> None:
    unit = Unit(A, A, "ip", weight=0.6, settings="weight_type=style transfer; weights=1,0.5; layers=")
    with pytest.raises(OptionError, match="layers"):
        prompt_of(unit)
    unit = Unit([A, A], A, "ip", weight=0.6, settings="weight_type=ease_in; combine=average; tiled=true")
    made = prompt_of(unit)
    assert (made.weight, made.weight_type, made.combine, made.tiled) == (0.6, "ease-in", "average", True)
    assert len(made.images) == 2
    assert made.mask is not None


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (Control, "weight_type=style", "weight_type"),
        (ImagePrompt, "mode=control", "mode"),
        (Control, "keyfraems=0@1", "did you mean 'keyframes'"),
        (Control, "low=x", "low"),
        (Control, "loud", "NAME=VALUE"),
    ],
)
def test_settings_that_cannot_be_are_named(kind: type, settings: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        settings_of(Unit(file="x", preprocessor="canny", settings=settings), kind)


def test_pictures_of_every_page() -> None:
    array = np.asarray(A)
    sketch = {"background": A, "layers": [], "composite": A}
    for value in (A, array, sketch, {"image": array}, text_of(A), f"data:image/png;base64,{text_of(A)}"):
        (found,) = pictures(value)
        assert np.array_equal(np.asarray(found.convert("RGB")), array)
    assert len(pictures([text_of(A), A])) == 2
    assert pictures(None) == pictures("") == []
    with pytest.raises(OptionError, match="base64"):
        pictures("no picture")


class Denoiser(torch.nn.Module):
    """Calls a network as Automatic1111's does: `calls` rows at a time."""

    def __init__(self, rows: Rows, calls: list[int]) -> None:
        super().__init__()
        self.rows, self.calls = rows, calls

    def forward(self, x: Any, sigma: Any, uncond: Any, cond: Any) -> list[Any]:
        return [self.rows.branches(count) for count in self.calls]


@pytest.mark.parametrize(
    ("parts", "calls", "wanted"),
    [
        ([1], [2], [("cond", "uncond")]),
        ([1, 1], [4], [("cond", "uncond")]),
        ([1, 1], [2, 2], [("cond",), ("uncond",)]),
        ([1, 1], [2], [("cond",)]),  # the negative prompt left out
        ([3], [4], [("cond", "cond", "cond", "uncond")]),
        ([2, 1], [5], [("cond", "cond", "cond", "uncond", "uncond")]),
    ],
)
def test_whose_rows_are_whose(parts: list[int], calls: list[int], wanted: list[Any]) -> None:
    rows = Rows()
    denoiser = Denoiser(rows, calls)
    cond = SimpleNamespace(batch=[[None] * count for count in parts])
    with rows.counted(denoiser):
        for _ in range(2):
            assert denoiser(torch.zeros(len(parts), 4), 1.0, uncond=None, cond=cond) == wanted
    assert not denoiser._forward_pre_hooks
