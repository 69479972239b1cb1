"""Exponential Runge-Kutta methods, one row each; tests/samplers/test_exponential.py proves the orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import exponential_formulas as formulas
from .phi_sums import ExponentialTableau, lawson
from .spec import Option


@dataclass(frozen=True)
class ExponentialRow:
    """A method: `build` takes the values of `options` and gives the tableau."""

    name: str
    label: str
    order: int
    build: Callable[..., ExponentialTableau]
    paper: str
    aliases: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()

    @property
    def stages(self) -> int:
        return len(self.build(*(option.default for option in self.options)).rows)


C2 = Option("c2", 0.5, 0.01, 1.0, "where in lambda the second evaluation lies")
C3 = Option("c3", 1.0, 0.01, 1.0, "where in lambda the third evaluation lies")
SOLVER_TYPE = Option(
    "solver_type", "phi_2", help="weight of the second evaluation", choices=("phi_1", "phi_2")
)
RES, ETD, COX = "arXiv:2308.02157", "arXiv:2402.15142", "Cox and Matthews 2002"
HOCHBRUCK, LUAN, LAWSON = "Hochbruck and Ostermann 2005", "Luan 2021", "Lawson 1967"
MINCHEV = "Minchev and Wright 2005"

EXPONENTIAL = (
    ExponentialRow("res_2s", "RES 2s", 2, formulas.res_2s, RES, (), (C2,)),
    ExponentialRow("res_3s", "RES 3s", 3, formulas.res_3s, RES, (), (C2, C3)),
    ExponentialRow(
        "exp_heun_2_x0",
        "Exponential Heun",
        2,
        formulas.heun,
        COX,
        ("etdrk2_2s", "res_2s_stable", "res_2s_rkmk2e"),
        (SOLVER_TYPE,),
    ),
    ExponentialRow("etdrk3_3s", "ETD-RK3", 3, formulas.etdrk3, COX, ("res_3s_cox_matthews",)),
    ExponentialRow("etdrk3_a_3s", "ETD-RK3 a", 3, formulas.etdrk3_a, ETD),
    ExponentialRow("etdrk3_b_3s", "ETD-RK3 b", 3, partial(formulas.res_3s, 4 / 9, 2 / 3), ETD),
    ExponentialRow("res_3s_lie", "ETD2-CF3", 3, formulas.etd2cf3, HOCHBRUCK, ("etd2cf3",)),
    ExponentialRow("etdrk4_4s", "ETD-RK4", 4, formulas.etdrk4, COX, ("res_4s_cox_matthews",)),
    ExponentialRow("res_4s_krogstad", "Krogstad 4", 4, formulas.krogstad, "Krogstad 2005"),
    ExponentialRow(
        "res_4s_strehmel_weiner", "Strehmel-Weiner 4", 4, formulas.strehmel_weiner, "Strehmel and Weiner 1987"
    ),
    ExponentialRow("res_4s_friedli", "Friedli 4", 4, formulas.friedli, "Friedli 1978"),
    ExponentialRow("res_4s_minchev", "Minchev 4", 4, formulas.minchev, MINCHEV),
    ExponentialRow(
        "res_5s", "RES 5s", 4, formulas.hochbruck_ostermann, HOCHBRUCK, ("res_5s_hochbruck_ostermann",)
    ),
    ExponentialRow("res_6s", "RES 6s", 4, formulas.luan_4, LUAN, ("exprk4s6",)),
    ExponentialRow("res_8s", "RES 8s", 5, formulas.luan_ostermann, "Luan and Ostermann 2014", ("exprk5s8",)),
    ExponentialRow("res_10s", "RES 10s", 5, formulas.luan_5, LUAN, ("exprk5s10",)),
    ExponentialRow("lawson2a_2s", "Lawson 2a", 2, partial(lawson, "1/2 | 0 1"), LAWSON),
    ExponentialRow("lawson2b_2s", "Lawson 2b", 2, partial(lawson, "1 | 1/2 1/2"), LAWSON),
    ExponentialRow(
        "lawson4_4s", "Lawson 4", 4, partial(lawson, "1/2 | 0 1/2 | 0 0 1 | 1/6 1/3 1/3 1/6"), LAWSON
    ),
    ExponentialRow(
        "lawson41_gen_4s",
        "Generalised Lawson 4",
        4,
        partial(formulas.generalised_lawson, False),
        "Krogstad 2005",
    ),
    ExponentialRow(
        "lawson41_gen_mod_4s",
        "Modified generalised Lawson 4",
        4,
        partial(formulas.generalised_lawson, True),
        MINCHEV,
    ),
)
