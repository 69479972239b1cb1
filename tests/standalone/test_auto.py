"""`--sampler auto` in the runner: the way that was measured best, told, and refused beside what it chooses itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers.auto import choose
from sigmagraft.standalone import cli
from sigmagraft.standalone.cli import generate
from sigmagraft.standalone.pipeline import Pipeline

from .small import small_model

DRAW = {"size": (32, 32), "seed": 1}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.mark.parametrize(("steps", "cfg"), [(4, 1.0), (6, 7.0), (None, 7.0)])
def test_it_draws_what_the_way_it_names_draws(pipe: Pipeline, steps: int | None, cfg: float) -> None:
    auto = pipe("a cat", sampler="auto", steps=steps, cfg=cfg, **DRAW)
    way = choose(steps or 20, False, cfg).way
    named = pipe(
        "a cat",
        sampler=way.sampler,
        options=dict(way.options),
        schedule=way.schedule,
        schedule_options=way.schedule_options(pipe.levels) or None,
        steps=steps,
        cfg=cfg,
        **DRAW,
    )
    assert auto.images[0].tobytes() == named.images[0].tobytes()
    assert (auto.settings["sampler"], auto.settings["schedule"]) == (way.sampler, way.schedule)


def test_a_flow_model_gets_a_way_for_flow() -> None:
    pipe = Pipeline(small_model(prediction="flow", shift=3.0))
    found = pipe("a cat", sampler="auto", steps=4, cfg=4.0, **DRAW)
    assert found.settings["sampler"] == choose(4, True, 4.0).way.sampler


@pytest.mark.parametrize(
    "beside", [{"schedule": "karras"}, {"sigmas": [3.0, 1.0]}, {"options": {"eta": 1.0}}]
)
def test_a_schedule_or_options_beside_it_are_refused(pipe: Pipeline, beside: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=r"auto with (schedule|sigmas|options)"):
        pipe("a cat", sampler="auto", **beside, **DRAW)


def test_the_command_tells_its_choice(
    tmp_path: Path, pipe: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "load_pipeline", lambda **options: pipe)
    asked = ["a cat", "--sampler", "auto", "--steps", "5", "--size", "32", "--out", str(tmp_path / "cat.png")]
    assert cli.main(asked) == 0
    assert f"sampler auto: {choose(5, False, 7.0).reason}" in capsys.readouterr().err
    assert cli.main([*asked, "--schedule", "karras"]) == 2
    assert "leave them out" in capsys.readouterr().err


def test_the_listing_tells_every_way_it_may_choose(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["samplers", "auto"]) == 0
    told = capsys.readouterr().out
    for steps, flow, cfg in ((4, False, 7.0), (8, True, 1.0), (20, True, 5.0)):
        assert choose(steps, flow, cfg).way.label in told
