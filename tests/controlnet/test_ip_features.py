"""Pictures, features and settings of image prompts, against definitions written here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from sigmagraft.controlnet import ip_face
from sigmagraft.controlnet.ip_features import COMBINE, Features, combined, load_features, save_features
from sigmagraft.controlnet.ip_image import pixels, tiles
from sigmagraft.controlnet.ip_settings import ImagePrompt
from sigmagraft.core.errors import FileError, MissingPartError, OptionError

from .ip_small import picture


@pytest.mark.parametrize("size", [(50, 37), (37, 50), (28, 28), (11, 90), (300, 299)])
def test_pictures_become_what_clip_was_trained_on(size: tuple[int, int]) -> None:
    theirs = CLIPImageProcessor(size=28, crop_size=28)(picture(1, size), return_tensors="pt").pixel_values
    torch.testing.assert_close(pixels([picture(1, size)], 28), theirs, rtol=0, atol=1e-5)


def test_where_the_square_is_cut() -> None:
    wide = Image.new("RGB", (80, 40))
    wide.paste((255, 255, 255), (0, 0, 40, 40))
    shown = {
        crop: pixels([wide], 20, crop)[0, 0].mean().item() for crop in ("left", "center", "right", "pad")
    }
    white, black = (pixels([Image.new("RGB", (4, 4), c)], 20)[0, 0, 0, 0].item() for c in ("white", "black"))
    assert shown["left"] == pytest.approx(white, abs=0.1)
    assert shown["right"] == pytest.approx(black, abs=0.1)
    assert shown["center"] == pytest.approx((white + black) / 2, abs=0.1)
    assert shown["pad"] == pytest.approx((white + black) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("size", "count"), [((100, 100), 4), ((100, 90), 4), ((200, 100), 2), ((100, 250), 3), ((1000, 100), 4)]
)
def test_tiles_cover_a_picture_once(size: tuple[int, int], count: int) -> None:
    image = picture(0, size)
    found = tiles(image)
    assert len(found) == count
    torch.testing.assert_close(sum(cover for _, cover in found), torch.ones(size[1], size[0]))
    for tile, cover in found:
        rows, columns = cover.nonzero().min(0).values.tolist()
        assert tile.size == (int(cover.any(0).sum()), int(cover.any(1).sum()))
        assert tile.getpixel((0, 0)) == image.getpixel((columns, rows))


def test_ways_to_combine() -> None:
    a, b, c = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    x = torch.stack([a, b, c])
    unit = [v / v.norm() for v in (a, b, c)]
    length = (a.norm() + b.norm() + c.norm()) / 3
    wanted = {
        "concat": x,
        "add": (a + b + c)[None],
        "subtract": (a - (b + c) / 2)[None],
        "average": ((a + b + c) / 3)[None],
        "norm-average": ((unit[0] + unit[1] + unit[2]) / 3 * length)[None],
        "norm-average@comfyui": ((a + b + c) / (a**2 + b**2 + c**2).sqrt() / 3)[None],
    }
    assert wanted.keys() == COMBINE.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(combined(Features(hidden=x), name).hidden, value)
        torch.testing.assert_close(COMBINE[name](x[:1]), x[:1])  # one picture stays what it is


def test_features_are_kept_in_files(tmp_path: Path) -> None:
    features = Features(torch.randn(2, 5), torch.randn(2, 4, 6), torch.randn(2, 512), torch.randn(1, 4, 6))
    save_features(features, tmp_path / "f.safetensors")
    found = load_features(tmp_path / "f.safetensors")
    for name in ("pooled", "hidden", "face", "zero_hidden"):
        assert torch.equal(getattr(found, name), getattr(features, name))
    for value, name in ((features.pooled, "pooled"), (features.hidden, "hidden"), (features.face, "face")):
        torch.save(value, tmp_path / "f.ipadpt")
        assert torch.equal(getattr(load_features(tmp_path / "f.ipadpt"), name), value)
    torch.save({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "bad.ipadpt")
    with pytest.raises(FileError, match="image features"):
        load_features(tmp_path / "bad.ipadpt")


BAD = {
    "image prompt without an image": {},
    "weight": {"weight": float("nan")},
    "did you mean 'average'": {"combine": "averag"},
    "did you mean 'style'": {"weight_type": "styl"},
    "embeds scaling": {"scaling": "Q only"},
    "crop": {"crop": "centre-ish"},
    "start before end": {"start": 0.6, "end": 0.5},
    "start 1.5": {"start": 1.5},
    "sigma_start above": {"sigma_start": 1.0, "sigma_end": 2.0},
    "all black": {"mask": Image.new("L", (8, 8))},
    "not both": {"tiled": True, "each": True},
    "at once": {"features": Features(pooled=torch.zeros(1, 4))},
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_work_is_refused(message: str) -> None:
    pictures = {} if "without" in message else {"images": [picture()]}
    with pytest.raises(OptionError, match=message.replace("(", r"\(")):
        ImagePrompt.of(**pictures, **BAD[message])


def test_names_are_read_as_other_programs_write_them() -> None:
    prompt = ImagePrompt(
        [picture()], weight_type="style transfer precise", combine="norm average", scaling="k+v W/ C penalty"
    )
    assert (prompt.weight_type, prompt.combine, prompt.scaling) == (
        "style-precise",
        "norm-average",
        "K+V w/ C penalty",
    )


def test_a_batch_needs_one_of_each() -> None:
    prompt = ImagePrompt([picture(0), picture(1)], weight=[0.5, 0.7, 0.2], each=True)
    with pytest.raises(OptionError, match="3 weights for 2 pictures"):
        prompt.check_batch(2)
    with pytest.raises(OptionError, match="2 images for 3 pictures"):
        prompt.check_batch(3)
    alone = prompt.alone(1)
    assert (alone.weights, list(alone.images)) == ([0.7], [prompt.images[1]])


@pytest.fixture
def insightface(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A stand-in for the package: finds a face in what is brighter than grey, only when it looks at 512."""
    sizes: list[tuple[int, int]] = []

    class FaceAnalysis:
        def __init__(self, **_: object) -> None: ...

        def prepare(self, ctx_id: int, det_size: tuple[int, int]) -> None:
            sizes.append(det_size)

        def get(self, bgr: np.ndarray) -> list[SimpleNamespace]:
            if sizes[-1] != (512, 512) or bgr.mean() < 128:
                return []
            vector = np.full(512, 2.0, np.float32)
            vector[0] = bgr[0, 0, 2]  # red, where the picture came as BGR
            normed = vector / np.linalg.norm(vector)
            return [SimpleNamespace(embedding=vector, normed_embedding=normed, kps=np.zeros((5, 2)))]

    app, align = ModuleType("insightface.app"), ModuleType("insightface.utils.face_align")
    app.FaceAnalysis = FaceAnalysis  # type: ignore[attr-defined]
    align.norm_crop = lambda image, landmark, image_size: image[:image_size, :image_size]  # type: ignore[attr-defined]
    for name in ("insightface", "insightface.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "insightface.app", app)
    monkeypatch.setitem(sys.modules, "insightface.utils.face_align", align)
    ip_face._analysis.cache_clear()
    yield sizes
    ip_face._analysis.cache_clear()


def test_faces_are_found_at_any_size_and_cut_out(insightface: list[tuple[int, int]]) -> None:
    bright = Image.new("RGB", (32, 32), (250, 200, 150))
    found, crops = ip_face.faces([bright], 16)
    assert insightface == [(640, 640), (576, 576), (512, 512)]
    assert found.norm().item() == pytest.approx(1.0)
    assert crops[0].size == (16, 16)
    assert crops[0].getpixel((0, 0)) == (250, 200, 150)
    raw, _ = ip_face.faces([bright], 16, normalised=False)
    assert raw[0, 0].item() == 250
    with pytest.raises(OptionError, match="no face was found in picture 2"):
        ip_face.faces([bright, Image.new("RGB", (32, 32))], 16)


def test_without_insightface_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "insightface", None)
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    ip_face._analysis.cache_clear()
    with pytest.raises(MissingPartError, match="pip install insightface"):
        ip_face.faces([picture()], 16)
