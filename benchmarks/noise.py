"""What noise costs a step, and how much of a picture the number of steps decides, ours beside torchsde's tree.

    python -m benchmarks.noise [--steps 20] [--repeat 3]

Times are of one thread's own work on the CPU, so other load does not show. The second table walks the SDE with n and
with 8 n steps on one seed: the RMS distance of the ends, relative to their RMS, median over 8 images.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch

from benchmarks.mixture import Mixture
from sigmagraft.samplers import NOISE_TYPES, SAMPLERS, ImageNoise, NoiseLevels, drive, schedule, step_noise
from sigmagraft.samplers.spec import Noise

SHAPES = ((4, 64, 64), (4, 128, 128))
WALKS = ("dpmpp_2m_sde", "dpmpp_sde", "euler_ancestral")
PATHS = ("brownian", "brownian@torchsde", "gaussian")


def source(
    name: str, seeds: list[int], shape: tuple[int, ...], sigmas: list[float], levels: NoiseLevels
) -> Noise:
    """The noise of a walk, after the start noise."""
    return step_noise(SAMPLERS["euler_ancestral"], ImageNoise(seeds, shape, skip=1), sigmas, levels, name)


def median_ms(make: Callable[[], Noise], sigmas: list[float], repeat: int) -> float:
    """Of one step, over the steps of `repeat` walks."""
    times = []
    for _ in range(repeat):
        noise = make()
        for pair in pairwise(sigmas[:-1]):
            began = time.thread_time()
            noise(*pair)
            times.append(time.thread_time() - began)
    return statistics.median(times) * 1000


def costs(steps: int, repeat: int) -> None:
    levels = NoiseLevels.discrete()
    sigmas = schedule("karras", steps, levels)
    print(f"milliseconds a step and image, {steps} steps")
    print(f"{'type':20}" + "".join(f"{'x'.join(map(str, shape)):>12}" for shape in SHAPES))
    for spec in NOISE_TYPES:
        row = [
            median_ms(
                lambda spec=spec, shape=shape: source(spec.name, [1], shape, sigmas, levels), sigmas, repeat
            )
            for shape in SHAPES
        ]
        print(f"{spec.name:20}" + "".join(f"{value:12.2f}" for value in row))


def moved(sampler: str, path: str, levels: NoiseLevels, steps: int) -> float:
    """Relative distance of the ends of `steps` and 8 * `steps` steps."""
    seeds, shape = list(range(8)), (4, 8, 8)
    denoise = Mixture(levels, seed=1)
    high, low = (0.95, 0.02) if levels.is_flow else (12.0, 0.05)
    ends = []
    for n in (steps, 8 * steps):
        sigmas = [high * (low / high) ** (i / n) for i in range(n + 1)]
        x = ImageNoise(seeds, shape, dtype=torch.float64).next() * high
        noise = step_noise(
            SAMPLERS[sampler], ImageNoise(seeds, shape, dtype=x.dtype, skip=1), sigmas, levels, path
        )
        ends.append(drive(sampler, denoise, x, sigmas, levels=levels, noise=noise))
    coarse, fine = ends
    away = (coarse - fine).square().flatten(1).mean(1) / fine.square().flatten(1).mean(1)
    return away.sqrt().median().item()


def coupling() -> None:
    for levels in (NoiseLevels.discrete(), NoiseLevels.flow(shift=3.0)):
        print(f"\nn against 8 n steps, {'rectified flow' if levels.is_flow else 'variance exploding'}")
        print(f"{'':28}" + "".join(f"{path:>20}" for path in PATHS))
        for sampler in WALKS:
            for steps in (10, 20):
                row = [moved(sampler, path, levels, steps) for path in PATHS]
                print(f"{sampler:20}{steps:4} steps" + "".join(f"{value:18.3f}  " for value in row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    costs(args.steps, args.repeat)
    coupling()


if __name__ == "__main__":
    main()
