"""How strongly a control acts: over the run (range, keyframes) and over the network's outputs (modes, weights)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from ..core.errors import OptionError
from .settings import Control, Mode

SOFT = 0.825  # A1111: each output further from the last is weaker by this
SOFT_T2I = (0.25, 0.62, 0.825, 1.0)
_ROUNDING = 1e-6


class Timeline:
    """Where in a walk of falling `sigmas` (with the last, 0) an evaluation stands, told by its sigma alone."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.steps = len(sigmas) - 1
        self._begins = [-sigma for sigma in sigmas[:-1]]

    def step(self, sigma: float) -> int:
        """The step that this sigma lies in: it begins there or above, and ends below."""
        near = -sigma * (1 + _ROUNDING)  # a sigma read off a tensor is a rounding of it
        found = bisect_right(self._begins, near + 2 * abs(near) * _ROUNDING) - 1
        return min(max(found, 0), self.steps - 1)


class Range(Protocol):
    """Shares of the steps and noise levels between which something acts."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def sigma_start(self) -> float | None: ...
    @property
    def sigma_end(self) -> float | None: ...


def acts(span: Range, timeline: Timeline, sigma: float) -> bool:
    """Whether this sigma's step lies whole in the range, and the sigma too."""
    step, steps = timeline.step(sigma), timeline.steps
    inside = step / steps >= span.start - _ROUNDING and (step + 1) / steps <= span.end + _ROUNDING
    high, low = span.sigma_start, span.sigma_end
    return inside and (high is None or sigma <= high) and (low is None or sigma >= low)


def strength_at(control: Control, timeline: Timeline, sigma: float) -> float:
    """The control's strength in an evaluation; 0 where it need not be evaluated."""
    inside = acts(control, timeline, sigma)
    return control.strength * _keyed(control, timeline.step(sigma) / timeline.steps) if inside else 0.0


def _keyed(control: Control, share: float) -> float:
    """The keyframes' factor at a share of the steps; before the first its own."""
    if not control.keyframes:
        return 1.0
    places = [place for place, _ in control.keyframes]
    at = max(bisect_right(places, share + _ROUNDING) - 1, 0)
    place, factor = control.keyframes[at]
    if not control.interpolate or at + 1 == len(places) or share <= place:
        return factor
    next_place, next_factor = control.keyframes[at + 1]
    return factor + (next_factor - factor) * (share - place) / (next_place - place)


def output_weights(control: Control, count: int) -> list[float]:
    """A factor for each of `count` outputs, the middle block's last. OptionError for a list of another length."""
    if control.weights is not None and len(control.weights) != count:
        raise OptionError(
            f"{len(control.weights)} control weights", expected=f"{count}: each output, the middle block last"
        )
    given = list(control.weights or [1.0] * count)
    return [a * b for a, b in zip(given, _of_mode(control.mode, count), strict=True)]


def _of_mode(mode: Mode, count: int) -> list[float]:
    if mode == "guess":  # ten to the -1 .. 0, evenly
        return [10 ** (i / (count - 1) - 1) for i in range(count)]
    return [1.0 if mode == "balanced" else SOFT ** (count - 1 - i) for i in range(count)]


def t2i_weights(control: Control, count: int) -> list[float]:
    """As `output_weights`, of a T2I-Adapter's features."""
    if control.weights is not None or count != len(SOFT_T2I):
        return output_weights(control, count)
    return [1.0] * count if control.mode == "balanced" else list(SOFT_T2I)


def only_prompt(control: Control) -> bool:
    """Whether the negative prompt's half goes without the control."""
    return control.mode in ("control", "guess")
