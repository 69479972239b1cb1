"""Calibrations of the bundled model on prompts and seeds that they have not seen, beside the best general samplers.

All ways walk from the first two prompts, the better ones from eight, the finalists from all.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.remembered import Remembered
from benchmarks.solver_bundled import GUIDANCE
from benchmarks.solver_peers import Peer, peers
from benchmarks.solvers import Case, affordable, all_ours
from sigmagraft import Pipeline
from sigmagraft.benchmarks.scene_prompts import pairs, singles
from sigmagraft.samplers import drive, schedule
from sigmagraft.samplers.auto import choose
from sigmagraft.samplers.calibrate_fit import typical
from sigmagraft.samplers.calibration import calibrated
from sigmagraft.samplers.calibration_file import load_calibration
from sigmagraft.samplers.general import General, serving
from sigmagraft.samplers.spec import SamplerSpec
from sigmagraft.standalone import latents
from sigmagraft.standalone.calibrate_walks import Batch, Count
from sigmagraft.standalone.compare import psnr

BATCH = 2
SECOND = 4  # batches that choose the finalists
KEPT = 24  # ways that get so far
SEED = 770_000
FAR = 2.5  # times the smallest error of the budgets before: a way beyond is not tried at the next
Walk = Callable[[Case], Tensor]


class Shown(NamedTuple):
    """Of every image of a case: the relative RMS error of its latent, and the PSNR of its picture where drawn."""

    errors: list[float]
    psnr: list[float]


class Given(NamedTuple):
    """The model, the cases, and the pictures of their ends."""

    pipe: Pipeline
    cases: list[Case]
    pictures: list[list]


def cases(pipe: Pipeline, count: int, fine: int, kept: Path) -> list[Case]:
    """Batches of a one-object and a two-object prompt with the ends of fine walks, which are kept in a file."""
    half = count // 2
    one, two = singles(count - half, 77), pairs(half, 77)
    words = [(one, two)[k % 2][k // 2].text for k in range(count)]
    known: list[Tensor] = torch.load(kept) if kept.exists() else []
    sigmas = schedule("exponential", fine, pipe.levels)
    found = []
    for number, first in enumerate(range(0, count, BATCH)):
        said = words[first : first + BATCH]
        batch = Batch.of(pipe, said, SEED + first, Count(), cfg=GUIDANCE, size=(128, 128))
        if number == len(known):
            x = batch.start(sigmas[0])
            known.append(drive("dpmpp_2m", batch.denoise, x, sigmas, levels=pipe.levels))
            torch.save(known, kept)
        found.append(Case(Remembered(batch.denoise), batch.noise, known[number].double()))
    return found


def walk_of(pipe: Pipeline, sampler: str | SamplerSpec, sigmas: list[float], options: dict) -> Walk:
    """A walk by one of ours."""

    def walk(case: Case) -> Tensor:
        x = case.noise * (1 + sigmas[0] ** 2) ** 0.5
        return drive(sampler, case.denoise, x, sigmas, levels=pipe.levels, options=options)

    return walk


def way_walk(pipe: Pipeline, way: General, steps: int) -> Walk:
    """A walk by a general way."""
    return walk_of(pipe, way.sampler, way.sigmas(steps, pipe.levels), dict(way.options))


def candidates(pipe: Pipeline, budgets: list[int], ours_only: bool) -> dict[str, dict[int, Walk]]:
    """Every general way, by the evaluations it may take."""
    found = {way.label: {n: way_walk(pipe, way, n) for n in budgets} for way in serving(pipe.levels)}
    for peer in () if ours_only else (*peers(pipe.levels), *all_ours(pipe.levels)):
        found[peer.label] = {n: _peer_walk(peer, steps) for n, steps in affordable(peer, budgets).items()}
    return found


def _peer_walk(peer: Peer, steps: int) -> Walk:
    return lambda case: peer.walk(case.denoise, case.noise, steps)


class Scores:
    """What each way reached on each batch, kept in a file if there is one."""

    def __init__(self, given: Given, path: Path | None) -> None:
        self.given, self.path = given, path
        self.known: dict[str, list[list]] = json.loads(path.read_text()) if path and path.exists() else {}

    def of(self, label: str, budget: int, walk: Walk, batches: int, drawn: bool = False) -> Shown:
        """On the first so many batches, walked where that is not known."""
        row = self.known.setdefault(f"{budget} {label}", [])
        for number in range(batches):
            if number == len(row):
                row.append(None)  # type: ignore[arg-type]
            if row[number] is None or (drawn and not row[number][1]):
                row[number] = self._shown(self.given.cases[number], walk, number, drawn)
        return Shown(*(list(chain.from_iterable(part)) for part in zip(*row[:batches], strict=True)))

    def _shown(self, case: Case, walk: Walk, number: int, drawn: bool) -> Shown:
        end = walk(case)
        errors = [e if e == e else 1e3 for e in case.errors(end)]
        if not drawn:
            return Shown(errors, [])
        pictures = latents.decode(self.given.pipe.model, end.float())
        fine = self.given.pictures[number]
        return Shown(errors, [min(psnr(a, b), 60.0) for a, b in zip(pictures, fine, strict=True)])

    def save(self) -> None:
        """Write them where there is a file."""
        if self.path is not None:
            self.path.write_text(json.dumps(self.known))


def screened(
    scores: Scores, ways: dict[str, dict[int, Walk]], budgets: list[int], finalists: int
) -> dict[int, list[str]]:
    """For each budget those that err least on SECOND batches, of the KEPT that err least on the first."""
    found, left = {}, set(ways)
    for budget in budgets:
        first = {
            w: typical(scores.of(w, budget, ways[w][budget], 1).errors)
            for w in ways
            if w in left and budget in ways[w]
        }
        scores.save()
        limit = FAR * min(first.values())
        left -= {w for w, error in first.items() if error > limit}
        kept = sorted(first, key=lambda w: first[w])[:KEPT]
        second = {w: typical(scores.of(w, budget, ways[w][budget], SECOND).errors) for w in kept}
        scores.save()
        found[budget] = sorted(second, key=lambda w: second[w])[:finalists]
        print(budget, len(first), "tried,", [(w, round(second[w], 4)) for w in found[budget]], flush=True)
    return found


def line(label: str, shown: Shown) -> str:
    """One way's errors and PSNR in words."""
    return (
        f"  error {typical(shown.errors):.4f} (median {statistics.median(shown.errors):.4f})"
        f"  PSNR {statistics.fmean(shown.psnr):.2f} dB  {label}"
    )


def beside(label: str, mine: Shown, other: Shown) -> str:
    """What the first gains over the second, prompt by prompt."""
    gains = [a - b for a, b in zip(mine.psnr, other.psnr, strict=True)]
    worse = sum(gain < -1.0 for gain in gains)
    return (
        f"  beside {label}: {statistics.fmean(gains):+.2f} dB on average, median {statistics.median(gains):+.2f}, "
        f"{worse} of {len(gains)} prompts worse by more than 1 dB"
    )


@torch.inference_mode()
def of_bundled(args: argparse.Namespace) -> None:
    """Prints for each calibration its errors and PSNR beside those of the best general ways in hindsight and `auto`."""
    pipe = Pipeline.load(args.model)
    args.cache.mkdir(parents=True, exist_ok=True)
    given = cases(pipe, args.prompts, args.fine, args.cache / f"ends-{args.fine}.pt")
    pictures = [latents.decode(pipe.model, case.end.float()) for case in given]
    scores = Scores(Given(pipe, given, pictures), args.cache / "scores.json")
    ways = candidates(pipe, args.steps, args.ours_only)
    last = screened(scores, ways, args.steps, args.finalists)
    specs = {
        len(spec.sigmas) - 1: spec for spec in (calibrated(load_calibration(p), p) for p in args.bundled)
    }
    for budget in args.steps:
        print(f"\n{budget} evaluations, {args.prompts} prompts, {len(ways)} general ways")
        rows = {w: scores.of(w, budget, ways[w][budget], len(given), drawn=True) for w in last[budget]}
        auto = choose(budget, False, GUIDANCE).way
        rows[auto.label] = scores.of(auto.label, budget, way_walk(pipe, auto, budget), len(given), drawn=True)
        scores.save()
        best = max(rows, key=lambda w: statistics.fmean(rows[w].psnr))
        for label, shown in rows.items():
            print(line(label + (" (auto)" if label == auto.label else ""), shown))
        if spec := specs.get(budget):
            walk = walk_of(pipe, spec, list(spec.sigmas), {})
            mine = Scores(scores.given, None).of("fitted", budget, walk, len(given), drawn=True)
            print(line(f"fitted, {spec.name}", mine), beside(best, mine, rows[best]), sep="\n", flush=True)
