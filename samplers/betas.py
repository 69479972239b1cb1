"""Training noise schedules of discrete models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from ..core.errors import OptionError


def linspace(first: float, last: float, count: int) -> list[float]:
    """`count` evenly spaced numbers, ends included (one number: the first)."""
    if count == 1:
        return [first]
    return [first + (last - first) * i / (count - 1) for i in range(count - 1)] + [last]


def _laplace(u: float) -> float:
    half = -math.copysign(0.25, 0.5 - u) * math.log(1 - 2 * abs(0.5 - u) + 1e-6)
    return 1 / math.sqrt(1 + math.exp(-2 * half))


# alphas_cumprod at the fraction u of training
KEPT: dict[str, Callable[[float], float]] = {
    "cosine": lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2,
    "exp": lambda u: math.exp(-12.0 * u),
    "laplace": _laplace,
}
KEPT["squaredcos_cap_v2"] = KEPT["cosine"]
BETA_SCHEDULES = ("linear", "scaled_linear", "sigmoid", *KEPT)


def make_betas(schedule: str, start: float, end: float, steps: int) -> list[float]:
    """`linear` (arXiv:2006.11239), `scaled_linear` (arXiv:2112.10752), `cosine` (arXiv:2102.09672), or one of
    diffusers' `sigmoid`, `exp` and `laplace`.
    """
    if schedule == "linear":
        return linspace(start, end, steps)
    if schedule == "scaled_linear":
        return [root**2 for root in linspace(math.sqrt(start), math.sqrt(end), steps)]
    if schedule == "sigmoid":
        return [start + (end - start) / (1 + math.exp(-u)) for u in linspace(-6.0, 6.0, steps)]
    if schedule in KEPT:
        kept = [KEPT[schedule](i / steps) for i in range(steps + 1)]
        return [min(1 - kept[i + 1] / kept[i], 0.999) for i in range(steps)]
    raise OptionError(f"unknown beta schedule {schedule!r}", expected=" or ".join(BETA_SCHEDULES))


def cumulate(betas: Iterable[float]) -> list[float]:
    """alphas_cumprod: the running product of 1 - beta."""
    return list(accumulate((1 - float(beta) for beta in betas), lambda product, keep: product * keep))


def zero_terminal_snr(alphas_cumprod: Sequence[float]) -> list[float]:
    """arXiv:2305.08891 algorithm 1: sqrt(alphas_cumprod) moved so that the last is 0 and the first stays."""
    roots = [math.sqrt(value) for value in alphas_cumprod]
    first, last = roots[0], roots[-1]
    return [((root - last) * first / (first - last)) ** 2 for root in roots]
