"""Schedules at quantiles of the beta distribution (arXiv:2407.12173): in the table of sigmas, or in sigma."""

from __future__ import annotations

from .beta_quantile import beta_quantile
from .betas import linspace
from .levels import NoiseLevels
from .schedule_time import entries
from .schedules import schedule_rule
from .spec import Option

PAPER = "arXiv:2407.12173"


def _shape(alpha: float, beta: float) -> tuple[Option, Option]:
    return (
        Option("alpha", alpha, 0.05, 50.0, "below 1 puts more steps at small sigmas"),
        Option("beta", beta, 0.05, 50.0, "below 1 puts more steps at large sigmas"),
    )


def _places(n: int, levels: NoiseLevels, alpha: float, beta: float) -> list[int]:
    top = len(levels.sigmas) - 1
    return [round(beta_quantile(1 - i / n, alpha, beta) * top) for i in range(n)]


@schedule_rule("beta57", label="Beta 57", paper=PAPER, options=_shape(0.5, 0.7))
@schedule_rule("beta", label="Beta", paper=PAPER, options=_shape(0.6, 0.6))
def beta(n: int, levels: NoiseLevels, alpha: float, beta: float) -> list[float]:
    """Table entries at quantiles 1 - i / n, as in the paper and ComfyUI; where they would repeat, their neighbours.

    A1111's and diffusers' is another schedule, in sigma (`beta@a1111`). beta57 is RES4LYF's alpha and beta.
    """
    return entries(_places(n, levels, alpha, beta), levels)


@schedule_rule(
    "beta57@res4lyf",
    label="Beta 57 (RES4LYF)",
    paper=PAPER,
    options=_shape(0.5, 0.7),
    hosts=("res4lyf", "comfyui"),
    exact_steps=False,
)
@schedule_rule(
    "beta@comfyui",
    label="Beta (ComfyUI)",
    paper=PAPER,
    options=_shape(0.6, 0.6),
    hosts=("comfyui", "reforge", "sd.cpp"),
    exact_steps=False,
)
def beta_comfyui(n: int, levels: NoiseLevels, alpha: float, beta: float) -> list[float]:
    """`beta` with repeated entries left out: above about 100 steps fewer than asked for."""
    return [levels.sigmas[place] for place in dict.fromkeys(_places(n, levels, alpha, beta))]


@schedule_rule(
    "beta@a1111",
    label="Beta (A1111)",
    paper=PAPER,
    options=_shape(0.6, 0.6),
    hosts=("a1111", "forge", "diffusers"),
)
def beta_a1111(n: int, levels: NoiseLevels, alpha: float, beta: float) -> list[float]:
    """sigma_min + q (sigma_max - sigma_min), q the quantiles of 1 to 0: far fewer steps at small sigmas."""
    low, span = levels.sigma_min, levels.sigma_max - levels.sigma_min
    return [low + span * beta_quantile(u, alpha, beta) for u in linspace(1.0, 0.0, n)]
