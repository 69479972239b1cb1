"""A file's parts -> the weights of one model they change; what does not fit is said, and refuses the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from ..core.errors import FileError
from ..core.patch import WeightPatch
from .delta import Delta
from .guess import guess_base, guess_foreign, guess_trainer, header_base
from .lora_file import LoraFile, Part
from .report import LoadReport, Unused
from .targets import Module, Targets

_NEAREST_FOR = 8  # unknown names that a nearest one is sought for: each costs a walk over all names


@dataclass(frozen=True, eq=False)
class Bound:
    """A file's changes by patch key (`unet.input_blocks.1.1.proj_in.weight`) and what was found out in loading."""

    file: LoraFile
    deltas: dict[str, list[Delta]]
    report: LoadReport

    def patches(self) -> Iterable[WeightPatch]:
        """The changes as patches of strength 1."""
        for key, deltas in self.deltas.items():
            yield from (WeightPatch(key, delta) for delta in deltas)


def bind(file: LoraFile, targets: Targets, force: bool = False) -> Bound:
    """The file's changes on this model. FileError with the reason where it was made for another; ``force`` applies
    what fits.
    """
    bound = examine(file, targets)
    report = bound.report
    if report.refused and (not force or not (bound.deltas or file.embeddings)):
        raise FileError(report.refused, file.path, _expected(report), _todo(report, bool(bound.deltas)))
    if report.refused:
        report.notes.insert(0, f"{file.path.name}: forced: {report.refused}")
    return bound


def examine(file: LoraFile, targets: Targets) -> Bound:
    """As `bind`, refusing nothing: what fits, and a report of what does not."""
    report = LoadReport(file, targets.label, trainer=guess_trainer(file), base=guess_base(file))
    report.unused = list(file.unknown)
    deltas: dict[str, list[Delta]] = {}
    misfits: list[str] = []
    unmatched: list[Part] = []
    for part in file.parts.values():
        found = targets.find(part.stem)
        if found is None:
            unmatched.append(part)
            continue
        module, naming = found
        reason = _misfit(part, module)
        if reason is not None:
            misfits.append(f"{part.stem}: {reason}")
            report.unused += [Unused(key, reason) for key in part.keys]
            continue
        _use(part, module, deltas, report)
        report.namings[naming] += 1
    _report_unmatched(unmatched, targets, report)
    report.refused = _refusal(report, misfits, unmatched)
    said = header_base(file)
    if said and targets.label.startswith("Stable") and said.removeprefix("the ") not in targets.label:
        report.notes.append(f"{file.path.name}: its header says it was made for {said}")
    return Bound(file, deltas, report)


def _misfit(part: Part, module: Module) -> str | None:
    for parameter, delta in part.deltas:
        shape = module.shapes.get(parameter)
        if shape is None and delta.optional:
            continue
        if shape is None:
            return f"this layer has no {parameter}"
        if (reason := delta.misfit(shape)) is not None:
            return reason
    return None


def _use(part: Part, module: Module, deltas: dict[str, list[Delta]], report: LoadReport) -> None:
    for parameter, delta in part.deltas:
        if parameter in module.shapes:
            deltas.setdefault(module.key(parameter), []).append(delta)
    for key in part.keys:
        report.used[key] = f"{module.network}.{module.path}"
    report.networks[module.network] += 1


def _report_unmatched(unmatched: list[Part], targets: Targets, report: LoadReport) -> None:
    wrong = len(unmatched) > sum(report.namings.values())  # another model's file: one example is enough
    for i, part in enumerate(unmatched):
        reason = (
            "its name means several modules" if targets.ambiguous(part.stem) else "no module has this name"
        )
        near = _nearest(part.stem, targets) if i < (1 if wrong else _NEAREST_FOR) else None
        report.unused += [Unused(key, reason, near) for key in part.keys]


def _nearest(stem: str, targets: Targets) -> str | None:
    """The name of a module that differs least, of about the same length."""
    near = [name for name in targets.names if abs(len(name) - len(stem)) <= 4 and name[:3] == stem[:3]]
    return next(iter(get_close_matches(stem, near, n=1, cutoff=0.85)), None)


def _refusal(report: LoadReport, misfits: list[str], unmatched: list[Part]) -> str | None:
    """Why this file is not for this model: weights of another size, or most of its modules unknown."""
    matched = sum(report.namings.values())
    if misfits:
        more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
        return f"{misfits[0]}{more}"
    if len(unmatched) > matched:
        first = next(item for item in report.unused if item.key in unmatched[0].keys)
        near = f", nearest {first.nearest}" if first.nearest else ""
        foreign = guess_foreign(report.file)
        made = f"this is an adapter for {foreign}: " if foreign else ""
        count = f"{len(unmatched)} of {matched + len(unmatched)} modules"
        return f"{made}{count} are unknown here, such as {unmatched[0].stem}{near}"
    return None


def _expected(report: LoadReport) -> str:
    made = f"; it was made for {report.base}" if report.base else ""
    return f"an adapter for {report.model}{made}"


def _todo(report: LoadReport, some: bool) -> str:
    return "give one made for this model" + (", or force it to apply what fits" if some else "")
