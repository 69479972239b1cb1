"""What `sigmagraft compare` leaves behind: grid.png, plot.png and compare.json, and the table it prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import FileError
from .. import naming, output
from .table import show

if TYPE_CHECKING:
    from PIL import Image

    from ..compare import Comparison, Entry

HEAD = ("sampler", "schedule", "steps", "evaluations", "seconds", "distance", "psnr")


def save(
    folder: Path, made: Comparison, entries: Sequence[Entry], told: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Three files in a folder that was not there before."""
    folder = _new(folder)
    found = {
        **told,
        "reference": made.reference.as_json(),
        "entries": [entry.as_json() for entry in entries],
    }
    text = json.dumps(found, indent=2, ensure_ascii=False)
    png = naming.target(None)
    output.save(_sheet(made, entries, told), folder / "grid.png", png)
    drawn = [entry for entry in entries if entry.distance > 0.0]
    if drawn:
        output.save(_plot(drawn, told), folder / "plot.png", png)
    try:
        (folder / "compare.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot write: {error.strerror or error}", folder / "compare.json") from None
    if settings.get("json"):
        print(text)
        return
    if not settings.get("quiet"):
        print(show([HEAD, *(_row(entry) for entry in entries)]))
    print(
        "\n".join(
            str(folder / name)
            for name in ("grid.png", "plot.png", "compare.json")
            if (folder / name).exists()
        )
    )


def _new(folder: Path) -> Path:
    for count in range(1, 10_000):
        place = folder if count == 1 else folder.with_name(f"{folder.name}-{count}")
        try:
            place.mkdir(parents=True)
            return place
        except FileExistsError:
            continue
        except OSError as error:
            raise FileError(f"cannot make this folder: {error.strerror or error}", place) from None
    raise FileError("ten thousand folders have this name", folder, todo="change --out")


def _row(entry: Entry) -> tuple[str, ...]:
    way, told = entry.way, entry.as_json()
    name = way.name.rsplit(" ", 1)[0] + (" *" if way.stochastic else "")
    if entry.error:
        return (name, told["schedule"], entry.column, "", "", "", entry.error)
    numbers = (f"{entry.seconds:.2f}", f"{entry.distance:.3g}", f"{entry.psnr:.1f} dB")
    return (name, told["schedule"], str(entry.steps), str(entry.evaluations), *numbers)


def _sheet(made: Comparison, entries: Sequence[Entry], told: dict[str, Any]) -> Image.Image:
    from ..sheet import Picture, labelled

    reference = made.reference
    cells = {
        (entry.way.name, entry.column): Picture(
            entry.image,
            [entry.error]
            if entry.error
            else [_cost(entry), f"{entry.distance:.3g} off, {entry.psnr:.1f} dB"],
        )
        for entry in entries
    }
    first = ("reference: " + reference.way.name, entries[0].column)
    cells = {first: Picture(reference.image, [_cost(reference)]), **cells}
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    return labelled(_title(told), rows, columns, cells)


def _cost(entry: Entry) -> str:
    return f"{entry.steps} steps, {entry.evaluations} NFE"


def _title(told: dict[str, Any]) -> list[str]:
    left_out = ("prompt", "negative", "emphasis", "noise")
    facts = [f"{name} {value}" for name, value in told.items() if value and name not in left_out]
    return [told["prompt"], ", ".join(facts)]


def _plot(entries: Sequence[Entry], told: dict[str, Any]) -> Image.Image:
    from ..chart import Curve, plot

    curves: dict[str, Curve] = {}
    for entry in entries:
        name = entry.way.name
        before = curves[name].points if name in curves else []
        curves[name] = Curve(name, [*before, (entry.evaluations, entry.distance)], entry.way.stochastic)
    across = "model evaluations" + (" (dashed: adds noise)" if any(c.hollow for c in curves.values()) else "")
    return plot(told["prompt"], across, "distance to the reference", list(curves.values()))


def line(entry: Entry) -> str:
    """One walk in words."""
    if entry.error:
        return f"{entry.way.name}, {entry.column}: {entry.error}"
    cost = f"{entry.steps} steps, {entry.evaluations} evaluations, {entry.seconds:.2f} s"
    return f"{entry.way.name}, {cost}" + (f", {_measured(entry)}" if entry.distance == entry.distance else "")


def _measured(entry: Entry) -> str:
    return f"distance {entry.distance:.3g}, {entry.psnr:.1f} dB"
