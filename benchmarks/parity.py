"""Writes docs/parity.md from docs/parity.json, which holds what was measured against real hosts.

    python -m sigmagraft.benchmarks.parity                  # the document anew
    python -m sigmagraft.benchmarks.parity ROWS.json ...    # rows of measurements first taken into the data

A row is {"host", "version", "what", "network", "sampler", "options", "schedule", "difference"}; of several with one
sampler the largest difference is kept. `what` is one of WHAT.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
DATA, DOCUMENT = DOCS / "parity.json", DOCS / "parity.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end of what is measured -->"
NAMES = {
    "a1111": "Automatic1111",
    "forge": "Forge",
    "neo": "Forge Neo",
    "reforge": "reForge",
    "comfyui": "ComfyUI",
    "diffusers": "diffusers",
}
WHAT = {
    "like": (
        "The runner with `--like` against the host's own run",
        "Same checkpoint, prompts with emphasis, negative prompt, seed and settings; the host loads, encodes, guides "
        "and samples by itself. The number is |ours - theirs| / |theirs| of the final latents, on the CPU in fp32. "
        "In parentheses the schedule, by the host's name.",
    ),
    "ours": (
        "Our samplers inside a host against the same alone",
        "The same latent, sigmas, noise and network walked by the sampler in the host and by `drive`; the largest "
        "difference of several schedules.",
    ),
    "host": (
        "Our samplers against the host's own of the same name, inside the host",
        "What is above 1e-4 differs on purpose; the reasons are above.",
    ),
}
Section = dict[str, Any]


def taken(sections: Sequence[Section], rows: Iterable[dict[str, Any]]) -> list[Section]:
    """`sections` with these rows in place of what they had of the same host, version, kind and network."""
    found = {_key(section): section for section in sections}
    renewed: set[tuple[str, ...]] = set()
    for row in rows:
        key = _key(row)
        if key not in renewed:
            renewed.add(key)
            names = ("host", "version", "what", "network")
            found[key] = {**{name: row[name] for name in names}, "differences": {}}
        differences = found[key]["differences"]
        name = _entry(row)
        differences[name] = max(differences.get(name, 0.0), float(f"{row['difference']:.1e}"))
    return [found[key] for key in sorted(found, key=lambda key: (list(WHAT).index(key[2]), *key))]


def _key(section: Section) -> tuple[str, ...]:
    return tuple(section[name] for name in ("host", "version", "what", "network"))


def _entry(row: dict[str, Any]) -> str:
    options = ",".join(f"{name}={value}" for name, value in (row.get("options") or {}).items())
    schedule = row.get("schedule") if row["what"] == "like" else None
    return row["sampler"] + (f":{options}" if options else "") + (f" ({schedule})" if schedule else "")


def measured(sections: Sequence[Section]) -> str:
    """A chapter for each kind of measurement, as Markdown."""
    chapters = []
    for what, (title, words) in WHAT.items():
        columns = [section for section in sections if section["what"] == what]
        if columns:
            chapters.append(f"## {title}\n\n{words}\n\n{_table(columns)}")
    return "\n".join(chapters)


def _table(columns: Sequence[Section]) -> str:
    rows = list(dict.fromkeys(name for column in columns for name in column["differences"]))
    heads = [f"{NAMES[c['host']]} {c['version']}, {c['network']}" for c in columns]
    lines = [["sampler", *heads], ["---"] * (len(columns) + 1)]
    worst = [max(column["differences"].values()) for column in columns]
    lines.append(["**largest**", *(f"**{value:.1e}**" for value in worst)])
    for name in rows:
        cells = (column["differences"].get(name) for column in columns)
        lines.append([f"`{name}`", *("" if cell is None else f"{cell:.1e}" for cell in cells)])
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def filled(text: str, sections: Sequence[Section]) -> str:
    """The document with its tables renewed."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + measured(sections) + END + rest.partition(END)[2]


def read() -> list[Section]:
    """The committed measurements."""
    return json.loads(DATA.read_text(encoding="utf-8"))


def write(sections: Sequence[Section]) -> None:
    """Data and document."""
    DATA.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), sections), encoding="utf-8")


if __name__ == "__main__":
    rows = [row for path in sys.argv[1:] for row in json.loads(Path(path).read_text(encoding="utf-8"))]
    write(taken(read() if DATA.exists() else [], rows))
