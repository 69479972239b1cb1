"""Hires fix, the refiner, soft inpainting and outpainting's canvas: each against its parts made by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS
from sigmagraft.standalone import inpaint, latents
from sigmagraft.standalone.outpaint import FILLS, canvas, margins
from sigmagraft.standalone.pipeline import Pipeline, StepState
from sigmagraft.standalone.upscalers import UPSCALERS

from .small import small_model

BASE = {"steps": 4, "seed": 1, "cfg": 2.0, "sampler": "euler"}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture(scope="module")
def refiner() -> Pipeline:
    return Pipeline(small_model(seed=7))


@pytest.fixture(scope="module")
def image() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))


def states(pipe: Pipeline, prompt: str = "a cat", **settings: Any) -> tuple[Any, list[StepState]]:
    seen: list[StepState] = []
    return pipe(prompt, callback=seen.append, **{**BASE, **settings}), seen


@pytest.mark.parametrize("upscaler", UPSCALERS.names())
def test_hires_is_a_picture_enlarged_and_redrawn(pipe: Pipeline, upscaler: str) -> None:
    made, seen = states(pipe, hires={"scale": 1.5, "upscaler": upscaler, "steps": 3, "strength": 0.5})
    small = pipe("a cat", **BASE)
    assert made.images[0].size == (96, 96)
    assert [state.steps for state in seen] == [4] * 4 + [3] * 3
    row = UPSCALERS[upscaler]
    with torch.inference_mode():
        if row.latents:
            start = row.latents(small.latents, (12, 12))
        else:
            assert row.pixels
            start = latents.encode(pipe.model, latents.to_tensor(row.pixels(small.images[0], (96, 96))))
    from sigmagraft.samplers import schedule

    sigmas = schedule(SAMPLERS["euler"].default_schedule, 6, pipe.levels)[3:]
    noise = torch.randn((4, 12, 12), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(seen[4].latent[0], start[0] + noise * sigmas[0], rtol=1e-4, atol=1e-4)
    assert [state.sigma for state in seen[4:]] == sigmas[:-1]


@pytest.mark.parametrize("like", ["a1111", "forge", "comfyui", "diffusers"])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "ddim"])
def test_the_second_pass_makes_the_steps_asked_for(pipe: Pipeline, like: str, sampler: str) -> None:
    hires = {"scale": 1.25, "steps": 3, "strength": 0.4}
    _, seen = states(pipe, like=like, sampler=sampler, hires=hires)
    second = [state for state in seen if state.latent.shape[-1] == 10]
    # DDIM in the web UIs walks between whole timesteps: one step less, and one less of a picture's
    assert len(second) == (1 if sampler == "ddim" and like in ("a1111", "forge") else 3)


def test_the_second_pass_has_settings_of_its_own(pipe: Pipeline) -> None:
    hires = {
        "size": (96, 64),
        "sampler": "heun",
        "cfg": 5.0,
        "prompt": "a dog",
        "negative": "blue",
        "guidance": "rescale",
    }
    made, _ = states(pipe, hires=hires)
    for name, other in (("cfg", 2.0), ("prompt", "a cat"), ("sampler", "euler"), ("guidance", "cfg")):
        assert not torch.equal(made.latents, states(pipe, hires={**hires, name: other})[0].latents)
    again = {name: value for name, value in made.settings.items() if name not in ("model", "prompt")}
    torch.testing.assert_close(pipe("a cat", **again).latents, made.latents, rtol=1e-3, atol=1e-3)


def test_prompt_editing_counts_on_in_the_second_pass(pipe: Pipeline) -> None:
    told: list[torch.Tensor] = []
    handle = pipe.model.unet.register_forward_pre_hook(lambda module, args: told.append(args[2][0]))
    states(pipe, "a [red:blue:6] circle", hires={"scale": 1.5, "steps": 4})
    handle.remove()
    changes = [not torch.equal(one, other) for one, other in pairwise(told)]
    assert [index + 1 for index, changed in enumerate(changes) if changed] == [6]


def test_a_batch_with_hires_is_each_image_alone(pipe: Pipeline) -> None:
    both, _ = states(pipe, batch=2, hires=1.5)
    alone, _ = states(pipe, seed=2, hires=1.5)
    torch.testing.assert_close(both.latents[1:], alone.latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("hires", "message"),
    [
        (9.0, "scale 9.0.*1 to 8"),
        ("2x", "a scale, or a dictionary"),
        ({"scal": 2}, "'scal'.*scale"),
        ({"upscaler": "R-ESRGAN 4x+"}, "none of these is a network such as ESRGAN.*lanczos"),
        ({"strength": 0.0}, "strength 0"),
        ({"steps": 0}, "steps 0"),
        ({"size": (32, 64)}, "no smaller than the first pass"),
        ({"size": (65, 65)}, "65x65.*multiples of 8"),
        ({"sampler": "eulr"}, "euler"),
    ],
)
def test_bad_second_passes(pipe: Pipeline, hires: object, message: str) -> None:
    seen: list[StepState] = []
    with pytest.raises(OptionError, match=message):
        pipe("a", hires=hires, callback=seen.append, **BASE)
    assert not seen


def test_hires_is_of_pictures_from_words(pipe: Pipeline, image: Image.Image) -> None:
    with pytest.raises(OptionError, match="hires with an image"):
        pipe("a", image=image, hires=2.0, **BASE)


@pytest.mark.parametrize("switch", [0.0, 0.5, 1.0])
def test_the_refiner_does_the_last_steps(pipe: Pipeline, refiner: Pipeline, switch: float) -> None:
    calls: list[str] = []
    handles = [
        each.model.unet.register_forward_pre_hook(lambda *args, name=name: calls.append(name))
        for name, each in (("base", pipe), ("refiner", refiner))
    ]
    made, _ = states(pipe, refiner=refiner, switch=switch)
    for handle in handles:
        handle.remove()
    assert calls == ["base"] * int(4 * switch) + ["refiner"] * (4 - int(4 * switch))
    if switch in (0.0, 1.0):
        alone = (refiner if switch == 0.0 else pipe)("a cat", **BASE)
        torch.testing.assert_close(made.latents, alone.latents)


def test_the_hand_over_is_two_walks(pipe: Pipeline, refiner: Pipeline) -> None:
    """Euler has no history: the refiner from the base's latent there is the same."""
    from sigmagraft.samplers import drive

    made, seen = states(pipe, refiner=refiner, switch=0.5, cfg=1.0)
    from sigmagraft.standalone.denoiser import Denoiser
    from sigmagraft.standalone.encode import encode_prompts

    model = refiner.model
    denoiser = Denoiser(model.unet, refiner.levels, model.info.prediction, model.dtype)
    cond = encode_prompts(model, ["a cat"])
    sigmas = [state.sigma for state in seen[2:]] + [0.0]
    with torch.inference_mode():
        end = drive(
            "euler", lambda x, sigma: denoiser(x, sigma, cond), seen[2].latent, sigmas, levels=pipe.levels
        )
    torch.testing.assert_close(made.latents, end, rtol=1e-4, atol=1e-4)


def test_the_refiner_counts_as_the_system_does(pipe: Pipeline, refiner: Pipeline) -> None:
    """A1111 goes on to one evaluation more than the share; diffusers' base does the timesteps from 1000 (1 - 0.5)."""
    for like, expected in (("a1111", 3), (None, 2)):
        calls: list[int] = []
        handle = pipe.model.unet.register_forward_pre_hook(lambda *args, calls=calls: calls.append(1))
        states(pipe, refiner=refiner, switch=0.5, **({"like": like} if like else {}))
        handle.remove()
        assert len(calls) == expected
    told: list[float] = []
    handle = pipe.model.unet.register_forward_pre_hook(lambda module, args: told.append(args[1][0].item()))
    states(pipe, refiner=refiner, switch=0.5, like="diffusers")
    handle.remove()
    assert told
    assert all(time >= 500 for time in told)


def test_a_refiner_of_other_latents_is_refused(pipe: Pipeline) -> None:
    other = Pipeline(small_model(latent_channels=8))
    with pytest.raises(OptionError, match="8 channels, the base has 4"):
        pipe("a", refiner=other, **BASE)


def test_soft_inpainting_frees_each_pixel_when_its_grey_says(pipe: Pipeline) -> None:
    """Where the mask is m, x follows the picture until the timestep has fallen to m of where the walk began."""
    seen: list[tuple[float, torch.Tensor]] = []
    init = torch.full((1, 4, 1, 5), 3.0)
    mask = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]).view(1, 1, 1, 5)

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append((sigma, x))
        return torch.zeros_like(x)

    times = {8.0: 800.0, 4.0: 600.0, 2.0: 400.0, 1.0: 200.0, 0.5: 100.0}
    share = inpaint.share_of_time(times.__getitem__, [*times, 0.0])
    kept = inpaint.Differential(denoise, mask, init, lambda sigma: init + sigma, share)
    free = [(kept(torch.full_like(init, -1.0), sigma)[0, 0, 0] == 0).tolist() for sigma in times]
    assert free == [
        [False, False, False, False, True],
        [False, False, False, True, True],
        [False, False, True, True, True],
        [False, True, True, True, True],
        [False, True, True, True, True],
    ]
    assert seen[0][1][0, 0, 0].tolist() == [11.0, 11.0, 11.0, 11.0, -1.0]


def test_soft_inpainting_changes_more_where_the_mask_is_whiter(pipe: Pipeline, image: Image.Image) -> None:
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1)))
    settings = {**BASE, "steps": 8, "image": image, "mask": ramp, "strength": 1.0, "mask_blur": 0.0}
    with torch.inference_mode():
        init = latents.encode(pipe.model, latents.to_tensor(image))
    soft = pipe("a cat", soft=True, **settings)
    change = (soft.latents - init).abs().mean((0, 1, 2))
    assert change[-3:].mean() > 2 * change[:3].mean()
    hard = pipe("a cat", **settings)
    assert not torch.equal(soft.latents, hard.latents)
    before, after = np.asarray(image), np.asarray(soft.images[0])
    assert np.array_equal(before[:, 0], after[:, 0])


@pytest.mark.parametrize("fill", FILLS)
def test_a_canvas_holds_the_picture_and_a_mask_of_the_rest(image: Image.Image, fill: str) -> None:
    wide, mask = canvas(image, (16, 0, 5, 8), fill, overlap=8)
    assert wide.size == mask.size == (88, 72)  # 85 grows to whole latent pixels
    assert np.array_equal(np.asarray(wide)[:64, 16:80], np.asarray(image))
    values = np.asarray(mask)
    assert (values[:, :16] == 255).all()
    assert (values[64:] == 255).all()
    assert (values[:50, 30:66] == 0).all()
    assert (values[0, 16:25].astype(int)[:-1] >= values[0, 17 : 25 + 1].astype(int)[:8]).all()
    assert 0 < values[0, 17] < 255  # fading
    assert values[0, 40] == 0  # no margin above


@pytest.mark.parametrize(
    ("text", "expected"),
    [("64", (64, 64, 64, 64)), ("64,0", (64, 0, 64, 0)), ("1,2,3,4", (1, 2, 3, 4))],
)
def test_margins(text: str, expected: tuple[int, ...]) -> None:
    assert margins(text) == expected


@pytest.mark.parametrize("text", ["", "0", "a", "-8", "1,2,3", "99999"])
def test_bad_margins(text: str) -> None:
    with pytest.raises(OptionError, match="margins"):
        margins(text)


def test_outpainting_keeps_the_pictures_pixels(pipe: Pipeline, image: Image.Image) -> None:
    wide, mask = canvas(image, (32, 0, 0, 0), overlap=8)
    made = pipe("a cat", image=wide, mask=mask, mask_blur=0.0, strength=1.0, **BASE).images[0]
    assert np.array_equal(np.asarray(made)[:, 40:], np.asarray(wide)[:, 40:])
    assert not np.array_equal(np.asarray(made)[:, :32], np.asarray(wide)[:, :32])
