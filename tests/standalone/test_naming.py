"""File names from patterns: fields, formats, and what a prompt may not do to a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.standalone import naming, output

from .test_output import left, picture


@pytest.mark.parametrize(
    ("pattern", "format", "expected"),
    [
        (None, None, "outputs/a-red-circle-7.png"),
        ("{seed:05}_{index:03}", None, "00007_001.png"),
        ("x.jpg", None, "x.jpg"),
        ("x.JPEG", "jpeg", "x.JPEG"),
        ("v1.5 {seed}", "webp", "v1.5 7.webp"),
        ("some/folder/", None, "some/folder/a-red-circle-7.png"),
        ("{width}x{height}-{sampler}-{cfg}", None, "64x32-euler-7.5.png"),
        ("{{literal}}", None, "{literal}.png"),
    ],
)
def test_patterns(pattern: str | None, format: str | None, expected: str) -> None:
    values = {
        "prompt": "a red circle",
        "seed": 7,
        "index": 1,
        "width": 64,
        "height": 32,
        "sampler": "euler",
        "cfg": 7.5,
    }
    assert naming.target(pattern, format).path(values) == Path(expected)


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        (None, "outputs"),
        ("{seed}", "."),
        ("a/b/{prompt}/c/{seed}", "a/b"),
        ("/x/{width}x{height}/y", "/x"),
        ("~/p", "~"),
    ],
)
def test_the_folder_that_is_sure(pattern: str | None, folder: str) -> None:
    assert naming.target(pattern).folder == Path(folder).expanduser()


def test_folders_from_fields_are_made(tmp_path: Path) -> None:
    target = naming.target(str(tmp_path / "{prompt}" / "{seed}"))
    for prompt in ("a cat", "a dog"):
        output.save(picture(), target.path({"prompt": prompt, "seed": 1}), target)
    assert left(tmp_path) == ["a-cat", "a-dog"]


def test_an_existing_folder(tmp_path: Path) -> None:
    assert naming.target(str(tmp_path)).path({"prompt": "x", "seed": 1}) == tmp_path / "x-1.png"


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j"),
        ("...", "_"),
        ("", "_"),
        ("CON", "CON_"),
        ("new\nline\0nul", "new-line-nul"),
        ("{seed}", "seed"),
        ("Снег", "Снег"),
    ],
)
def test_prompts_in_file_names(prompt: str, name: str) -> None:
    assert naming.target("{prompt}").path({"prompt": prompt}).name == f"{name}.png"


def test_long_prompts_in_file_names(tmp_path: Path) -> None:
    for letter in ("a", "夜", "🌄"):
        target = naming.target(str(tmp_path / "{prompt}-{negative}"))
        output.save(picture(), target.path({"prompt": letter * 5000, "negative": letter * 5000}), target)
    assert len(left(tmp_path)) == 3


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{sed}", "did you mean 'seed'"),
        ("{seed", "cannot read the pattern"),
        ("{}", "cannot read the pattern|unknown field"),
        ("{prompt.__class__}", "unknown field|cannot read"),
        ("{seed!r}", "unknown field"),
        ("{prompt:d}", "cannot read the pattern"),
        ("x.gif", "cannot write .gif files"),
    ],
)
def test_bad_patterns(pattern: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        naming.target(pattern)


def test_contradictions() -> None:
    with pytest.raises(OptionError, match=r"--out says .jpg but --format png"):
        naming.target("x.jpg", "png")
    with pytest.raises(OptionError, match="PNG has no quality"):
        naming.target("x.png", None, 80)
