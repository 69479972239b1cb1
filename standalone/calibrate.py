"""A solver of few steps fitted to a loaded model, under its guidance, at its size: from walks to a calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import OptionError
from ..samplers.calibrate_fit import DAMPINGS, ENOUGH, Fit
from ..samplers.calibrate_shape import Shape
from ..samplers.calibrate_steps import Deviations
from ..samplers.calibration import Calibration
from .calibrate_facts import check_asked, facts_of
from .calibrate_prompts import parted, prompts_for
from .calibrate_start import fit_error, ranked, sets_of, starts_of, way_error, ways_of
from .calibrate_state import State
from .calibrate_walks import Batch, Count, Progress, seconds_each, teach, teaching
from .memory import memory_errors

if TYPE_CHECKING:
    from .pipeline import Pipeline

HELD_SEED = 500_000  # from the first seed of the fit to that of what is held out
SCREENED = 16  # images that starts and general samplers are tried on
TRIED, TRIAL_ROUNDS = 2, 3  # starts that are followed on SCREENED images, for so many rounds
WALKED = ("count", "held_out", "batch", "teacher")  # of the sizes: what decides the walks
PATIENCE = 3  # rounds without a better held-out error after which the fit ends
GAIN = 0.97  # of the best general sampler's error: at most this, or the fit is refused
DIFFERENCE = {torch.float32: 2e-3, torch.float16: 1e-2, torch.bfloat16: 3e-2}
Note = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """How much is walked: trajectories to fit and held out, how many at once, the teacher's steps, rounds."""

    count: int = 40
    held_out: int = 16
    batch: int = 8
    teacher: int = 48
    rounds: int = 10


def calibrate(
    pipe: Pipeline,
    prompts: Sequence[str] = (),
    *,
    steps: int,
    sizes: Sizes | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
    **settings: Any,
) -> Calibration:
    """A solver of `steps` evaluations for this model, on `prompts` in turn (none: some of ours).

    `settings` are those of `Pipeline.__call__`: negative, cfg, cfg_rescale, size, seed, loras. What is
    walked is kept in a file in `folder`, from which an interrupted one goes on and another number of steps begins.
    `progress` is told (evaluations of one image done, all about).
    OptionError where it cannot be fitted, or is no better than the best general sampler; NonFiniteError, OutOfMemory.
    """
    with memory_errors("calibrating", pipe.model.device), torch.no_grad():
        return Calibrating(
            pipe, prompts, steps, sizes or Sizes(), folder, progress, note or _silent, settings
        ).result()


class Calibrating:
    """One calibration, stage by stage."""

    def __init__(
        self,
        pipe: Pipeline,
        prompts: Sequence[str],
        steps: int,
        sizes: Sizes,
        folder: Path | None,
        progress: Progress | None,
        note: Note,
        settings: dict[str, Any],
    ) -> None:
        check_asked(steps, prompts, settings)
        self.pipe, self.steps, self.sizes, self.note = pipe, steps, sizes, note
        self.levels = pipe.levels
        self.count = Count(progress=progress)
        self.said = tuple(prompts) or prompts_for(pipe.model.source)
        self.facts = facts_of(pipe, settings)
        asked = {**self.facts, "prompts": self.said, **{name: getattr(sizes, name) for name in WALKED}}
        self.state = State(folder, {**asked, **settings})
        self.found = self.state.fits.setdefault(f"{steps} steps, {sizes.rounds} rounds", {})
        first = settings.pop("seed", 0)
        fit, held = parted(self.said)
        self.fit = list(self._batches(fit, sizes.count, first, settings))
        self.held = list(self._batches(held, sizes.held_out, first + HELD_SEED, settings))
        self.trial = min(TRIAL_ROUNDS, sizes.rounds)
        self.under_way: tuple[float, bool, Fit] | None = None

    def result(self) -> Calibration:
        """All stages. Raises OptionError where the fit does not beat the general samplers."""
        self.note(self._estimate())
        self._teach()
        if "starts" not in self.found:
            self._screen()
        self._follow()
        best, general = self.found.get("best", {"held": math.inf}), self.found["general"]
        self._refuse(best["held"], general["held"], general["label"])
        return self._calibration()

    def _batches(
        self, words: Sequence[str], count: int, seed: int, settings: dict[str, Any]
    ) -> Iterator[Batch]:
        for first in range(0, count, self.sizes.batch):
            images = range(first, min(first + self.sizes.batch, count))
            said = [words[k % len(words)] for k in images]
            yield Batch.of(self.pipe, said, seed + first, self.count, **settings)

    def _estimate(self) -> str:
        """Words for a person, before anything slow; sets the total of the progress."""
        each = seconds_each(self.fit[0])
        sizes, images = self.sizes, self.sizes.count
        shape = self._shape(self.levels.sigma_max)
        changed = shape.evaluations()
        rounds = max(sizes.rounds - TRIAL_ROUNDS, 0)
        tried = len(DAMPINGS) * min(ENOUGH, images) * self.steps
        trial = TRIED * (min(SCREENED, images) * changed + TRIAL_ROUNDS * tried)
        full = images * 2 * changed + rounds * (tried + max(images - ENOUGH, 0) * self.steps)
        looked = sizes.held_out * self.steps * (rounds + TRIED * TRIAL_ROUNDS)
        screen = (len(list(ways_of(self.steps, self.levels))) + TRIED) * min(SCREENED, images) * self.steps
        self.count.total = (images + sizes.held_out) * sizes.teacher + screen + trial + full + looked
        minutes = self.count.total * each / 60
        return f"about {self.count.total} evaluations of {each:.3g} s, {minutes:.1f} minutes"

    # the teacher

    def _teach(self) -> None:
        deviations = Deviations(self.levels, teaching(self.levels, self.sizes.teacher)[1])
        if len(self.state.cost):
            deviations.cost = self.state.cost
        batches = [*self.fit, *self.held]
        for number, batch in enumerate(batches):
            if number < len(self.state.ends):
                batch.end = self.state.ends[number].to(batch.noise)
                self.count.add(len(batch.noise) * self.sizes.teacher)
                continue
            teach(batch, self.sizes.teacher, deviations if number < len(self._some()) else None)
            assert batch.end is not None  # `teach` has set it
            self.state.ends.append(batch.end.float().cpu())
            self.state.cost = deviations.cost
            self.state.save()
        self.deviations = deviations

    def _shape(self, first: float) -> Shape:
        return Shape(self.levels, first, self.steps)

    def _some(self) -> list[Batch]:
        """The first batches, of about SCREENED images."""
        return self.fit[: max(SCREENED // self.sizes.batch, 1)]

    # where the fit begins, and what it must beat

    def _screen(self) -> None:
        """Every general way on some images; the best of them is what the fit must beat."""
        ways = ranked(self.steps, self._some())
        best = {"label": ways[0].label, "held": way_error(ways[0], self.steps, self.held)}
        starts = starts_of(ways[: 2 * TRIED], self.deviations, self.steps, self._some(), TRIED)
        self.found |= {"general": best, "starts": starts}
        self.state.save()

    # the fit

    def _follow(self) -> None:
        """Some rounds from each start, then the rest from the best of them."""
        starts = self.found["starts"]
        for start in starts:
            while start["rounds"] < self.trial and self._round(start):
                pass
        best = min(starts, key=lambda start: start.get("error", math.inf))
        while best["rounds"] < self.sizes.rounds and self._waited(best) < PATIENCE:
            if not self._round(best):
                break

    def _waited(self, start: dict[str, Any]) -> int:
        """Rounds on all images without a better held-out error."""
        return start["rounds"] - max(start.get("best_round", 0), self.trial)

    def _round(self, start: dict[str, Any]) -> bool:
        """One step of the fit, looked at on what is held out; False where it is at its end."""
        if start.get("ended"):
            return False
        fit = self._fit_of(start)
        better = fit.improve()
        start |= {"numbers": fit.numbers, "rounds": start["rounds"] + 1}
        if better:
            self._look(start, fit)
        else:  # on all images there may still be something to gain
            start |= {"ended": start["rounds"] > self.trial, "rounds": max(start["rounds"], self.trial)}
        self.state.save()
        return better

    def _fit_of(self, start: dict[str, Any]) -> Fit:
        """The fit from this start: on some images in the rounds of trial, then on all."""
        trial = start["rounds"] < self.trial
        if self.under_way is None or self.under_way[:2] != (start["first"], trial) or not start["rounds"]:
            shape = self._shape(start["first"])
            sets = sets_of(self._some() if trial else self.fit, shape.first)
            difference = DIFFERENCE.get(self.pipe.model.dtype, 2e-3)
            made = Fit(shape, start["numbers"], sets, difference)
            self.under_way = (start["first"], trial, made)
        return self.under_way[2]

    def _look(self, start: dict[str, Any], fit: Fit) -> None:
        """Keeps the numbers that are best on what is held out."""
        fitted, held = fit.error(), fit_error(fit.shape, fit.numbers, self.held)
        start["error"] = fitted
        if held < self.found.get("best", {"held": math.inf})["held"]:
            self.found["best"] = {
                "first": fit.shape.first,
                "numbers": fit.numbers,
                "fitted": fitted,
                "held": held,
            }
            start["best_round"] = start["rounds"]
        general = self.found["general"]
        self.note(
            f"round {start['rounds']}: error {fitted:.4f} fitted, {held:.4f} held out; "
            f"{general['label']} {general['held']:.4f}"
        )

    def _refuse(self, held: float, general: float, label: str) -> None:
        if not held < GAIN * general:
            raise OptionError(
                f"the fitted solver is no better than {label} on what was held out: {held:.4f} and {general:.4f}",
                expected="a smaller error",
                todo="give more --prompts and a larger --count, or draw with that sampler",
            )

    def _calibration(self) -> Calibration:
        best = self.found["best"]
        solver = self._shape(best["first"]).solver(best["numbers"])
        assert solver is not None  # it has been walked
        error = {"fitted": best["fitted"], "held_out": best["held"], "general": self.found["general"]["held"]}
        walked = {"prompts": len(self.said), "images": self.sizes.count, "held_out": self.sizes.held_out}
        facts = {**self.facts, "error": error, "general": self.found["general"]["label"], "walked": walked}
        return Calibration(solver.sigmas, solver.rows, facts)


def _silent(text: str) -> None:
    pass
