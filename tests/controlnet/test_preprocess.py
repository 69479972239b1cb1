"""Preprocessors against independent implementations and their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from sigmagraft.controlnet.preprocess import PREPROCESSORS, preprocess
from sigmagraft.controlnet.preprocess.filters import gaussian
from sigmagraft.controlnet.preprocess.installed import DETECTORS
from sigmagraft.core.errors import FileError, MissingPartError, OptionError

PLAIN = [name for name in PREPROCESSORS.names() if name not in {"depth", "segment", "inpaint", *DETECTORS}]


def drawing(size: tuple[int, int] = (96, 80), seed: int = 0) -> Image.Image:
    """Shapes and a little noise."""
    image = Image.new("RGB", size, (90, 120, 150))
    pen = ImageDraw.Draw(image)
    pen.ellipse((10, 8, 50, 60), fill=(220, 40, 30))
    pen.polygon([(40, 70), (90, 20), (92, 76)], fill=(20, 200, 90))
    pen.line((0, 0, 95, 79), fill=(250, 250, 250), width=2)
    noise = np.random.default_rng(seed).integers(-12, 13, (*size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image, int) + noise, 0, 255).astype(np.uint8))


def canny_by_scipy(image: Image.Image, low: float, high: float) -> np.ndarray:
    """The textbook's steps, pixel by pixel: slopes, the maximum across the edge, components that hold a strong one."""
    x = np.asarray(image, np.float64)
    slopes = [
        (ndimage.sobel(x[..., c], 1, mode="nearest"), ndimage.sobel(x[..., c], 0, mode="nearest"))
        for c in range(3)
    ]
    strengths = np.stack([abs(a) + abs(b) for a, b in slopes])
    which = strengths.argmax(0)
    dx, dy = (np.choose(which, [pair[axis] for pair in slopes]) for axis in (0, 1))
    m = np.pad(strengths.max(0), 1)
    thin = np.zeros(which.shape, bool)
    for i, j in np.ndindex(*which.shape):
        here, angle = m[i + 1, j + 1], np.degrees(np.arctan2(abs(dy[i, j]), abs(dx[i, j])))
        if angle < 22.5:
            thin[i, j] = here > m[i + 1, j] and here >= m[i + 1, j + 2]
        elif angle > 67.5:
            thin[i, j] = here > m[i, j + 1] and here >= m[i + 2, j + 1]
        else:
            s = -1 if dx[i, j] * dy[i, j] < 0 else 1
            thin[i, j] = here > m[i, j + 1 - s] and here > m[i + 2, j + 1 + s]
    weak = thin & (m[1:-1, 1:-1] > low)
    parts, _ = ndimage.label(weak, np.ones((3, 3)))
    strong = set(np.unique(parts[weak & (m[1:-1, 1:-1] > high)])) - {0}
    return np.isin(parts, list(strong))


@pytest.mark.parametrize(("low", "high"), [(100.0, 200.0), (60.0, 300.0), (200.0, 200.0)])
def test_canny(low: float, high: float) -> None:
    image = drawing()
    found = np.asarray(preprocess("canny", image, {"low": low, "high": high}).convert("L")) > 127
    expected = canny_by_scipy(image, low, high)
    assert 100 < expected.sum() < 2500
    assert np.array_equal(found, expected)


def test_thresholds_of_canny_take_and_leave_edges() -> None:
    image = drawing()
    counts = [np.asarray(preprocess("canny", image, {"low": t, "high": t})).sum() for t in (50, 150, 500)]
    assert counts[0] > counts[1] > counts[2] > 0


@pytest.mark.parametrize("sigma", [0.5, 2.0, 7.3])
def test_gaussian(sigma: float) -> None:
    x = np.asarray(drawing(), np.float32)
    expected = np.stack(
        [ndimage.gaussian_filter(x[..., c], sigma, mode="nearest", truncate=4.5) for c in range(3)], 2
    )
    assert abs(gaussian(x, sigma) - expected).max() < 0.05


def test_scribble_and_lineart_by_scipy() -> None:
    image = drawing()
    x = np.asarray(image, np.float32)

    def blurred(sigma: float) -> np.ndarray:
        return np.stack([ndimage.gaussian_filter(x[..., c], sigma, mode="nearest") for c in range(3)], 2)

    dark = (blurred(5.0) - blurred(0.5)).min(2)
    found = np.asarray(preprocess("scribble", image).convert("L")) > 127
    assert (found != (2 * dark > 32)).mean() < 0.005
    line = (blurred(6.0) - x).min(2).clip(0)
    expected = (line / max(16, np.median(line[line > 8])) * 127).clip(0, 255)
    assert abs(np.asarray(preprocess("lineart", image).convert("L"), float) - expected).max() < 1.5


def test_simple_tones() -> None:
    image = drawing()
    x = np.asarray(image)
    assert np.array_equal(np.asarray(preprocess("invert", image)), 255 - x)
    assert np.array_equal(
        np.asarray(preprocess("threshold", image, {"threshold": 100}).convert("L")) > 0, x.mean(2) > 100
    )
    grid = np.asarray(preprocess("color", Image.new("RGB", (128, 128), (9, 8, 7))))
    assert (grid == (9, 8, 7)).all()
    cells = np.asarray(preprocess("color", drawing((128, 128)), {"cell": 32}))
    assert all(
        (cells[i : i + 32, j : j + 32] == cells[i, j]).all()
        for i in range(0, 128, 32)
        for j in range(0, 128, 32)
    )
    assert np.array_equal(np.asarray(preprocess("tile", image)), x)
    coarse = np.asarray(preprocess("tile", image, {"factor": 4}), float)
    assert np.abs(np.diff(coarse, axis=1)).mean() < 0.7 * np.abs(np.diff(x.astype(float), axis=1)).mean()


def test_shuffle_keeps_colours_not_places() -> None:
    image = drawing()
    one, two, again = (preprocess("shuffle", image, {"seed": s, "reach": 16}) for s in (1, 2, 1))
    assert np.array_equal(np.asarray(one), np.asarray(again))
    assert not np.array_equal(np.asarray(one), np.asarray(two))
    flat = preprocess("shuffle", Image.new("RGB", (64, 48), (1, 2, 3)))
    assert (np.asarray(flat) == (1, 2, 3)).all()


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("size", [(33, 57), (8, 8), (1, 5)])
def test_every_one_keeps_the_size_and_the_picture(name: str, size: tuple[int, int]) -> None:
    image = drawing().resize(size)
    before = image.tobytes()
    made = preprocess(name, image)
    assert made.size == size
    assert made.mode == "RGB"
    assert image.tobytes() == before
    assert preprocess(name, image.convert("L")).size == size


@pytest.mark.parametrize("spec", PREPROCESSORS, ids=lambda spec: spec.name)
def test_every_one_says_what_it_does(spec: object) -> None:
    assert spec.doc.endswith(".")  # type: ignore[attr-defined]
    assert all(option.help for option in spec.options)  # type: ignore[attr-defined]


def test_what_is_transparent_is_white_but_for_inpainting() -> None:
    holed = drawing().convert("RGBA")
    holed.paste((0, 0, 0, 0), (0, 0, 20, 20))
    assert preprocess("none", holed).getpixel((5, 5)) == (255, 255, 255)
    assert preprocess("inpaint", holed).getpixel((5, 5))[3] == 0
    assert preprocess("inpaint", holed).getpixel((50, 50))[3] == 255


def test_inpaint_marks_the_masked_part() -> None:
    mask = Image.new("L", (96, 80))
    mask.paste(255, (10, 10, 30, 30))
    made = preprocess("inpaint", drawing(), {"hole": mask})
    alpha = np.asarray(made.getchannel("A"))
    assert (alpha[10:30, 10:30] == 0).all()
    assert alpha.sum() == 255 * (96 * 80 - 400)
    with pytest.raises(OptionError, match="without a mask"):
        preprocess("inpaint", drawing())


@pytest.mark.slow  # importing the network takes longer than all other tests here
def test_depth_is_the_networks_scaled_to_the_picture(tmp_path: Path) -> None:
    """H58: bicubic to the picture's size, from its least to its largest value, three channels."""
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16] * 4,
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    network = DPTForDepthEstimation(config).eval()
    for parameter in network.parameters():
        parameter.data = torch.rand(parameter.shape) * 0.4 - 0.1  # as made, it answers next to nothing
    network.save_pretrained(tmp_path)
    image = drawing()
    made = np.asarray(preprocess("depth", image, {"model": str(tmp_path)}))
    x = torch.from_numpy(
        np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
    ).permute(2, 0, 1)
    with torch.no_grad():
        found = network(pixel_values=(x[None] - 0.5) / 0.5).predicted_depth
    found = torch.nn.functional.interpolate(
        found[:, None], size=(80, 96), mode="bicubic", align_corners=False
    )[0, 0]
    expected = ((found - found.min()) / (found.max() - found.min()) * 255).numpy()
    assert made.shape == (80, 96, 3)
    assert abs(made[..., 0] - expected).max() <= 1.01
    assert (made[..., 0] == made[..., 2]).all()


@pytest.mark.slow
def test_segments_are_the_networks_classes_in_ade20ks_colours(tmp_path: Path) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    from sigmagraft.controlnet.preprocess.segment import PALETTE

    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1] * 4,
        hidden_sizes=[8] * 4,
        num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
        num_labels=150,
    )
    network = SegformerForSemanticSegmentation(config).eval()
    network.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 64, "width": 64}}')
    image = drawing()
    made = np.asarray(preprocess("segment", image, {"model": str(tmp_path)}))
    x = torch.from_numpy(np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC), np.float32) / 255)
    with torch.no_grad():
        logits = network(pixel_values=(x.permute(2, 0, 1)[None] - 0.5) / 0.5).logits
    classes = torch.nn.functional.interpolate(logits, size=(80, 96), mode="bilinear")[0].argmax(0).numpy()
    assert (made == PALETTE[classes]).all()
    assert PALETTE.shape == (150, 3)
    assert [*PALETTE[0], *PALETTE[149]] == [120, 120, 120, 92, 0, 255]  # wall, flag


@pytest.mark.slow
def test_a_depth_network_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no network for AutoModelForDepth"):
        preprocess("depth", drawing(), {"model": str(tmp_path / "none")})


def test_a_package_that_is_not_installed_is_named() -> None:
    try:
        import controlnet_aux  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPartError, match="pip install controlnet-aux"):
            preprocess("openpose", drawing())


def test_mistakes() -> None:
    with pytest.raises(OptionError, match="did you mean 'canny'"):
        preprocess("cany", drawing())
    with pytest.raises(OptionError, match="did you mean 'low'"):
        preprocess("canny", drawing(), {"lo": 1})
    with pytest.raises(OptionError, match="from 0 to 255"):
        preprocess("threshold", drawing(), {"threshold": 300})
