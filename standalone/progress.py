"""Bars for loading, sampling and decoding on a terminal; silence anywhere else."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from .pipeline import StepState


class Progress:
    """One bar at a time on `stream` (stderr), with rate and time left; hidden when `quiet` or not a
    terminal.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.quiet = quiet
        self.visible = not quiet and self.stream.isatty()
        self.title = ""  # which pictures of a longer run, such as " 3-4 of 10"
        self.pictures = 1
        self.interval = 0.1  # seconds between redrawings
        self._bar: Any = None
        self._stage = ""

    def loading(self, done: int, total: int) -> None:
        """`done` of `total` bytes of weights are in place."""
        self._show("loading", done, total, unit="B", unit_scale=True)

    def step(self, state: StepState) -> None:
        """A step of the sampler is done; after the last one decoding begins."""
        self._show("sampling" + self.title, state.index + 1, state.steps, unit=" steps")
        if state.index + 1 == state.steps:
            self.decoded(0)

    def decoded(self, done: int) -> None:
        """`done` pictures of this batch are decoded."""
        self._show("decoding" + self.title, done, self.pictures, unit=" pictures")

    def drawn(self, done: int, total: int) -> None:
        """`done` of `total` pictures of a batch are there."""
        self._show("drawing", done, total, unit=" pictures")

    def measured(self, done: int, total: int) -> None:
        """`done` of `total` levels of the trajectories are measured."""
        self._show("measuring", done, total, unit=" levels")

    def fitted(self, done: int, total: int) -> None:
        """`done` of about `total` evaluations of a fit are done."""
        self._show("calibrating", done, total, unit=" evaluations")

    def note(self, text: str) -> None:
        """One line for a person, above the bar; not when quiet."""
        if self.quiet:
            return
        self.close()
        print(f"sigmagraft: {' '.join(text.split())}", file=self.stream, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show(self, stage: str, done: int, total: int, **style: Any) -> None:
        if not self.visible:
            return
        bar = self._bar
        if bar is None or self._stage != stage or done < bar.n:
            bar = self._start(stage, total, style)
        bar.update(done - bar.n)
        if done >= total:
            self.close()

    def _start(self, stage: str, total: int, style: dict[str, Any]) -> Any:
        from tqdm import tqdm

        self.close()
        self._stage = stage
        # Asked here because tqdm shows nothing at all on terminals that claim to be 0x0, as some containers' do.
        columns, rows = shutil.get_terminal_size()
        place = {"file": self.stream, "leave": False, "ncols": columns, "nrows": rows}
        self._bar = tqdm(total=total, desc=stage, mininterval=self.interval, **place, **style)
        return self._bar
