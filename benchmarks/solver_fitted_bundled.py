"""Calibrations of the bundled model on prompts that they have not seen, beside the best general samplers."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.solver_bundled import GUIDANCE
from benchmarks.solver_peers import Peer, peers
from benchmarks.solvers import Case, affordable, all_ours
from sigmagraft import Pipeline
from sigmagraft.benchmarks.scene_prompts import pairs, singles
from sigmagraft.samplers import drive, schedule
from sigmagraft.samplers.calibrate_fit import typical
from sigmagraft.samplers.calibration import CalibratedSpec, calibrated
from sigmagraft.samplers.calibration_file import load_calibration
from sigmagraft.samplers.general import General, serving
from sigmagraft.standalone import latents
from sigmagraft.standalone.calibrate_walks import Batch, Count
from sigmagraft.standalone.compare import psnr

BATCH = 10
FINE = 100
SEED = 770_000
Walk = Callable[[Case], Tensor]


def cases(pipe: Pipeline, count: int) -> list[Case]:
    """Batches of one-object and two-object prompts with the ends of fine walks."""
    half = count // 2
    words = [prompt.text for prompt in (*singles(count - half, 77), *pairs(half, 77))]
    found = []
    for first in range(0, count, BATCH):
        said = words[first : first + BATCH]
        batch = Batch.of(pipe, said, SEED + first, Count(), cfg=GUIDANCE, size=(128, 128))
        sigmas = schedule("exponential", FINE, pipe.levels)
        end = drive("dpmpp_2m", batch.denoise, batch.start(sigmas[0]), sigmas, levels=pipe.levels)
        found.append(Case(batch.denoise, batch.noise, end.double()))
    return found


def way_walk(pipe: Pipeline, way: General, steps: int) -> Walk:
    """A walk by one of ours."""
    sigmas = way.sigmas(steps, pipe.levels)

    def walk(case: Case) -> Tensor:
        x = case.noise * (1 + sigmas[0] ** 2) ** 0.5
        return drive(way.sampler, case.denoise, x, sigmas, levels=pipe.levels, options=way.options)

    return walk


def fit_walk(pipe: Pipeline, spec: CalibratedSpec) -> Walk:
    """A walk by a calibration."""

    def walk(case: Case) -> Tensor:
        x = case.noise * (1 + spec.sigmas[0] ** 2) ** 0.5
        return drive(spec, case.denoise, x, spec.sigmas, levels=pipe.levels)

    return walk


def candidates(pipe: Pipeline, steps: int, ours_only: bool) -> dict[str, Walk]:
    """Every general way for so many evaluations."""
    found = {way.label: way_walk(pipe, way, steps) for way in serving(pipe.levels)}
    if ours_only:
        return found
    for peer in (*peers(pipe.levels), *all_ours(pipe.levels)):
        if count := affordable(peer, [steps]).get(steps):
            found[peer.label] = _peer_walk(peer, count)
    return found


def _peer_walk(peer: Peer, steps: int) -> Walk:
    return lambda case: peer.walk(case.denoise, case.noise, steps)


def finalists(ways: dict[str, Walk], case: Case, count: int) -> dict[str, Walk]:
    """Those with the smallest typical error on one case."""
    scored = {
        label: typical([e if e == e else 1e3 for e in case.errors(walk(case))])
        for label, walk in ways.items()
    }
    return {label: ways[label] for label in sorted(scored, key=lambda label: scored[label])[:count]}


def decibels(
    pipe: Pipeline, walk: Walk, given: list[Case], pictures: list[list]
) -> tuple[list[float], list[float]]:
    """(errors, PSNR to the reference's picture) of every prompt."""
    errors, shown = [], []
    for case, fine in zip(given, pictures, strict=True):
        end = walk(case)
        errors += case.errors(end)
        drawn = latents.decode(pipe.model, end.float())
        shown += [min(psnr(image, other), 60.0) for image, other in zip(drawn, fine, strict=True)]
    return errors, shown


@torch.inference_mode()
def of_bundled(args: argparse.Namespace) -> None:
    """Prints for each calibration its errors and PSNR beside those of the best general way in hindsight."""
    pipe = Pipeline.load(args.model)
    given = cases(pipe, args.prompts)
    screened = cases(pipe, args.screen)[0]
    pictures = [latents.decode(pipe.model, case.end.float()) for case in given]
    for path in args.bundled:
        spec = calibrated(load_calibration(path), path)
        steps = len(spec.sigmas) - 1
        ways = candidates(pipe, steps, args.ours_only)
        last = finalists(ways, screened, args.finalists)
        rows = {label: decibels(pipe, walk, given, pictures) for label, walk in last.items()}
        best = max(rows, key=lambda label: statistics.fmean(rows[label][1]))
        mine = decibels(pipe, fit_walk(pipe, spec), given, pictures)
        gains = [a - b for a, b in zip(mine[1], rows[best][1], strict=True)]
        print(f"\n{steps} evaluations, {len(gains)} prompts, {len(ways)} general ways, {path}")
        for label, (errors, shown) in [*rows.items(), ("fitted", mine)]:
            print(
                f"  error {typical(errors):.4f} (median {statistics.median(errors):.4f})"
                f"  PSNR {statistics.fmean(shown):.2f} dB  {label}"
            )
        worse = sum(gain < -1.0 for gain in gains)
        print(
            f"  beside {best}: {statistics.fmean(gains):+.2f} dB on average, median {statistics.median(gains):+.2f}, "
            f"{worse} of {len(gains)} prompts worse by more than 1 dB",
            flush=True,
        )
