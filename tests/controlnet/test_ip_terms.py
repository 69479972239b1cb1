"""The term in a cross-attention and its weights, against definitions written here."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sigmagraft.controlnet.ip_attention import SCALINGS, ImageTerm, Tokens, grid_of
from sigmagraft.controlnet.ip_weights import RULES, TABLES, Gain, by_hand, gains
from sigmagraft.core.errors import OptionError
from sigmagraft.core.patch import Inputs, StepInfo
from sigmagraft.core.unet_config import UNetConfig

from .test_ip_files import config_of

HEADS, CHANNELS, WIDTH = 2, 16, 6
SOURCE = torch.Generator().manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=SOURCE, dtype=torch.float64)


TO_K, TO_V = draw(CHANNELS, WIDTH), draw(CHANNELS, WIDTH)
COND, UNCOND = draw(1, 3, WIDTH), draw(1, 3, WIDTH)
Q = draw(4, 12, CHANNELS)  # cond and uncond of a batch of 2, 3 x 4 tokens
LATENT = Inputs(torch.zeros(4, 4, 6, 8), torch.zeros(4), torch.zeros(4, 1, 1))
INFO = StepInfo(branches=("cond", "uncond"), inputs=LATENT)


def term(**given: object) -> ImageTerm:
    settings = {
        "to_k": TO_K,
        "to_v": TO_V,
        "heads": HEADS,
        "tokens": Tokens(COND, UNCOND),
        "weight": 1.0,
        "gain": Gain(1.0),
        "scaling": "V only",
        "mask": None,
        "active": lambda info: True,
    }
    return ImageTerm(**{**settings, **given})  # type: ignore[arg-type]


def attention(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One row, head by head: softmax(q k^T / sqrt(d)) v; q [n, c], keys and values [m, c]."""
    d = CHANNELS // HEADS
    out = []
    for h in range(HEADS):
        part = slice(h * d, (h + 1) * d)
        scores = q[:, part] @ keys[:, part].T / math.sqrt(d)
        out.append(scores.softmax(-1) @ values[:, part])
    return torch.cat(out, -1)


def rows(tokens: list[Tensor]) -> Tensor:
    """The plain term of each row of Q with its own tokens [m, width]."""
    return torch.stack([attention(q, t @ TO_K.T, t @ TO_V.T) for q, t in zip(Q, tokens, strict=True)])


def test_each_half_reads_its_own_tokens() -> None:
    wanted = rows([COND[0], COND[0], UNCOND[0], UNCOND[0]])
    torch.testing.assert_close(term(weight=0.5, gain=Gain(1.6))(Q, Q, Q, INFO), wanted * 0.8)
    swapped = StepInfo(branches=("uncond", "cond"))
    wanted = rows([UNCOND[0], UNCOND[0], COND[0], COND[0]])
    torch.testing.assert_close(term()(Q, Q, Q, swapped), wanted)
    torch.testing.assert_close(term()(Q, Q, Q, StepInfo()), rows([COND[0]] * 4))


def test_each_picture_of_a_batch_has_its_own_image_and_weight() -> None:
    each = draw(2, 3, WIDTH)
    weight = torch.tensor([0.3, 0.9], dtype=torch.float64)[:, None, None]
    found = term(tokens=Tokens(each, UNCOND), weight=weight)(Q, Q, Q, INFO)
    factors = torch.tensor([0.3, 0.9, 0.3, 0.9], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(found, rows([each[0], each[1], UNCOND[0], UNCOND[0]]) * factors)
    with pytest.raises(OptionError, match="3 pictures, and a batch of 2"):
        term(tokens=Tokens(draw(3, 3, WIDTH), UNCOND))(Q, Q, Q, INFO)


def test_more_images_for_one_half_than_for_the_other() -> None:
    three = draw(1, 9, WIDTH)
    found = term(tokens=Tokens(three, UNCOND))(Q, Q, Q, INFO)
    torch.testing.assert_close(found, rows([three[0], three[0], UNCOND[0], UNCOND[0]]))


def test_a_swapped_layer_leads_the_negative_half_to_the_image() -> None:
    found = term(gain=Gain(1.0, swapped=True))(Q, Q, Q, INFO)
    assert not found[:2].any()
    torch.testing.assert_close(found[2:], rows([COND[0]] * 4)[2:])


def test_where_the_weight_acts() -> None:
    w, keys, values = 0.7, COND[0] @ TO_K.T, COND[0] @ TO_V.T
    weak = w * CHANNELS / 1280
    mean = values.mean(0)
    wanted = {
        "V only": (keys, values * w),
        "K+V": (keys * w, values * w),
        "K+V w/ C penalty": (keys * weak, values * weak),
        "K+mean(V) w/ C penalty": (keys * weak, values - mean + mean * weak),
    }
    assert wanted.keys() == SCALINGS.keys()
    for name, (k, v) in wanted.items():
        found = term(weight=w, scaling=name)(Q, Q, Q, StepInfo())
        torch.testing.assert_close(found, torch.stack([attention(q, k, v) for q in Q]))


def test_a_mask_says_where() -> None:
    mask = torch.zeros(1, 30, 40)
    mask[:, :10, :20] = 1  # the upper left: 1 of 3 rows, 2 of 4 columns of tokens
    mask[:, 10:20, :5] = 1  # half of the token in row 1, column 0
    shares = torch.zeros(3, 4, dtype=torch.float64)
    shares[0, :2], shares[1, 0] = 1, 0.5
    wanted = rows([COND[0], COND[0], UNCOND[0], UNCOND[0]]) * shares.flatten()[:, None]
    torch.testing.assert_close(term(mask=mask)(Q, Q, Q, INFO), wanted)
    two = torch.cat([mask, 1 - mask])
    found = term(mask=two)(Q, Q, Q, INFO)
    torch.testing.assert_close(found[::2], wanted[::2])
    torch.testing.assert_close(
        found[1::2] + wanted[1::2], rows([COND[0], COND[0], UNCOND[0], UNCOND[0]])[1::2]
    )


def test_the_grid_at_every_depth() -> None:
    for height, width in ((96, 64), (9, 13), (1, 5), (127, 85)):
        grid = (height, width)
        for _ in range(4):
            assert grid_of(grid[0] * grid[1], height, width) == grid
            grid = (-(-grid[0] // 2), -(-grid[1] // 2))
    with pytest.raises(OptionError, match="7 tokens"):
        grid_of(7, 8, 8)


def test_out_of_range_nothing_is_added() -> None:
    assert not term(active=lambda info: False)(Q, Q, Q, INFO).any()


# ---- weight types


SD1, XL = config_of("sd15"), config_of("sdxl_base")


def test_rules_by_place() -> None:
    """As functions of the number t of n transformers, in the form ComfyUI_IPAdapter_plus has them."""
    for config, n in ((SD1, 16), (XL, 11)):
        sides = [block[0] for block, _, _ in config.transformers()]
        for t, side in enumerate(sides):
            wanted = {
                "linear": 1.0,
                "ease-in": 0.05 + 0.95 * (1 - t / n),
                "ease-out": 0.05 + 0.95 * (t / n),
                "ease-in-out": 0.05 + 0.95 * (1 - abs(t - n / 2) / (n / 2)),
                "reverse-in-out": 0.05 + 0.95 * (abs(t - n / 2) / (n / 2)),
                "weak-input": 0.2 if side == "input" else 1.0,
                "weak-middle": 0.2 if side == "middle" else 1.0,
                "weak-output": 0.2 if side == "output" else 1.0,
                "strong-middle": 0.2 if side != "middle" else 1.0,
            }
            assert wanted.keys() == RULES.keys()
            for name, factor in wanted.items():
                assert gains(config, name)[t] == Gain(pytest.approx(factor))


def ones(*numbers: int) -> dict[int, float]:
    return dict.fromkeys(numbers, 1.0)


STYLE = ones(0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15)
STRONG = STYLE | ones(6, 7, 8)
# SD1.5's weights, SDXL's weights, and which of them are swapped; at a composition's weight of 2
WANTED = {
    "style": (STYLE, ones(6), (), ()),
    "composition": ({4: 0.5, 5: 2.0}, {3: 2.0}, (), ()),
    "strong-style": (STRONG, ones(0, 1, 2, 4, 5, 6, 7, 8, 9, 10), (), ()),
    "style-and-composition": (STYLE | {4: 0.5, 5: 2.0}, {6: 1.0, 3: 2.0}, (), ()),
    "strong-style-and-composition": (
        STRONG | {4: 2.0, 5: 2.0},
        ones(0, 1, 2, 4, 5, 6, 7, 8, 9, 10) | {3: 2.0},
        (),
        (),
    ),
    "style-precise": (STYLE | {4: 0.5, 5: 2.0}, {6: 1.0, 3: 2.0}, (4, 5), (3,)),
    "composition-precise": (
        STYLE | {6: 0.1, 7: 0.1, 8: 0.1, 4: 0.5, 5: 2.0},
        dict.fromkeys((0, 1, 2, 4, 5, 7, 8, 9, 10), 0.1) | {6: 1.0, 3: 2.0},
        tuple(set(range(16)) - {4, 5}),
        tuple(set(range(11)) - {3}),
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_style_and_composition(name: str) -> None:
    for config, values, swapped in ((SD1, *WANTED[name][::2]), (XL, *WANTED[name][1::2])):
        found = gains(config, name, 2.0 if "composition" in name or "precise" in name else None)
        assert {n: g.value for n, g in found.items()} == pytest.approx(values)
        assert {n for n, g in found.items() if g.swapped} == set(swapped)


def test_style_and_composition_are_the_blocks_of_the_paper() -> None:
    blocks = [block for block, _, _ in XL.transformers()]
    assert [blocks[n] for n in gains(XL, "style")] == [("output", 1)]
    assert [blocks[n] for n in gains(XL, "composition")] == [("input", 8)]
    named = by_hand(XL, {"up_blocks.0.attentions.1": 1.0})
    assert {n for n, gain in named.items() if gain.value} == set(gains(XL, "style"))
    named = by_hand(XL, {"down_blocks.2.attentions.1": 1.0})
    assert {n for n, gain in named.items() if gain.value} == set(gains(XL, "composition"))


def test_layers_by_hand() -> None:
    found = by_hand(SD1, {"default": 0.5, "middle": 2.0, "input8": 0.0, "output.3": 1.0, 0: 0.25})
    values = [found[n].value for n in range(16)]
    assert values == [0.25, 0.5, 0.5, 0.5, 0.5, 0.0, 2.0, 1.0, *[0.5] * 8]
    with pytest.raises(OptionError, match="no layer 'output99'"):
        by_hand(SD1, {"output99": 1.0})
    small = UNetConfig(
        model_channels=32, channel_mult=(1, 2), num_res_blocks=(1, 1), transformer_depth=(1, 1)
    )
    with pytest.raises(OptionError, match="by hand"):
        gains(small, "style")
