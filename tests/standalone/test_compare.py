"""Comparing samplers: equal cost, distances that mean something, and pictures of both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, NoiseLevels, SamplerSpec, schedule
from sigmagraft.samplers.cost import evaluations_of, most_steps
from sigmagraft.standalone import encode
from sigmagraft.standalone.chart import Curve, plot, ticks
from sigmagraft.standalone.compare import Comparison, Entry, psnr, relative
from sigmagraft.standalone.lettering import shortened, width, wrapped
from sigmagraft.standalone.pipeline import Pipeline
from sigmagraft.standalone.sheet import Picture, labelled
from sigmagraft.standalone.ways import Way, listed

from .small import small_model

SETTINGS = {"seed": 5, "cfg": 2.0}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture(scope="module")
def comparison(pipe: Pipeline) -> Comparison:
    return Comparison(pipe, "a circle", SETTINGS, Entry(Way("dpmpp_2m", "karras"), "reference", 16))


def test_a_walk_is_the_pipelines_own(pipe: Pipeline, comparison: Comparison) -> None:
    way = Way("heun", "karras")
    entry = comparison.entry(way, 6, "6 steps")
    alone = pipe("a circle", sampler="heun", schedule="karras", steps=6, **SETTINGS)
    fine = pipe("a circle", sampler="dpmpp_2m", schedule="karras", steps=16, **SETTINGS)
    assert entry.image is not None
    assert np.array_equal(np.asarray(entry.image), np.asarray(alone.images[0]))
    assert entry.distance == pytest.approx(relative(alone.latents, fine.latents), rel=1e-4)
    assert entry.psnr == pytest.approx(psnr(alone.images[0], fine.images[0]), rel=1e-4)
    assert (entry.steps, entry.evaluations) == (6, 11)
    assert entry.seconds > 0.0


def test_finer_is_nearer_and_the_reference_itself_is_at_0(comparison: Comparison) -> None:
    errors = [comparison.entry(Way("dpmpp_2m", "karras"), steps, "").distance for steps in (4, 8, 16)]
    assert errors[0] > errors[1] > errors[2] == 0.0
    same = comparison.entry(Way("dpmpp_2m", "karras"), 16, "")
    assert math.isinf(same.psnr)
    assert (same.as_json()["psnr"], same.as_json()["distance"]) == (None, 0.0)


def test_the_text_is_encoded_once(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from sigmagraft.standalone import prompt_run

    encoded: list[str] = []

    def counted(*args, **kwargs):
        encoded.append("")
        return encode.encode_prompts(*args, **kwargs)

    monkeypatch.setattr(prompt_run, "encode_prompts", counted)
    made = Comparison(pipe, "a circle", SETTINGS, Entry(Way("euler"), "reference", 5))
    for steps in (2, 3):
        made.entry(Way("heun"), steps, "")
    assert len(encoded) == 2  # the prompt and the negative prompt


def test_what_cannot_be_walked_says_why(comparison: Comparison) -> None:
    broken = comparison.entry(Way("euler", "karras"), 2000, "2000 steps")
    assert "steps 2000" in broken.error
    assert broken.as_json()["distance"] is None
    assert "more evaluations" in comparison.entry(Way("heun"), None, "1").error


@pytest.mark.parametrize("levels", [NoiseLevels.discrete(), NoiseLevels.flow(3.0)], ids=["ve", "flow"])
@pytest.mark.parametrize("spec", [s for s in SAMPLERS if not s.adaptive], ids=lambda spec: spec.name)
def test_equal_cost_is_the_most_that_fits(spec: SamplerSpec, levels: NoiseLevels) -> None:
    if levels.is_flow and not spec.flow:
        pytest.skip("not for flow")

    def cost(steps: int) -> int:
        return evaluations_of(spec, schedule("normal", steps, levels), levels)

    steps = most_steps(spec, lambda n: schedule("normal", n, levels), 16, levels)
    if steps is None:
        assert cost(1) > 16
    else:
        assert cost(steps) <= 16 < cost(steps + 1)


def test_ways() -> None:
    made = listed([("Euler a", {"eta": "0"}), ("k_heun", {})], [("Karras", {"rho": "5"}), ("normal", {})])
    assert [way.name for way in made] == [
        "euler_ancestral:eta=0.0 karras:rho=5.0",
        "euler_ancestral:eta=0.0 normal",
        "heun karras:rho=5.0",
        "heun normal",
    ]
    assert [way.stochastic for way in made] == [False] * 4
    assert Way("euler_ancestral").stochastic
    assert Way("euler", options=(("s_churn", 2.0),)).stochastic
    for samplers, schedules, message in (
        ([("eular", {})], [], "'euler'"),
        ([("euler", {"churn": 1})], [], "'s_churn'"),
        ([("euler", {})], [("karas", {})], "'karras'"),
        ([("euler", {})], [("karras", {"rh": 5})], "'rho'"),
        ([("euler", {}), ("k_euler", {})], [], "twice"),
    ):
        with pytest.raises(OptionError, match=message):
            listed(samplers, schedules)


def test_measures() -> None:
    x = torch.tensor([3.0, 4.0])
    assert relative(x * 1.1, x) == pytest.approx(0.1)
    grey, lighter = Image.new("RGB", (4, 4), (100, 100, 100)), Image.new("RGB", (4, 4), (110, 110, 110))
    assert psnr(lighter, grey) == pytest.approx(20 * math.log10(25.5))


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.4), (5.0, 40.0), (0.004, 3.0), (1e-5, 2.0), (1.0, 1.2)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 1 <= len(found) <= 16
    assert found == sorted(set(found))
    assert all(low <= value <= high for value in found)
    assert all(len(f"{value:g}".strip("0.").replace(".", "")) <= 7 for value in found)


def test_the_plot_shows_every_curve_where_its_points_are() -> None:
    """A falling line of one curve and a rising one of another, found by their colours."""
    curves = [
        Curve("falls", [(5, 1.0), (10, 0.1), (20, 0.01)]),
        Curve("rises", [(5, 0.01), (20, 1.0)], hollow=True),
    ]
    image = plot("two", "evaluations", "distance", curves)
    pixels = np.asarray(image).astype(int)
    for colour, falls in (((0, 114, 178), True), ((213, 94, 0), False)):
        down, across = np.nonzero(np.abs(pixels - colour).sum(axis=2) < 40)
        inside = across < 780  # what is right of the axes is the legend
        slope = np.polyfit(across[inside], down[inside], 1)[0]
        assert (slope > 0.3) == falls
        assert (~inside).any()
    one = plot("", "", "", [Curve("a point", [(7, 0.3)])])
    assert one.size == image.size
    assert plot("", "", "", [Curve(f"number {k}", [(k + 1, 1.0)]) for k in range(60)]).height > image.height


def test_the_sheet_has_every_picture_in_its_place() -> None:
    red, blue = Image.new("RGB", (200, 100), "red"), Image.new("RGB", (200, 100), "blue")
    cells = {
        ("a", "x"): Picture(red, ["one"]),
        ("b", "y"): Picture(blue, ["two", "lines"]),
        ("a", "y"): Picture(None, ["there was a reason"]),
    }
    pixels = np.asarray(labelled(["title", "facts"], ["a", "b"], ["x", "y"], cells)).astype(int)
    places = {}
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        down, across = np.nonzero((pixels == colour).all(axis=2))
        assert len(down) == 200 * 100
        places[name] = (across.min(), down.min())
    assert places["blue"][0] > places["red"][0] + 200
    assert places["blue"][1] > places["red"][1] + 100


def test_lettering_fits() -> None:
    text = "a_sampler_with_a_long_name and some words"
    assert width(shortened(text, 14, 90), 14) <= 90
    assert shortened("short", 14, 90) == "short"
    lines = wrapped(text, 14, 120, 3)
    assert 1 < len(lines) <= 3
    assert all(width(line, 14) <= 120 for line in lines)
    assert width("кот", 14) == width("???", 14)
