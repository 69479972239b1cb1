"""A failure of ours is one line on the console and never the host's."""

from __future__ import annotations

import logging

import pytest

from sigmagraft.hosts.log import guarded, say_once


def test_a_failure_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded("adding samplers"):
        raise ValueError("two\nlines")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert "adding samplers failed: ValueError: two lines; " in printed[0]


def test_a_person_who_stops_the_host_is_obeyed() -> None:
    with pytest.raises(KeyboardInterrupt), guarded("adding samplers"):
        raise KeyboardInterrupt


def test_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sigmagraft"):
        say_once("only once, said by this test")
        say_once("only once, said by this test")
    assert caplog.text.count("only once") == 1
