"""A denoiser that does not answer twice: many samplers begin alike, and some are one under several names."""

from __future__ import annotations

from collections import defaultdict

from torch import Tensor

from benchmarks.solver_peers import Denoise

NEAR = 1e-5  # of the largest number of x: what rounding makes of the same x


class Remembered:
    """Answers of a denoiser, kept by x and sigma."""

    def __init__(self, denoise: Denoise) -> None:
        self.denoise = denoise
        self.known: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self.asked = self.evaluated = 0

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.asked += 1
        known = self.known[f"{sigma:.5g}"]
        for at, answer in known:
            if (x - at).abs().max() <= NEAR * at.abs().max():
                return answer.to(x)
        self.evaluated += 1
        known.append((x.clone(), self.denoise(x, sigma)))
        return known[-1][1]
