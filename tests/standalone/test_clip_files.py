"""Clips as files: what was written is what is read, it keeps time, and nothing is overwritten."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from sigmagraft.core.errors import FileError, MissingPartError, OptionError
from sigmagraft.pipelines import export_to_gif, export_to_video
from sigmagraft.standalone import clip_files, metadata, naming
from sigmagraft.standalone.cli import main

from ..animate.files import random_motion
from .test_animate import UNET

TEXT = metadata.to_text({"prompt": "a red circle", "frames": 5, "seed": 7, "steps": 3})


def frames(count: int = 5, size: tuple[int, int] = (24, 16)) -> list[Image.Image]:
    """Each of one colour, so that a palette loses nothing."""
    return [Image.new("RGB", size, (40 * k, 255 - 40 * k, 10 * k)) for k in range(count)]


@pytest.mark.parametrize("extension", ["gif", "webp", "png", "apng"])
def test_what_is_written_is_read(tmp_path: Path, extension: str) -> None:
    target = naming.target(str(tmp_path / f"clip.{extension}"), formats=clip_files.FORMATS)
    path = clip_files.save(frames(), target.path({}), target, fps=8, text=TEXT)
    again = clip_files.save(frames(), target.path({}), target, fps=8, text=TEXT)
    assert path.name == f"clip.{extension}"
    assert again.name == f"clip-2.{extension}"
    found = clip_files.read_frames(path)
    assert len(found) == 5
    for a, b in zip(frames(), found, strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= (0 if extension != "webp" else 12)
    with Image.open(path) as clip:
        lasts = [frame.info.get("duration", 0) for frame in ImageSequence.Iterator(clip)]
        kept = clip.info.get("comment") or clip.info.get("parameters") or clip.getexif().get_ifd(0x8769)
    if extension != "webp":  # Pillow reads those of a WebP as it plays
        assert sum(lasts) == pytest.approx(625, abs=10)
    assert kept


def test_durations_keep_time() -> None:
    for format, unit in (("GIF", 10), ("PNG", 1)):
        lasts = clip_files.durations(24, 24, format)
        assert sum(lasts) == 1000
        assert all(last % unit == 0 and last > 0 for last in lasts)


def test_a_picture_for_each_frame(tmp_path: Path) -> None:
    target = naming.target(str(tmp_path / "clip"), "frames", formats=clip_files.FORMATS)
    folder = clip_files.save(frames(), target.path({}), target, 8, TEXT)
    other = clip_files.save(frames(2), target.path({}), target, 8, TEXT)
    assert [file.name for file in sorted(folder.iterdir())] == [f"{k:05}.png" for k in range(1, 6)]
    assert (folder.name, other.name) == ("clip", "clip-2")
    assert len(clip_files.read_frames(other)) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="no pictures"):
        clip_files.read_frames(tmp_path / "empty")


def test_a_film(tmp_path: Path) -> None:
    if find_spec("av") is None:
        with pytest.raises(MissingPartError, match="pip install av"):
            export_to_video(frames(), tmp_path / "clip.mp4")
        assert not list(tmp_path.iterdir())
        return
    import av  # pyright: ignore[reportMissingImports]

    arrays = [np.asarray(frame) / 255 for frame in frames(5, (33, 17))]
    path = export_to_video(arrays, tmp_path / "clip.mp4", fps=8)
    with av.open(path) as film:
        read = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert float(film.streams.video[0].average_rate) == 8
    assert len(read) == 5
    assert read[0].shape == (16, 32, 3)
    for a, b in zip(arrays, read, strict=True):
        assert np.abs(a[:16, :32] * 255 - b).max() < 12


def test_no_frames_are_no_clip(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no frames"):
        export_to_gif([], tmp_path / "clip.gif")
    with pytest.raises(OptionError, match="one of gif"):
        naming.target("clip.tiff", formats=clip_files.FORMATS)


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigmagraft.standalone.pipeline import Pipeline

    from .small import small_model

    monkeypatch.setattr(Pipeline, "load", classmethod(lambda cls, source, **options: cls(small_model())))
    motion = random_motion(tmp_path / "motion.safetensors", UNET)
    words = ["animate", "a red circle", "--motion", str(motion), "--steps", "2", "--seed", "3", "--cfg", "1"]
    assert main([*words, "--frames", "3", "--fps", "5", "--out", str(tmp_path / "a.gif"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == 3
    assert len(clip_files.read_frames(tmp_path / "a.gif")) == 3
    more = ["--video", str(tmp_path / "a.gif"), "--strength", "0.5", "--at", "2:a blue square"]
    more += ["--windows", "static:length=2:overlap=1", "--out", str(tmp_path / "b.webp")]
    assert main([*words, *more]) == 0
    assert len(clip_files.read_frames(tmp_path / "b.webp")) == 3
    assert capsys.readouterr().out.strip() == str(tmp_path / "b.webp")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no motion modules"),
        (["--motion", "absent.safetensors"], "absent.safetensors"),
        (["--motion", "m", "--format", "avi"], "avi"),
        (["--motion", "m", "--at", "here"], "FRAME:PROMPT"),
        (["--motion", "FILE", "--windows", "none", "--frames", "25"], "at most 24"),
        (["--motion", "FILE", "--free-init", "2:method=sharp"], "butterworth"),
    ],
)
def test_the_command_refuses_before_any_model_loads(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sigmagraft.standalone.pipeline import Pipeline

    monkeypatch.setattr(Pipeline, "load", None)
    file = str(random_motion(tmp_path / "motion.safetensors", UNET))
    assert main(["animate", "a red circle", *(file if word == "FILE" else word for word in words)]) == 2
    assert said in capsys.readouterr().err
