"""FreeU and inpainting around the mask, as diffusers' pipelines do them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.core.errors import OptionError

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
SCALES = {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    import sigmagraft

    from .reference import NONE, make, scheduler

    root = tmp_path_factory.mktemp("facade")
    theirs = make("sd1", root)
    theirs.scheduler = scheduler("DDIMScheduler")
    ours = sigmagraft.StableDiffusionPipeline.from_pretrained(root / "sd1", safety_checker=None)
    ours.scheduler = sigmagraft.DDIMScheduler.from_config(dict(theirs.scheduler.config))
    both = [
        (module.StableDiffusionInpaintPipeline)(**{**pipe.components, **more})
        for module, pipe, more in ((diffusers, theirs, NONE), (sigmagraft, ours, {}))
    ]
    for pipe in (theirs, *both, ours):
        pipe.set_progress_bar_config(disable=True)
    return (theirs, both[0]), (ours, both[1])


def drawn(pipe: Any, **more: Any) -> Any:
    settings = {"num_inference_steps": 3, "output_type": "latent", "height": 64, "width": 64, **more}
    return pipe("a red circle", generator=torch.Generator().manual_seed(3), **settings).images


def test_freeu(pair: tuple[Any, Any]) -> None:
    (theirs, _), (ours, _) = pair
    plain = drawn(ours)
    for pipe in (theirs, ours):
        pipe.enable_freeu(**SCALES)
    found = drawn(ours)
    torch.testing.assert_close(found, drawn(theirs), **CLOSE)
    assert not torch.allclose(found, plain, atol=1e-2)
    for pipe in (theirs, ours):
        pipe.disable_freeu()
    torch.testing.assert_close(drawn(ours), plain)
    with pytest.raises(OptionError, match="b1"):
        ours.enable_freeu(s1=1.0, s2=1.0, b1=99.0, b2=1.0)


def pictures() -> dict[str, Image.Image]:
    rng = np.random.default_rng(0)
    mask = Image.new("L", (128, 128))
    mask.paste(255, (48, 40, 80, 72))
    noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return {"image": Image.fromarray(noise).resize((128, 128)), "mask_image": mask}


def test_padding_mask_crop(pair: tuple[Any, Any]) -> None:
    """A region of 64 by 64 pixels drawn at that size: pixels as diffusers', outside the mask the picture's own."""
    settings = {**pictures(), "padding_mask_crop": 16, "output_type": "pil", "strength": 0.9}
    (_, theirs), (_, ours) = pair
    (expected,), (found,) = drawn(theirs, **settings), drawn(ours, **settings)
    difference = np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int))
    assert difference.max() <= 1
    before, inside = np.asarray(settings["image"]), np.asarray(settings["mask_image"]) > 0
    assert np.array_equal(np.asarray(found)[~inside], before[~inside])
    assert not np.array_equal(np.asarray(found)[inside], before[inside])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"padding_mask_crop": -1}, "padding_mask_crop -1"),
        ({"output_type": "np"}, "output_type 'np'"),
        ({"image": torch.zeros(1, 3, 128, 128)}, "image of type Tensor"),
        ({"mask_image": Image.new("L", (64, 64))}, "the mask is 64x64, the image 128x128"),
    ],
)
def test_bad_crops(pair: tuple[Any, Any], more: dict[str, Any], message: str) -> None:
    settings = {**pictures(), "padding_mask_crop": 16, "output_type": "pil", **more}
    with pytest.raises(OptionError, match=message):
        drawn(pair[1][1], **settings)
