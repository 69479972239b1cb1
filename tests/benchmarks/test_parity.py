"""docs/parity.md is in step with the measurements in docs/parity.json."""

from __future__ import annotations

import pytest

from sigmagraft.benchmarks import parity
from sigmagraft.samplers import SAMPLERS

WRITE = "python -m sigmagraft.benchmarks.parity"
TEXT = parity.DOCUMENT.read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_data() -> None:
    assert parity.filled(TEXT, parity.read()) == TEXT, WRITE


@pytest.mark.parametrize(
    "section", parity.read(), ids=lambda section: "-".join(map(str, list(section.values())[:4]))
)
def test_a_section(section: parity.Section) -> None:
    """Every name is a sampler's; what should be equal is, up to what the document explains by name."""
    for name, difference in section["differences"].items():
        sampler = name.partition(" ")[0].partition(":")[0]
        assert sampler in SAMPLERS
        if section["what"] == "like":
            assert difference < 1e-4 or f"`{sampler}`" in TEXT.partition(parity.BEGIN)[0], name


def test_rows_are_taken_in_place_of_the_old_ones() -> None:
    row = {
        "host": "comfyui",
        "version": "1",
        "what": "like",
        "network": "n",
        "sampler": "euler",
        "schedule": "karras",
    }
    first = parity.taken([], [{**row, "difference": 2.34e-6}, {**row, "difference": 1e-7}])
    assert first[0]["differences"] == {"euler (karras)": 2.3e-06}
    second = parity.taken(first, [{**row, "difference": 1e-7}, {**row, "version": "2", "difference": 3e-7}])
    assert [section["differences"]["euler (karras)"] for section in second] == [1e-07, 3e-07]
    assert "| `euler (karras)` | 1.0e-07 | 3.0e-07 |" in parity.measured(second)
