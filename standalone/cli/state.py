"""--stop-at and --save-state: a run stopped after some steps, and the file from which it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import FileError, OptionError
from .. import output
from .parser import Parser, number

if TYPE_CHECKING:
    from ...samplers import Recording

Settings = dict[str, Any]


def add_stop(parser: Parser) -> None:
    """When to stop, and where to keep what is needed to go on."""
    add = parser.add_argument_group("stopping").add_argument
    add(
        "--stop-at",
        type=number(int, 1, 999),
        metavar="N",
        help="end after N steps, without a picture; `sigmagraft resume` goes on",
    )
    add("--save-state", metavar="FILE", help="where --stop-at keeps what is needed to go on")


def check(settings: Settings, count: int, batch: int) -> None:
    """Raises OptionError for one of the two without the other, or for pictures that are not made at once."""
    given = [name for name in ("stop_at", "save_state") if name in settings]
    if len(given) == 1:
        missing = "--save-state FILE" if given == ["stop_at"] else "--stop-at N"
        raise OptionError(f"--{given[0].replace('_', '-')} alone", expected=f"{missing} with it")
    if given and count > batch:
        raise OptionError(
            f"--stop-at with {count} pictures, {batch} made at once", todo=f"give --batch {count}"
        )


def recording(settings: Settings) -> Recording | None:
    """What a run goes on from, or keeps where it stops. FileError where no state can be written."""
    from ...samplers import Recording

    if "save_state" in settings:
        path = Path(settings["save_state"])
        output.check_folder(path.parent)
        if path.exists():
            _only_a_state(path)
    return settings.get("recording") or (Recording() if "save_state" in settings else None)


def _only_a_state(path: Path) -> None:
    from ...samplers import Recording

    try:
        Recording.load(path)
    except FileError:
        raise FileError("exists and is no stopped run", path, todo="choose another --save-state") from None


def save(recording: Recording, path: str, settings: Settings) -> Path:
    """Write what was stopped, with the settings of the run."""
    recording.facts["settings"] = settings
    recording.save(path)
    return Path(path)


def read(path: str, usable: Callable[[Settings], Settings]) -> Settings:
    """The settings of a stopped run, its recording among them. FileError for a file that is none."""
    from ...samplers import Recording

    recording = Recording.load(path)
    told = recording.facts["settings"]
    prompts, batch = told.get("prompts"), told.get("batch")
    if not isinstance(prompts, list) or not all(isinstance(text, str) for text in prompts) or not prompts:
        raise FileError("it tells of no run of the command line", path, todo="go on with Pipeline.resume")
    count = batch if type(batch) is int and batch > 0 else len(prompts)
    return usable(told) | {"prompts": prompts, "batch": count, "recording": recording}
