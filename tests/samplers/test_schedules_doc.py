"""docs/schedules.md names every schedule, as it is."""

from __future__ import annotations

import re
from pathlib import Path

from sigmagraft.benchmarks.schedules_doc import DOCUMENT, filled
from sigmagraft.samplers import SCHEDULES


def test_the_table_is_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m sigmagraft.benchmarks.schedules_doc"


def test_the_names_in_the_text_exist() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").partition("<!-- table -->")[0]
    names = set(re.findall(r"`(\w+@[\w.-]+)`", text)) - {"name@system"}
    assert len(names) > 12
    assert all(name in SCHEDULES for name in names)


def test_every_schedule_of_several_systems_is_explained() -> None:
    text = Path(DOCUMENT).read_text(encoding="utf-8").partition("<!-- table -->")[0]
    several = {spec.name for spec in SCHEDULES if "@" in spec.name}
    missing = {name for name in several if f"`{name}`" not in text}
    assert missing <= {"beta57@res4lyf"}
