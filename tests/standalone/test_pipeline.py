"""One call of the pipeline on a tiny model: seeds, batches, images, masks, callbacks, and what bad settings get."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, schedule
from sigmagraft.standalone.pipeline import Pipeline, StepState

from .small import small_model

# the first of each file of methods, with noise and without; tests/samplers walks all of them
ONE_OF_EACH = {(s.method.__module__, s.stochastic, s.brownian): s.name for s in reversed(list(SAMPLERS))}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture(scope="module")
def image() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a - b).norm() / b.norm()) < 1e-4)


@pytest.mark.parametrize("name", sorted(ONE_OF_EACH.values()))
def test_an_image_of_a_batch_is_the_image_alone(pipe: Pipeline, name: str) -> None:
    common = {"steps": 4, "sampler": name, "cfg": 2.0}
    batch = pipe(["a circle", "a blue square"], seed=7, **common)
    alone = pipe("a blue square", seed=8, **common)
    assert batch.seeds == [7, 8]
    assert close(batch.latents[1], alone.latents[0])


def test_the_same_settings_give_the_same_picture(pipe: Pipeline) -> None:
    first = pipe("a circle", steps=3, batch=2)
    again = {k: v for k, v in first.settings.items() if k != "model"}
    second = pipe(again.pop("prompt"), **again)
    assert [i.tobytes() for i in first.images] == [i.tobytes() for i in second.images]
    assert first.seeds == second.seeds


@pytest.mark.parametrize(
    "changed", [{"seed": 2}, {"negative": "blue"}, {"cfg": 3.0}, {"schedule": "normal"}, {"emphasis": "none"}]
)
def test_each_setting_changes_the_picture(pipe: Pipeline, changed: dict) -> None:
    settings = {"steps": 3, "seed": 1, "cfg": 2.0}
    plain = pipe("a (red:1.5) circle", **settings)
    other = pipe("a (red:1.5) circle", **{**settings, **changed})
    assert not close(plain.latents, other.latents)


def test_strength_takes_the_last_part_of_the_schedule(pipe: Pipeline, image: Image.Image) -> None:
    states: list[StepState] = []
    pipe("a", steps=10, strength=0.4, image=image, seed=0, callback=states.append)
    expected = schedule("karras", 10, pipe.levels)[6:]
    assert [s.sigma for s in states] == expected[:-1]
    assert [s.index for s in states] == [0, 1, 2, 3]
    assert states[-1].sigma_next == 0.0
    assert {s.steps for s in states} == {4}


def test_low_strength_keeps_the_image(pipe: Pipeline, image: Image.Image) -> None:
    """With the smallest noise a fresh x0 = x - sigma * eps stays within that noise of the image's own latent."""
    from sigmagraft.standalone import latents

    with torch.inference_mode():
        init = latents.encode(pipe.model, latents.to_tensor(image))
    kept = pipe("a", steps=10, strength=0.1, image=image, seed=0, cfg=1.0).latents
    redrawn = pipe("a", steps=10, strength=1.0, image=image, seed=0, cfg=1.0).latents
    assert (kept - init).std() < 0.1 * (redrawn - init).std()


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("only_masked", [None, 8])
def test_inpainting_leaves_the_rest_untouched(
    image: Image.Image, channels: int, only_masked: int | None
) -> None:
    task = "base" if channels == 4 else "inpaint"
    pipe = Pipeline(small_model(in_channels=channels, task=task))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 8, 32, 40))
    settings = {"steps": 4, "strength": 1.0, "mask_blur": 2.0, "only_masked": only_masked}
    painted = pipe("a", image=image, mask=mask, seed=0, size=(64, 64), **settings).images[0]
    before, after = np.asarray(image), np.asarray(painted)
    reach = 8  # a blur of 2 pixels has died out four deviations away
    outside = np.ones((64, 64), bool)
    outside[8 - reach : 40 + reach, 8 - reach : 32 + reach] = False
    assert np.array_equal(before[outside], after[outside])
    assert not np.array_equal(before[16:32, 16:24], after[16:32, 16:24])


def test_inpainting_channels_are_mask_then_masked_latent(image: Image.Image) -> None:
    """The order every 9-channel model was trained with: x, mask, latent of the image with the masked part grey."""
    from sigmagraft.standalone import latents

    pipe = Pipeline(small_model(in_channels=9, task="inpaint"))
    seen: list[torch.Tensor] = []
    pipe.model.unet.input_blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    pipe("a", image=image, mask=mask, mask_blur=0.0, steps=1, strength=1.0, seed=0)
    grey = latents.to_tensor(image)
    grey[..., :32] = 0.0
    with torch.inference_mode():
        expected = latents.encode(pipe.model, grey)
    channels = seen[0][:1]
    torch.testing.assert_close(channels[:, 5:], expected)
    assert channels[0, 4].tolist() == [[1.0] * 4 + [0.0] * 4] * 8


def test_cancelling_leaves_the_pipeline_usable(pipe: Pipeline) -> None:
    def stop(state: StepState) -> None:
        if state.index == 1:
            raise KeyboardInterrupt

    before = pipe("a", steps=3, seed=0)
    with pytest.raises(KeyboardInterrupt):
        pipe("a", steps=3, seed=0, callback=stop)
    assert torch.equal(pipe("a", steps=3, seed=0).latents, before.latents)


BAD = [
    ({"steps": 0}, "steps 0.*1 to 1000"),
    ({"steps": 10_000}, "steps 10000"),
    ({"size": (60, 64)}, "60x64.*multiples of 8.*nearest to 60"),
    ({"size": (64, 0)}, "64x0"),
    ({"sampler": "dpmpp_2n"}, "dpmpp_2m"),
    ({"schedule": "karas"}, "karras"),
    ({"noise": "gpu"}, "noise kind 'gpu'"),
    ({"seed": -1}, "seed -1"),
    ({"seed": [1, 2]}, "2 seeds for 1 images"),
    ({"cfg": float("nan")}, "cfg nan"),
    ({"batch": 0}, "batch 0"),
    ({"negative": ["a", "b"]}, "2 negative prompts for 1"),
    ({"step": 3}, "unknown setting 'step'.*'steps'"),
    ({"emphasis": "a111"}, "a1111"),
    ({"clip_skip": 9}, "9"),
    ({"options": {"eta": 3.0}}, "eta"),
    ({"mask": Image.new("L", (64, 64))}, "mask without an image"),
    ({"image": Image.new("RGB", (64, 64)), "strength": 0.0}, "strength 0.0"),
    (
        {"image": Image.new("RGB", (64, 64)), "mask": Image.new("L", (32, 64))},
        "mask is 32x64, the image 64x64",
    ),
]


@pytest.mark.parametrize(("settings", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_bad_setting_is_told_in_one_line(pipe: Pipeline, settings: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        pipe("a", **{"steps": 2, **settings})
    assert "\n" not in str(caught.value)


def test_no_prompt_at_all(pipe: Pipeline) -> None:
    with pytest.raises(OptionError, match="prompt"):
        pipe([])
