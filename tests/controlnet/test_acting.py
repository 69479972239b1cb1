"""When, where and how strongly a control acts, and that it costs nothing where it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sigmagraft.controlnet.acting import Acting
from sigmagraft.controlnet.model import ControlModel
from sigmagraft.controlnet.network import ControlNet
from sigmagraft.controlnet.settings import Control
from sigmagraft.controlnet.strength import Timeline, output_weights, strength_at
from sigmagraft.core.adapters import hooks_of
from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.core.patch import Inputs, StepInfo
from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.standalone.unet import UNet

from .peers import filled, host_of, saved
from .test_residuals import picture

CONFIG = UNetConfig(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=(1, 1), transformer_depth=(1, 1), context_dim=48
)
WALK = (10.0, 5.0, 2.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def unet() -> UNet:
    return filled(UNet(CONFIG), 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ControlModel:
    network = filled(ControlNet(CONFIG, (3, 16, 16, 32, 32, 48, 48, 64, 32)), 2)
    return ControlModel.load(saved(network, tmp_path_factory.mktemp("control") / "control.safetensors"))


def inputs(batch: int = 2) -> Inputs:
    g = torch.Generator().manual_seed(3)
    x, context = torch.randn(batch, 4, 8, 8, generator=g), torch.randn(batch, 5, 48, generator=g)
    return Inputs(x, torch.full((batch,), 601.0), context)


def info(sigma: float = 10.0, batch: int = 2, given: Inputs | None = None) -> StepInfo:
    return StepInfo(sigma, branches=("cond", "uncond"), inputs=given or inputs(batch))


def acting(model: ControlModel, unet: UNet, **settings: Any) -> Any:
    asked = Control(**{"model": model, "image": picture(size=64), **settings})
    return model.acting(asked, host_of(unet, WALK))


def strengths(**settings: Any) -> list[float]:
    control = Control(model="", **settings)
    return [strength_at(control, Timeline(WALK), sigma) for sigma in WALK[:-1]]


def test_range_by_steps_is_diffusers_rule() -> None:
    for start in (0.0, 0.2, 0.25, 0.5, 0.9):
        for end in (0.3, 0.5, 0.75, 1.0):
            if start <= end:
                keep = [1.0 - float(i / 4 < start or (i + 1) / 4 > end) for i in range(4)]
                assert strengths(start=start, end=end) == keep


def test_range_by_sigma() -> None:
    assert strengths(sigma_start=5.0) == [0, 1, 1, 1]
    assert strengths(sigma_end=2.0, strength=0.5) == [0.5, 0.5, 0.5, 0]
    assert strengths(sigma_start=5.0, sigma_end=1.5) == [0, 1, 1, 0]


def test_keyframes() -> None:
    assert strengths(keyframes=[(0, 1), (0.5, 0.25)]) == [1, 1, 0.25, 0.25]
    assert strengths(keyframes=[(0, 1), (0.5, 0)], interpolate=True, strength=2.0) == [2, 1, 0, 0]
    assert strengths(keyframes=[(0.5, 0.25)]) == [0.25] * 4


def test_evaluations_between_two_steps_belong_to_the_first() -> None:
    control, timeline = Control(model="", end=0.5), Timeline(WALK)
    assert [strength_at(control, timeline, sigma) for sigma in (11.0, 10.0, 7.0, 5.0, 3.0, 2.0, 0.5)] == [
        1
    ] * 5 + [0, 0]


@pytest.mark.parametrize(
    "settings",
    [{"strength": 0.0}, {"start": 0.5}, {"keyframes": [(0.0, 0.0), (0.5, 1.0)]}, {"sigma_start": 5.0}],
)
def test_what_does_not_act_is_not_evaluated(
    model: ControlModel, unet: UNet, settings: dict[str, Any]
) -> None:
    here = acting(model, unet, **settings)
    calls: list[int] = []
    handle = here.network.register_forward_pre_hook(lambda *a: calls.append(1))
    hint = here.network.input_hint_block.register_forward_pre_hook(lambda *a: calls.append(1))
    assert here.residuals(info()) == {}
    assert hooks_of([here])(info()) is None
    handle.remove()
    hint.remove()
    assert not calls


def test_the_hint_is_encoded_once_a_run(model: ControlModel, unet: UNet) -> None:
    here = acting(model, unet, preprocess="canny")
    calls: list[int] = []
    handle = here.network.input_hint_block.register_forward_pre_hook(lambda *a: calls.append(1))
    for sigma in WALK[:-1]:
        here.residuals(info(sigma))
    handle.remove()
    assert len(calls) == 1


def test_weights_of_blocks_and_modes(model: ControlModel, unet: UNet) -> None:
    plain = acting(model, unet).residuals(info())
    count = len(plain)
    weights = [0.5 * i for i in range(count)]
    found = acting(model, unet, weights=weights, strength=2.0).residuals(info())
    order = [*(("output", count - 2 - n) for n in range(count - 1)), ("middle", 0)]
    for place, weight in zip(order, weights, strict=True):
        torch.testing.assert_close(found[place], plain[place] * 2 * weight)
    soft = acting(model, unet, mode="prompt").residuals(info())
    for n, place in enumerate(order):
        torch.testing.assert_close(soft[place], plain[place] * 0.825 ** (count - 1 - n))
    strong = acting(model, unet, mode="control").residuals(info())
    for place in order:
        torch.testing.assert_close(strong[place][:1], soft[place][:1])
        assert not strong[place][1:].any()


def test_sd1_weights_of_prompt_mode_are_a1111s() -> None:
    assert output_weights(Control(model="", mode="prompt"), 13) == [0.825 ** (12 - i) for i in range(13)]


def test_the_negative_half_costs_nothing_where_control_is_more_important(
    model: ControlModel, unet: UNet
) -> None:
    here, seen = acting(model, unet, mode="control"), []
    handle = here.network.register_forward_pre_hook(lambda module, given: seen.append(len(given[0].x)))
    here.residuals(info())
    here.residuals(StepInfo(10.0, branches=("uncond",), inputs=inputs(1)))
    handle.remove()
    assert seen == [1]


def test_mask_of_effect(model: ControlModel, unet: UNet) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    plain, found = acting(model, unet).residuals(info()), acting(model, unet, mask=mask).residuals(info())
    for place, value in plain.items():
        half = value.shape[-1] // 2
        torch.testing.assert_close(found[place][..., :half], value[..., :half])
        assert not found[place][..., half:].any()


def test_a_hint_for_each_image_of_a_batch(model: ControlModel, unet: UNet) -> None:
    """Image k of a batch gets what it gets alone."""
    pictures = [picture(seed, 64) for seed in (1, 2)]
    many = acting(model, unet, image=pictures).residuals(info(batch=4))
    whole = inputs(4)
    for k, image in enumerate(pictures):
        rows = torch.tensor([k, k + 2])
        alone = replace(whole, x=whole.x[rows], timesteps=whole.timesteps[rows], context=whole.context[rows])
        single = acting(model, unet, image=image).residuals(info(given=alone))
        for place, value in single.items():
            torch.testing.assert_close(many[place][rows], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("resize", ["crop", "stretch", "fill"])
def test_a_picture_of_another_size_is_brought_to_what_is_drawn(
    model: ControlModel, unet: UNet, resize: str
) -> None:
    from sigmagraft.controlnet.resize import fit_image

    wide = picture(size=96).crop((0, 0, 96, 48))
    found = acting(model, unet, image=wide, resize=resize).residuals(info())
    fitted = acting(model, unet, image=fit_image(wide, (64, 64), resize)).residuals(info())
    for place, value in fitted.items():
        assert torch.equal(found[place], value)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("size", [(128, 128), (31, 200)])
@pytest.mark.parametrize("method", ["none", "canny"])
def test_a_hint_is_the_same_in_every_mode(
    model: ControlModel, unet: UNet, mode: str, size: tuple[int, int], method: str
) -> None:
    """Grey of 1, 8, 16 and 32 bits, a palette, CMYK and what may be transparent and is not."""
    bars = np.where(np.arange(size[0] * size[1]) // 9 % 7 < 3, 255, 0).reshape(size[::-1]).astype(np.uint8)
    deep = {
        "I;16": bars.astype(np.uint16) * 257,
        "I": bars.astype(np.int32) * 257,
        "F": bars.astype(np.float32) / 255,
    }
    image = Image.fromarray(deep[mode]) if mode in deep else Image.fromarray(bars).convert(mode)
    assert image.mode == mode
    like = torch.zeros(1)
    found, wanted = (
        acting(model, unet, image=one, preprocess=method).hints((128, 128), like)
        for one in (image, Image.fromarray(bars).convert("RGB"))
    )
    torch.testing.assert_close(found, wanted)
    assert wanted.unique().numel() > 1


def test_masked_pixels_reach_the_network_as_minus_one(model: ControlModel, unet: UNet) -> None:
    image = picture(size=64).convert("RGBA")
    image.putalpha(Image.new("L", (64, 64), 255))
    image.paste((1, 2, 3, 0), (8, 8, 24, 24))
    hint = acting(model, unet, image=image, preprocess="inpaint").hints((64, 64), torch.zeros(1))
    assert (hint[..., 8:24, 8:24] == -1).all()
    assert hint[..., 24:, 24:].min() >= 0


def test_shuffle_models_are_averaged(model: ControlModel, unet: UNet) -> None:
    plain, found = acting(model, unet).residuals(info()), acting(model, unet, pool=True).residuals(info())
    for place, value in plain.items():
        torch.testing.assert_close(found[place], value.mean((2, 3), keepdim=True).expand_as(value))


def test_any_number_at_once_adds_up(model: ControlModel, unet: UNet) -> None:
    first, second = acting(model, unet), acting(model, unet, image=picture(4, 64), strength=0.3)
    hooks = hooks_of([first, second])(info())
    x = torch.zeros(2, 64, 4, 4)
    total: Tensor = hooks.residual(("middle", 0), x)
    parts = [one.residuals(info())[("middle", 0)] for one in (first, second)]
    torch.testing.assert_close(total, parts[0] + parts[1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strength": -1}, "strength"),
        ({"start": 0.7, "end": 0.3}, "start before end"),
        ({"sigma_start": 1.0, "sigma_end": 2.0}, "sigma_start above"),
        ({"mode": "controll"}, "did you mean 'control'"),
        ({"resize": "crpo"}, "did you mean 'crop'"),
        ({"keyframes": [(0.5, 1), (0.2, 1)]}, "rising"),
        ({"keyframes": [(0.5, -1)]}, "keyframe factor"),
        ({"mask": Image.new("L", (8, 8))}, "all black"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Control(model="", **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weights": [1.0, 1.0]}, "2 control weights .expected 5"),
        ({"image": None}, "without a picture"),
        ({"image": [picture(), picture(), picture()]}, "3 control pictures for 1 images"),
        ({"preprocess": "cany"}, "did you mean 'canny'"),
        ({"preprocess": "canny", "options": {"low": 300}}, "low at most high"),
        ({"preprocess": "canny+blur"}, "2 preprocessors for 1"),
        ({"frames": [0]}, "frames means nothing"),
        ({"fidelity": 0.7}, "fidelity means nothing"),
    ],
)
def test_controls_that_cannot_work(
    model: ControlModel, unet: UNet, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        acting(model, unet, **settings).residuals(info())


def test_another_family_is_refused(model: ControlModel) -> None:
    other = filled(UNet(replace(CONFIG, context_dim=64)))
    with pytest.raises(FileError, match="another family"):
        acting(model, other)
    wider = filled(
        UNet(replace(CONFIG, channel_mult=(1, 2, 2), num_res_blocks=(1,) * 3, transformer_depth=(1,) * 3))
    )
    with pytest.raises(FileError, match="another family"):
        acting(model, wider)


def test_a_control_has_what_the_runner_asks_for(model: ControlModel, unet: UNet) -> None:
    here = acting(model, unet)
    assert isinstance(here, Acting)
    assert here.active(info())
    assert not acting(model, unet, start=0.5).active(info())
