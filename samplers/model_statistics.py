"""What a model is like on its way down: the coefficients that DPM-Solver-v3 goes by (arXiv:2310.13268).

With z = x / alpha the ODE is dz / dlambda = D - z. For any l(lambda) it is dz / dlambda = F - l z with
F = D - (1 - l) z. The best l leaves F as little of z as can be: 1 - l is the mean of the diagonal of dD / dz. Then
F' is about s F + b along the way; s and b are its regression on F. l = 1, s = b = 0 is DPM-Solver++, which goes by
D; l = 0, s = -1, b = 0 is DPM-Solver, which goes by the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError

NAMES = ("l", "s", "b")
SMALL = 1e-15  # of l and 1 - l: where a polynomial through logit(l) takes 0 and 1 to be


def chebyshev(degree: int, places: Tensor) -> Tensor:
    """T_0 ... T_degree at places in [-1, 1], [m, degree + 1]."""
    return torch.cos(torch.acos(places.clamp(-1, 1)).unsqueeze(-1) * torch.arange(degree + 1))


def chebyshev_points(count: int, low: float, high: float) -> list[float]:
    """`count` rising places from low to high, dense at both; the middle for one."""
    if count == 1:
        return [(low + high) / 2]
    angles = [math.pi * k / (count - 1) for k in range(count)]
    return [low + (high - low) * (1 - math.cos(angle)) / 2 for angle in angles]


def chebyshev_slopes(degree: int, places: Tensor) -> Tensor:
    """Derivatives of T_0 ... T_degree, T_k' = k U_k-1, [m, degree + 1]."""
    second = [torch.zeros_like(places), torch.ones_like(places)]  # U_-1, U_0
    for _ in range(1, degree):
        second.append(2 * places * second[-1] - second[-2])
    return torch.stack([k * second[k] for k in range(degree + 1)], dim=-1)


def polynomial(lambdas: Sequence[float], values: Tensor, degree: int) -> Callable[..., Tensor]:
    """The polynomial that is nearest to values [n, ...] at `lambdas`: (lambdas, derived=False) -> [m, ...]."""
    low, high = lambdas[0], lambdas[-1]
    scale = 2 / (high - low) if high > low else 0.0

    def places(wanted: Sequence[float] | Tensor) -> Tensor:
        return (torch.as_tensor(wanted, dtype=torch.float64) - (low + high) / 2) * scale

    inverse = torch.linalg.pinv(chebyshev(degree, places(lambdas)))
    series = torch.einsum("kn,n...->k...", inverse, values.double())

    def at(wanted: Sequence[float] | Tensor, derived: bool = False) -> Tensor:
        basis = (
            chebyshev_slopes(degree, places(wanted)) * scale if derived else chebyshev(degree, places(wanted))
        )
        return torch.einsum("mk,k...->m...", basis, series)

    return at


@dataclass(frozen=True)
class ModelStatistics:
    """Tables of l, s and b over lambda; polynomials through them, constant beyond both ends.

    Attributes:
        lambdas: half-log-SNR of the rows, rising.
        l, s, b: float64 [n, c, 1, 1] for each channel, or [n, c, h, w] for each place of a latent.
        facts: what they were measured on, in JSON's types (`model`, `prediction`, `guidance`, ...).
    """

    lambdas: tuple[float, ...]
    l: Tensor  # noqa: E741  (the paper's name)
    s: Tensor
    b: Tensor
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.lambdas, self.lambdas[1:], strict=False))
        if not self.lambdas or not rising or not all(map(math.isfinite, self.lambdas)):
            raise OptionError("lambdas of statistics", expected="one or more finite numbers, rising")
        shape = (len(self.lambdas), *self.l.shape[1:])
        for name in NAMES:
            table = getattr(self, name)
            if table.shape != shape or not table.isfinite().all():
                raise OptionError(
                    f"statistics {name} of shape {tuple(table.shape)}", expected=f"finite, {shape}"
                )

    @classmethod
    def constant(cls, l: float = 1.0, s: float = 0.0, b: float = 0.0) -> ModelStatistics:  # noqa: E741
        """The same at every lambda and place; as it stands, DPM-Solver++'s."""
        tables = [torch.tensor([value], dtype=torch.float64) for value in (l, s, b)]
        return cls((0.0,), tables[0], tables[1], tables[2])

    @cached_property
    def _tables(self) -> tuple[Callable[..., Tensor], ...]:
        """logit(l), s and b as polynomials: l lies between 0 and 1 and tends to them exponentially."""
        degree = len(self.lambdas) - 1
        logit = torch.logit(self.l.double(), SMALL)
        return tuple(polynomial(self.lambdas, table, degree) for table in (logit, self.s, self.b))

    def at(self, lambdas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """l, s and b at float64 lambdas [m], each [m, ...].

        Beyond the rows s and b stay; l tends to 1 or 0 as exp(2 lambda) does, as it is for data of any variance.
        """
        inside = lambdas.clamp(self.lambdas[0], self.lambdas[-1]) if len(self.lambdas) > 1 else lambdas
        logit, s, b = (table(inside) for table in self._tables)
        beyond = 2 * (inside - lambdas)
        return torch.sigmoid(logit + beyond.reshape(-1, *[1] * (logit.ndim - 1))), s, b

    def check(self, shape: torch.Size) -> None:
        """Raises OptionError for latents of another shape [..., c, h, w] than the tables fit."""
        own = self.l.shape[1:]
        fits = len(own) <= len(shape) and all(
            one in (1, other) for one, other in zip(own[::-1], tuple(shape)[::-1], strict=False)
        )
        if not fits and 0 not in shape:
            raise OptionError(
                f"these statistics are for latents {tuple(own)}, not {tuple(shape[1:])}",
                todo="estimate them for each channel instead of each place, or at this size",
            )
