"""Expressions, blocks and curves: what they say at every place of a run."""

from __future__ import annotations

import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.loras import Strength, parse_expression
from sigmagraft.loras.blocks import LISTS, PRESETS, Blocks, block_of, parse_blocks
from sigmagraft.loras.curve import Place, parse_curve, parse_window

MID, IN4, OUT9 = "middle_block.1.proj_in", "input_blocks.4.1.proj_in", "output_blocks.9.0.in_layers.2"


def strength(text: str) -> Strength:
    return parse_expression(f"name{text}")[1]


@pytest.mark.parametrize(
    ("text", "unet", "text_encoder", "second"),
    [
        ("", 1.0, 1.0, 1.0),
        (":0.8", 0.8, 0.8, 0.8),
        (":-1.5", -1.5, -1.5, -1.5),
        (":0.3:0.7", 0.7, 0.3, 0.3),  # A1111: text encoder, then UNet
        (":0.8:te=0.5", 0.8, 0.5, 0.5),
        (":te=0:unet=1", 1.0, 0.0, 0.0),
        (":1:te1=0.2:te2=0.4", 1.0, 0.2, 0.4),
    ],
)
def test_weights(text: str, unet: float, text_encoder: float, second: float) -> None:
    found = strength(text)
    assert found.fixed("unet", MID) == unet
    assert found.fixed("text_encoder", "text_model.x") == text_encoder
    assert found.fixed("text_encoder_2", "text_model.x") == second
    assert found.moving(Place(3.0)) == 1.0


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (":blocks=IN=0.5,M00=0,OUT08-OUT10=2", (0.5, 0.0, 2.0)),
        (":blocks=OUTALL", (0.0, 0.0, 1.0)),
        (":lbw=INALL", (1.0, 0.0, 0.0)),
        (":blocks=MIDD", (0.0, 1.0, 0.0)),
        (":blocks=" + ",".join(["1", *["0.1"] * 12, "0.2", *["0.3"] * 12]), (0.1, 0.2, 0.3)),
        (":blocks=" + ",".join(["1", *["0.1"] * 6, "0.2", *["0.3"] * 9]), (0.1, 0.2, 0.3)),
        (":0.5:blocks=up=3", (0.5, 0.5, 1.5)),
    ],
)
def test_blocks(text: str, values: tuple[float, float, float]) -> None:
    found = strength(text)
    assert tuple(found.fixed("unet", path) for path in (IN4, MID, OUT9)) == pytest.approx(values)


def test_base_is_the_text_encoders_and_other_layers_keep_their_weight() -> None:
    found = strength(":2:blocks=0.5" + ",0" * 16)
    assert found.fixed("text_encoder", "x") == 1.0
    assert found.fixed("unet", "time_embed.0") == 2.0
    assert (
        found.fixed("unet", "input_blocks.3.0.op") == 0.0
    )  # a list of 17 says nothing of it: 0, as people know it


@pytest.mark.parametrize("length", LISTS)
def test_a_list_gives_each_block_its_own_value(length: int) -> None:
    values = [float(i) for i in range(length)]
    blocks = parse_blocks(",".join(map(str, values)), "here")
    assert [blocks.factors[name] for name in LISTS[length]] == values
    assert len(set(LISTS[length])) == length


def test_presets_are_lists_of_17() -> None:
    for text in PRESETS.values():
        assert len(text.split(",")) == 17


@pytest.mark.parametrize(
    ("path", "block"),
    [
        (MID, "M00"),
        (IN4, "IN04"),
        (OUT9, "OUT09"),
        ("out.2", None),
        ("time_embed.0", None),
        ("label_emb.0.0", None),
    ],
)
def test_the_block_of_a_path(path: str, block: str | None) -> None:
    assert block_of(path) == block
    assert Blocks({"M00": 5.0}).factor(path) == (5.0 if block == "M00" else 1.0)


@pytest.mark.parametrize(
    ("text", "axis", "expected"),
    [
        ("0@14,1@2", "sigma", {20.0: 0.0, 14.0: 0.0, 8.0: 0.5, 2.0: 1.0, 0.1: 1.0}),
        ("1@2;0@14", "sigma", {20.0: 0.0, 8.0: 0.5, 0.1: 1.0}),  # the order of writing does not matter
        ("0@7,1@7", "sigma", {7.1: 0.0, 7.0: 1.0, 6.9: 1.0}),
        ("0.2@5", "sigma", {9.0: 0.2, 1.0: 0.2}),
        ("0@0,1@10,0@20", "step", {0.0: 0.0, 5.0: 0.5, 10.0: 1.0, 15.0: 0.5, 20.0: 0.0}),
        ("0@0,1@0.5", "fraction", {0.0: 0.0, 5.0: 0.5, 10.0: 1.0, 20.0: 1.0}),
        ("0@0%,1@50%", "fraction", {5.0: 0.5}),
        ("0@0,1@0.5", None, {5.0: 0.5, 10.0: 1.0}),
        ("0@0,1@5", None, {2.5: 0.5, 10.0: 1.0}),
    ],
)
def test_curves(text: str, axis: str | None, expected: dict[float, float]) -> None:
    curve = parse_curve(text, axis, "here")
    for position, value in expected.items():
        place = Place(position, 0.0, 20) if axis == "sigma" else Place(1.0, position, 20)
        assert curve.at(place) == pytest.approx(value)


@pytest.mark.parametrize(
    ("key", "value", "inside"),
    [
        ("start", "5", lambda step: step >= 5),
        ("stop", "0.5", lambda step: step < 10),
        ("step", "5-12", lambda step: 5 <= step < 12),
        ("step", "5-", lambda step: step >= 5),
        ("step", "0.25-0.5", lambda step: 5 <= step < 10),
    ],
)
def test_windows(key: str, value: str, inside) -> None:  # type: ignore[no-untyped-def]
    curve = parse_window(key, value, "here")
    assert [curve.at(Place(1.0, float(step), 20)) for step in range(20)] == [
        float(inside(s)) for s in range(20)
    ]


def test_everything_in_one_expression() -> None:
    name, found, other = parse_expression(
        "ink:1.0:te=0.5:blocks=OUTALL:sigma=0@14,1@2:weight_name=a.safetensors"
    )
    assert name == "ink"
    assert other == {"weight_name": "a.safetensors"}
    assert found.fixed("text_encoder", "x") == 0.5
    assert found.fixed("unet", OUT9) * found.moving(Place(8.0)) == 0.5
    assert found.fixed("unet", IN4) == 0.0


def test_a_drive_letter_is_no_name() -> None:
    assert parse_expression("C:\\loras\\ink.safetensors:0.5")[0] == "C:\\loras\\ink.safetensors"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (":abc", "weight 'abc'"),
        (":nan", "weight 'nan'"),
        (":1:2:3", "3 weights"),
        (":1:sgima=0@1", "did you mean 'sigma'"),
        (":1:blocks=OUTAL", "did you mean 'OUTALL'"),
        (":1:blocks=1,1,1", "3 values for blocks"),
        (":1:blocks=IN99=1", "unknown block 'IN99'"),
        (":1:blocks=IN01=x", "in blocks"),
        (":1:sigma=0-14", "value@place"),
        (":1:sigma=0@x", "no number"),
        (":1:fraction=0@2", "outside the run"),
        (":1:sigma=1@-3", "outside the run"),
        (":1:start=", "start ''"),
        (":te=0@0,1@1", "prompts are read once"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        strength(text)


def test_a_nameless_expression_is_refused() -> None:
    with pytest.raises(OptionError, match="no name"):
        parse_expression(":1.0")
