"""Bars appear on a terminal only, with rate and time left; notes are single lines."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from sigmagraft.standalone.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(progress: Progress, batches: int = 1) -> None:
    for done in range(0, 101, 20):
        progress.loading(done * 1_000_000, 100_000_000)
    for _ in range(batches):
        progress.pictures = 2
        for index in range(5):
            progress.step(SimpleNamespace(index=index, steps=5))
        for done in (1, 2):
            progress.decoded(done)
    progress.close()


def eager(stream: io.StringIO) -> Progress:
    """Redraws at every change."""
    progress = Progress(stream=stream)
    progress.interval = 0
    return progress


def test_every_stage_shows_on_a_terminal() -> None:
    stream = Terminal()
    progress = eager(stream)
    progress.title = " 3-4 of 10"
    run(progress)
    text = stream.getvalue()
    assert "100M/100M" in text
    assert "loading" in text
    assert "sampling 3-4 of 10" in text
    assert "5/5" in text
    assert "steps/s" in text
    assert "decoding 3-4 of 10" in text
    assert "2/2" in text


def test_each_batch_begins_anew() -> None:
    stream = Terminal()
    run(eager(stream), batches=3)
    assert stream.getvalue().count("1/5") == 3
    assert "6/5" not in stream.getvalue()


@pytest.mark.parametrize(("stream", "quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_no_bar_elsewhere(stream: io.StringIO, quiet: bool) -> None:
    run(Progress(quiet, stream))
    assert stream.getvalue() == ""


def test_notes() -> None:
    stream = io.StringIO()
    Progress(stream=stream).note("two\n  lines")
    assert stream.getvalue() == "sigmagraft: two lines\n"
    quiet = io.StringIO()
    Progress(quiet=True, stream=quiet).note("anything")
    assert quiet.getvalue() == ""


def test_a_bar_is_taken_away_when_the_run_fails() -> None:
    stream = Terminal()

    def fail() -> None:
        with Progress(stream=stream) as progress:
            progress.step(SimpleNamespace(index=0, steps=5))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert stream.getvalue().endswith("\r")
