"""Time a sampler takes beside the model: ours, k-diffusion's and diffusers' in turns, on a model that costs nothing.

    python -m benchmarks.overhead [--device cuda] [--steps 30] [--rounds 15] [--size 64]

Microseconds a model evaluation, median over rounds, and the ratio to ours. On a GPU the time until the host has
queued the last operation and the GPU has finished. k-diffusion and diffusers get the sigmas as tensors, as they ask.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor

from benchmarks.solver_peers import SD
from sigmagraft.samplers import NoiseLevels, drive, installed, schedule

LEVELS = NoiseLevels.discrete()
# ours -> (k-diffusion's function, diffusers' class and settings)
ROWS: dict[str, tuple[str | None, str | None, dict[str, Any]]] = {
    "euler": ("euler", "EulerDiscrete", {}),
    "heun": ("heun", "HeunDiscrete", {}),
    "dpm_2": ("dpm_2", "KDPM2Discrete", {}),
    "lms": ("lms", "LMSDiscrete", {}),
    "dpmpp_2m": ("dpmpp_2m", "DPMSolverMultistep", {"solver_order": 2}),
    "euler_ancestral": ("euler_ancestral", "EulerAncestralDiscrete", {}),
    "ddim": (None, "DDIM", {"clip_sample": False}),
    "uni_pc": (None, "UniPCMultistep", {"solver_order": 3}),
    "deis": (None, "DEISMultistep", {"solver_order": 3}),
    "adams_pc": (None, None, {}),
}


def ours(name: str, x: Tensor, fixed: Tensor, steps: int) -> Callable[[], object]:
    """A walk of one of ours."""
    sigmas = schedule("karras", steps, LEVELS)
    return lambda: drive(
        name, lambda x, sigma: fixed, x, sigmas, levels=LEVELS, noise=lambda a, b: torch.randn_like(x)
    )


def k_diffusion(name: str, x: Tensor, fixed: Tensor, steps: int) -> Callable[[], object]:
    """A walk of k-diffusion's."""
    sigmas = torch.tensor(schedule("karras", steps, LEVELS), device=x.device)
    function = installed.function(name)
    return lambda: function(lambda x, sigma, **extra: fixed, x, sigmas, disable=True)


def theirs(name: str, settings: dict[str, Any], x: Tensor, fixed: Tensor, steps: int) -> Callable[[], object]:
    """A walk of diffusers'."""
    scheduler = getattr(diffusers, f"{name}Scheduler")(**SD, **settings)

    def walk() -> None:
        scheduler.set_timesteps(steps, device=x.device)
        sample = x
        for t in scheduler.timesteps:
            sample = scheduler.step(fixed, t, scheduler.scale_model_input(sample, t)).prev_sample

    return walk


def timed(walk: Callable[[], object], device: torch.device) -> float:
    """Seconds of one walk."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    walk()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Prints a line for each sampler."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=64, help="side of the latent")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("diffusers").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    device = torch.device(args.device)
    x = torch.randn(1, 4, args.size, args.size, device=device)
    fixed = torch.zeros_like(x)
    print(
        f"{'sampler':16} {'ours':>8} {'k-diffusion':>12} {'diffusers':>10}  microseconds a step; ratio to ours"
    )
    for name, (k_name, class_name, settings) in ROWS.items():
        walks = {"ours": ours(name, x, fixed, args.steps)}
        if k_name:
            walks["k-diffusion"] = k_diffusion(k_name, x, fixed, args.steps)
        if class_name:
            walks["diffusers"] = theirs(class_name, settings, x, fixed, args.steps)
        rounds: dict[str, list[float]] = {label: [] for label in walks}
        for _ in range(args.rounds):
            for label, walk in walks.items():
                rounds[label].append(timed(walk, device))
        mean = {label: statistics.median(times) / args.steps * 1e6 for label, times in rounds.items()}
        print(f"{name:16} {mean['ours']:8.0f} {_cell(mean, 'k-diffusion')} {_cell(mean, 'diffusers')}")


def _cell(mean: dict[str, float], label: str) -> str:
    return f"{mean[label]:8.0f} {mean[label] / mean['ours']:5.1f}x" if label in mean else f"{'-':>15}"


if __name__ == "__main__":
    main()
