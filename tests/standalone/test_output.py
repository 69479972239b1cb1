"""Picture files: names, formats, settings inside, and what a failing disk leaves behind (nothing)."""

from __future__ import annotations

import errno
import io
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.standalone import naming, output

TEXTS = ["a, b\nSteps: 1, Seed: 2, Size: 8x8", "снег 夜 🌄 é\nSteps: 1", "Latin é only"]


def picture(color: str = "red", size: tuple[int, int] = (24, 16)) -> Image.Image:
    return Image.new("RGB", size, color)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def exif_user_comment(data: bytes) -> str:
    """The UserComment of a JPEG or WebP file by hand: the TIFF directory, the Exif pointer, UTF-16 big-endian."""
    start = data.index(b"Exif\0\0") + 6 if b"Exif\0\0" in data else data.index(b"EXIF") + 8
    tiff = data[start:]
    assert tiff[:2] == b"MM", "A1111's reader (piexif) writes and expects big-endian text"

    def entries(offset: int) -> dict[int, tuple[int, int, bytes]]:
        (count,) = struct.unpack_from(">H", tiff, offset)
        rows = (struct.unpack_from(">HHI4s", tiff, offset + 2 + 12 * k) for k in range(count))
        return {tag: (kind, length, value) for tag, kind, length, value in rows}

    (first,) = struct.unpack_from(">I", tiff, 4)
    (exif,) = struct.unpack(">I", entries(first)[0x8769][2])
    kind, length, value = entries(exif)[0x9286]
    assert kind == 7, "UserComment is UNDEFINED by the standard"
    (at,) = struct.unpack(">I", value)
    comment = tiff[at : at + length]
    assert comment[:8] == b"UNICODE\0"
    return comment[8:].decode("utf-16-be")


@pytest.mark.parametrize("text", TEXTS)
def test_png_carries_the_text(tmp_path: Path, text: str) -> None:
    path = output.save(picture(), tmp_path / "a.png", naming.target(None), text)
    with Image.open(path) as image:
        assert image.info["parameters"] == text
        assert image.getpixel((3, 3)) == (255, 0, 0)
    assert (b"tEXt" in path.read_bytes()) == (text != TEXTS[1])
    assert output.read_text(path) == text


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_exif_carries_the_text(tmp_path: Path, name: str, text: str) -> None:
    target = naming.target(None, name)
    path = output.save(picture(), tmp_path / f"a.{name}", target, text)
    assert exif_user_comment(path.read_bytes()) == text
    assert output.read_text(path) == text
    with Image.open(path) as image:
        assert image.format == target.format


def test_little_endian_and_ascii_comments_are_read(tmp_path: Path) -> None:
    for comment in (b"UNICODE\0" + "Steps: 1".encode("utf-16-le"), b"ASCII\0\0\0Steps: 1"):
        exif = Image.Exif()
        exif[0x8769] = {0x9286: comment}
        picture().save(tmp_path / "x.jpg", exif=exif.tobytes())
        assert output.read_text(tmp_path / "x.jpg") == "Steps: 1"


def test_a_picture_without_settings(tmp_path: Path) -> None:
    picture().save(tmp_path / "x.png")
    with pytest.raises(FileError, match="no generation settings inside"):
        output.read_text(tmp_path / "x.png")


def test_quality(tmp_path: Path) -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    sizes = [
        output.save(noise, tmp_path / "q.jpg", naming.target("q.jpg", None, quality)).stat().st_size
        for quality in (20, 95)
    ]
    assert sizes[0] < sizes[1]
    exact = output.save(noise, tmp_path / "q.webp", naming.target("q.webp", None, 100))
    with Image.open(exact) as image:
        assert image.convert("RGB").tobytes() == noise.tobytes()


def test_never_overwrites(tmp_path: Path) -> None:
    target = naming.target(str(tmp_path / "cat.png"))
    paths = [output.save(picture(color), target.path({}), target) for color in ("red", "lime", "blue")]
    assert [path.name for path in paths] == ["cat.png", "cat-2.png", "cat-3.png"]
    with Image.open(paths[0]) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
    assert left(tmp_path) == ["cat-2.png", "cat-3.png", "cat.png"]


def test_a_name_taken_at_the_last_moment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat.png").write_text("somebody's")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    path = output.save(picture(), tmp_path / "cat.png", naming.target(None))
    assert path.name == "cat-2.png"
    assert (tmp_path / "cat.png").read_text() == "somebody's"


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no links")

    monkeypatch.setattr(os, "link", refuse)
    names = [output.save(picture(), tmp_path / "cat.png", naming.target(None)).name for _ in range(2)]
    assert names == ["cat.png", "cat-2.png"]
    assert left(tmp_path) == ["cat-2.png", "cat.png"]


class FullDisk(io.FileIO):
    """Takes some bytes, then is full, as a disk is."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        super().write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda path, mode: FullDisk(path, mode.replace("b", "")))
    with pytest.raises(FileError) as caught:
        output.save(picture(), tmp_path / "cat.png", naming.target(None), "text")
    monkeypatch.undo()
    assert "No space left on device" in str(caught.value)
    assert "free some space" in str(caught.value)
    assert str(tmp_path / "cat.png") in str(caught.value)
    assert left(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a tiny disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    target = naming.target(str(tiny_disk / "cat.png"))
    noise = Image.effect_noise((100, 100), 90).convert("RGB")
    kept: list[Path] = []

    def fill() -> None:
        for _ in range(100):
            kept.append(output.save(noise, target.path({}), target))

    with pytest.raises(FileError, match="No space left on device; the disk is full"):
        fill()
    assert left(tiny_disk) == sorted(path.name for path in kept)
    for path in kept:
        with Image.open(path) as image:
            image.load()
    with pytest.raises(FileError, match="bytes are free here"):
        output.check_folder(tiny_disk)


def test_failure_while_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(FileError, match="cannot write"):
        output.save(picture(), tmp_path / "cat.png", naming.target(None))
    assert left(tmp_path) == []


def test_ctrl_c_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        output.save(picture(), tmp_path / "cat.png", naming.target(None))
    assert left(tmp_path) == []


def test_replace_swaps_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "preview.png"
    output.replace(picture("red"), path)
    output.replace(picture("blue"), path)
    with Image.open(path) as image:
        assert image.getpixel((0, 0)) == (0, 0, 255)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FileError, match="No space left"):
        output.replace(picture("lime"), path)
    assert left(tmp_path) == ["preview.png"]


def test_folder_is_made_and_tried(tmp_path: Path) -> None:
    output.check_folder(tmp_path / "new" / "deeper")
    assert left(tmp_path / "new" / "deeper") == []


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="a file has the name of the folder"):
        output.check_folder(tmp_path / "file")
    with pytest.raises(FileError, match="not a folder"):
        output.check_folder(tmp_path / "file" / "deeper")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(output.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(FileError, match=r"Permission denied.*no permission to write here"):
        output.check_folder(tmp_path)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")
def test_a_folder_nobody_can_write() -> None:
    with pytest.raises(FileError, match="cannot write"):
        output.check_folder(Path("/proc/self/pictures"))


def test_nearly_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="bytes are free here"):
        output.check_folder(tmp_path, needed=1 << 62)


def test_text_too_long_for_a_jpeg() -> None:
    with pytest.raises(OptionError, match="too many for a JPEG"):
        output.check_text(naming.target("x.jpg"), "a" * 40_000)
    output.check_text(naming.target("x.webp"), "a" * 40_000)
