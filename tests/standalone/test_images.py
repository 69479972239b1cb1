"""Pictures and masks of every kind come in as 8-bit; what cannot is refused in one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.standalone import images


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def ramp(top: float, dtype: str) -> np.ndarray:
    return (np.linspace(0, 1, 64).reshape(8, 8) * top).astype(dtype)


GREY = np.round(ramp(255, "f8")).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA"])
def test_modes(tmp_path: Path, mode: str) -> None:
    name = "x.tif" if mode in ("CMYK", "YCbCr") else "x.png"
    path = save(tmp_path / name, Image.new("RGB", (9, 7), "white").convert(mode))
    image = images.load_image(path)
    assert (image.mode, image.size) == ("RGB", (9, 7))
    assert image.getpixel((4, 4)) == pytest.approx((255, 255, 255), abs=2)
    mask = images.load_mask(path)
    assert (mask.mode, mask.size) == ("L", (9, 7))


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, extension: str) -> None:
    path = save(tmp_path / f"x.{extension}", Image.fromarray(ramp(65535, "uint16")))
    for loaded in (images.load_image(path).getchannel(0), images.load_mask(path)):
        assert np.abs(np.asarray(loaded).astype(int) - GREY).max() <= 1


def test_floats(tmp_path: Path) -> None:
    for top in (1.0, 3.5):  # 1 is white; brighter pictures are scaled to their brightest
        path = save(tmp_path / "x.tif", Image.fromarray(ramp(top, "float32")))
        assert np.abs(np.asarray(images.load_mask(path)).astype(int) - GREY).max() <= 1


def test_transparent_is_white_in_pictures_and_kept_in_masks(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    path = save(tmp_path / "x.png", image)
    assert images.load_image(path).getpixel((0, 0)) == (255, 0, 0)
    assert images.load_image(path).getpixel((1, 1)) == (255, 255, 255)
    assert images.load_mask(path).getpixel((1, 1)) == 0
    hole = images.load_hole(path)
    assert (hole.getpixel((0, 0)), hole.getpixel((1, 1))) == (0, 255)


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putpixel((0, 0), 0)
    path = save(tmp_path / "x.png", image, transparency=1)
    assert images.load_image(path).getpixel((0, 0)) == (0, 0, 255)
    assert images.load_image(path).getpixel((2, 2)) == (255, 255, 255)


def test_a_hole_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"nothing in this picture is transparent.*--mask"):
        images.load_hole(save(tmp_path / "x.png", Image.new("RGB", (4, 4))))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """The stored picture is the upright one turned by the inverse of what the tag says."""
    upright = np.zeros((6, 4, 3), np.uint8)
    upright[0, 0], upright[0, -1] = (255, 0, 0), (0, 255, 0)
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    path = save(tmp_path / "x.png", stored, exif=exif.tobytes())
    assert np.array_equal(np.asarray(images.load_image(path)), upright)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_001, 13_000, 60_000])
def test_huge_pictures_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(side, side))
    with pytest.raises(FileError, match=r"bomb.png.*100,000,000") as caught:
        images.load_image(path)
    assert "\n" not in str(caught.value)


def test_truncated(tmp_path: Path) -> None:
    for extension in ("png", "jpg", "webp"):
        noise = Image.effect_noise((128, 128), 60).convert("RGB")
        path = save(tmp_path / f"x.{extension}", noise)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(FileError, match=rf"x\.{extension}.*(cannot read|not a picture)"):
            images.load_image(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am text", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM" + b"\0" * 60]
)
def test_not_a_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"x\.png"):
        images.load_image(path)


def test_missing_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such picture"):
        images.load_image(tmp_path / "none.png")
    with pytest.raises(FileError, match=str(tmp_path)):
        images.load_image(tmp_path)


def test_mask_of_another_size_names_both() -> None:
    image, mask = Image.new("RGB", (64, 48)), Image.new("L", (32, 24), 255)
    with pytest.raises(OptionError, match=r"m\.png.*mask is 32x24.*picture 64x48.*--resize-mask"):
        images.check_mask(mask, image, resize=False, where="m.png")
    assert images.check_mask(mask, image, resize=True).size == (64, 48)


@pytest.mark.parametrize(
    ("size", "near"),
    [((500, 512), "496x512 and 504x512"), ((1, 9), "8x8 and 8x16"), ((511, 511), "504x504 and 512x512")],
)
def test_sizes_that_do_not_divide(size: tuple[int, int], near: str) -> None:
    with pytest.raises(OptionError, match=near):
        images.check_size(size)


def test_sizes_that_do() -> None:
    assert images.check_size((512, 8)) == (512, 8)


def halves() -> Image.Image:
    """80 x 40, left red, right blue."""
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (40, 0, 80, 40))
    return image


def test_resize_modes() -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    for name in images.RESIZE:
        fitted = images.fit_image(halves(), (40, 40), name)
        assert fitted.size == (40, 40)
        assert (fitted.getpixel((1, 20)), fitted.getpixel((38, 20))) == (red, blue)
    assert images.fit_image(halves(), (40, 40), "fill").getpixel((2, 1)) == red  # the edge goes on outwards
    assert images.fit_image(halves(), (40, 40), "crop").getpixel((17, 20)) == red
    tall = images.fit_image(halves().convert("L"), (24, 64), "fill")
    assert (tall.mode, tall.size) == ("L", (24, 64))
    with pytest.raises(OptionError, match="did you mean 'stretch'"):
        images.fit_image(halves(), (40, 40), "strech")


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (10, 4, 3)]
)
def test_grid(count: int, columns: int, rows: int) -> None:
    cells = [Image.new("RGB", (10, 6), (20 * k + 1, 0, 0)) for k in range(count)]
    sheet = images.grid(cells)
    assert sheet.size == (columns * 10, rows * 6)
    for k in range(columns * rows):
        expected = (20 * k + 1, 0, 0) if k < count else (0, 0, 0)
        assert sheet.getpixel((k % columns * 10 + 5, k // columns * 6 + 3)) == expected


def test_grid_of_nothing() -> None:
    with pytest.raises(OptionError):
        images.grid([])
