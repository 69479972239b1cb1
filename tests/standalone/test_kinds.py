"""A setting of another kind than it takes is refused by its name, whatever it is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from PIL import Image

from sigmagraft.core.errors import OptionError
from sigmagraft.standalone.kinds import INTEGER, KINDS, NUMBER, OPTIONS, PAIR, PICTURE, SEED, TEXT, TEXTS
from sigmagraft.standalone.pipeline import Pipeline
from sigmagraft.standalone.request import OPTIONAL, Request

from .small import small_model

WRONG: dict[str, list[Any]] = {
    INTEGER[0]: ["4", 2.5, [3], True],
    NUMBER[0]: ["7", [1.0], True, 1j],
    TEXT[0]: [3, ["a"], b"a", object()],
    TEXTS[0]: [3, [3], b"a", {"a": 1}],
    PAIR[0]: ["64x64", 64, (64,), (64, 64, 64), ("64", "64"), (64.0, 64.0)],
    KINDS["crop"][0]: [3, "12"],
    OPTIONS[0]: ["eta=1", [1], {3: 4}],
    PICTURE[0]: ["file.png", 3],
    SEED[0]: ["7", 1.5, [1.5], True],
    KINDS["soft"][0]: ["yes", 1, 0.0],
    KINDS["loras"][0]: [3, "a", [3]],
}
CASES = [
    (name, value)
    for name, kind in KINDS.items()
    for value in [*WRONG[kind[0]], *([] if name in (*OPTIONAL, "prompt") else [None])]
]
QUICK = {"steps": 1, "size": (64, 64)}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.mark.parametrize(("name", "value"), CASES, ids=[f"{name}={value!r:.20}" for name, value in CASES])
def test_wrong_kinds_are_refused_by_name(name: str, value: Any, pipe: Pipeline) -> None:
    settings = {"prompt": "a", **QUICK, "image": Image.new("RGB", (64, 64)), name: value}
    with pytest.raises(OptionError, match=rf"^{name} "):
        pipe(settings.pop("prompt"), **settings)


def test_every_setting_has_a_kind_or_a_reader_of_its_own() -> None:
    read_elsewhere = {"sampler", "sigmas", "timesteps", "ip_adapter", "control", "hires", "refiner"}
    assert {each.name for each in fields(Request) if each.init} == set(KINDS) | read_elsewhere


@pytest.mark.parametrize("name", ["sigmas", "timesteps"])
@pytest.mark.parametrize("value", ["10,5", 5, [None], ["a"]])
def test_lists(name: str, value: Any, pipe: Pipeline) -> None:
    with pytest.raises(OptionError, match=name):
        pipe("a", **{**QUICK, "steps": None, name: value})


@pytest.mark.parametrize("value", [3, ["euler"], object()])
def test_samplers(value: Any, pipe: Pipeline) -> None:
    with pytest.raises(OptionError):
        pipe("a", **QUICK, sampler=value)


@pytest.mark.parametrize("name", ["callback", "decoded"])
def test_functions(name: str, pipe: Pipeline) -> None:
    with pytest.raises(OptionError, match=name):
        pipe("a", **QUICK, **{name: 3})
