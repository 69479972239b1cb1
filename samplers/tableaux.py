"""Explicit Runge-Kutta methods, one row of numbers each; tests/samplers/test_tableaux.py proves every order."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property


@dataclass(frozen=True)
class Tableau:
    """x_i = x + h sum_j a_ij k_j, k_i the slope at c_i = sum_j a_ij, x_next = x + h sum_j b_j k_j.

    Attributes:
        weights: a_21 | a_31 a_32 | ... | b_1 ... b_s, as fractions or decimals.
        approximate: whether the weights are roundings of irrational or longer ones.
    """

    name: str
    label: str
    order: int
    weights: str
    aliases: tuple[str, ...] = ()
    paper: str = ""
    approximate: bool = False

    @cached_property
    def rows(self) -> tuple[tuple[Fraction, ...], ...]:
        """The weights: of stage 2 to s, then of x_next. Raises ValueError where a row has too many or too few."""
        rows = tuple(tuple(map(Fraction, row.split())) for row in self.weights.split("|"))
        lengths = [len(row) for row in rows]
        if lengths != [*range(1, len(rows)), len(rows)]:
            raise ValueError(f"{self.name}: rows of {lengths} weights")
        return rows

    @cached_property
    def stages(self) -> tuple[tuple[float, tuple[float, ...]], ...]:
        """(c, weights) of stage 2 to s and of x_next, whose c is 1, in floats."""
        return tuple((float(sum(row)), tuple(map(float, row))) for row in self.rows)


# A first-same-as-last method has one stage more in its paper, which serves the error estimate alone: its weight in
# x_next is 0 and it is evaluated again as the next step's first. It is left out, so nothing is evaluated twice.
TABLEAUX = (
    Tableau("midpoint_2s", "Midpoint 2s", 2, "1/2 | 0 1", ("modified_euler",), "Runge 1895"),
    Tableau("ralston_2s", "Ralston 2", 2, "2/3 | 1/4 3/4", (), "Ralston 1962"),
    Tableau(
        "ralston_3s",
        "Ralston 3",
        3,
        "1/2 | 0 3/4 | 2/9 1/3 4/9",
        ("bogacki_shampine_4s", "bogacki_shampine_3", "bosh3"),
        "Ralston 1962; Bogacki and Shampine 1989",
    ),
    Tableau("heun_3s", "Heun 3", 3, "1/3 | 0 2/3 | 1/4 0 3/4", (), "Heun 1900"),
    Tableau("kutta_3s", "Kutta 3", 3, "1/2 | -1 2 | 1/6 2/3 1/6", (), "Kutta 1901"),
    Tableau("houwen_wray_3s", "Houwen-Wray 3", 3, "8/15 | 1/4 5/12 | 1/4 0 3/4", (), "van der Houwen 1972"),
    Tableau("ssprk3_3s", "SSPRK(3,3)", 3, "1 | 1/4 1/4 | 1/6 1/6 2/3", (), "Shu and Osher 1988"),
    Tableau(
        "ssprk4_4s",
        "SSPRK(4,3)",
        3,
        "1/2 | 1/2 1/2 | 1/6 1/6 1/6 | 1/6 1/6 1/6 1/2",
        ("ssprk43",),
        "Kraaijevanger 1991",
    ),
    Tableau("rk4_4s", "RK4", 4, "1/2 | 0 1/2 | 0 0 1 | 1/6 1/3 1/3 1/6", (), "Kutta 1901"),
    Tableau(
        "rk38_4s", "RK4 (3/8 rule)", 4, "1/3 | -1/3 1 | 1 -1 1 | 1/8 3/8 3/8 1/8", ("rk38",), "Kutta 1901"
    ),
    Tableau(
        "ralston_4s",  # surds of 5, rounded
        "Ralston 4",
        4,
        """2/5 | 0.29697760924775360007 0.15875964497103583185
        | 0.21810038822592046760 -3.05096514869293080535 3.83286476046701033776
        | 0.17476028226269037125 -0.55148066287873294054 1.20553559939652353503 0.17118478121951903426""",
        (),
        "Ralston 1962",
        approximate=True,
    ),
    Tableau(
        "ssprk4_5s",
        "SSPRK(5,4)",
        4,
        """0.391752226571890 | 0.21766909626116877 0.368410593050371
        | 0.08269208665781060 0.13995850219189536 0.25189177427169400
        | 0.06796628363711476 0.11503469850463157 0.20703489859738563 0.54497475022852100
        | 0.14681187608478659 0.24848290944497619 0.10425883033198097 0.27443890090135068 0.226007483236906""",
        ("ssprk54",),
        "Spiteri and Ruuth 2002",
        approximate=True,
    ),
    Tableau(
        "rk5_6s",
        "RK5",
        5,
        """1/4 | 1/8 1/8 | 0 -1/2 1 | 3/16 0 0 9/16 | -3/7 2/7 12/7 -12/7 8/7
        | 7/90 0 32/90 12/90 32/90 7/90""",
        (),
        "Butcher 1964",
    ),
    Tableau(
        "dormand_prince_6s",
        "Dormand-Prince 5",
        5,
        """1/5 | 3/40 9/40 | 44/45 -56/15 32/9 | 19372/6561 -25360/2187 64448/6561 -212/729
        | 9017/3168 -355/33 46732/5247 49/176 -5103/18656 | 35/384 0 500/1113 125/192 -2187/6784 11/84""",
        ("rk5_7s", "dopri5"),
        "Dormand and Prince 1980",
    ),
    Tableau(
        "tsitouras_6s",
        "Tsitouras 5",
        5,
        """0.161 | -0.008480655492356989 0.335480655492357
        | 2.8971530571054935 -6.359448489975075 4.3622954328695815
        | 5.325864828439257 -11.748883564062828 7.4955393428898365 -0.09249506636175525
        | 5.86145544294642 -12.92096931784711 8.159367898576159 -0.071584973281401 -0.02826905039406838
        | 0.09646076681806523 0.01 0.4798896504144996 1.379008574103742 -3.290069515436081 2.324710524099774""",
        ("tsi_7s", "tsit5"),
        "Tsitouras 2011",
        approximate=True,
    ),
    Tableau(
        "bogacki_shampine_7s",
        "Bogacki-Shampine 5",
        5,
        """1/6 | 2/27 4/27 | 183/1372 -162/343 1053/1372 | 68/297 -4/11 42/143 1960/3861
        | 597/22528 81/352 63099/585728 58653/366080 4617/20480
        | 174197/959244 -30942/79937 8152137/19744439 666106/1039181 -29421/29068 482048/414219
        | 587/8064 0 4440339/15491840 24353/124800 387/44800 2152/5985 7267/94080""",
        (),
        "Bogacki and Shampine 1996",
    ),
    Tableau(
        "rk6_7s",
        "RK6",
        6,
        """1/3 | 0 2/3 | 1/12 1/3 -1/12 | -1/16 9/8 -3/16 -3/8 | 0 9/8 -3/8 -3/4 1/2
        | 9/44 -9/11 63/44 18/11 0 -16/11 | 11/120 0 27/40 27/40 -4/15 -4/15 11/120""",
        (),
        "Butcher 1964",
    ),
    Tableau(
        "dormand_prince_13s",
        "Dormand-Prince 8",
        8,
        """1/18 | 1/48 1/16 | 1/32 0 3/32 | 5/16 0 -75/64 75/64 | 3/80 0 0 3/16 3/20
        | 29443841/614563906 0 0 77736538/692538347 -28693883/1125000000 23124283/1800000000
        | 16016141/946692911 0 0 61564180/158732637 22789713/633445777 545815736/2771057229
          -180193667/1043307555
        | 39632708/573591083 0 0 -433636366/683701615 -421739975/2616292301 100302831/723423059
          790204164/839813087 800635310/3783071287
        | 246121993/1340847787 0 0 -37695042795/15268766246 -309121744/1061227803 -12992083/490766935
          6005943493/2108947869 393006217/1396673457 123872331/1001029789
        | -1028468189/846180014 0 0 8478235783/508512852 1311729495/1432422823 -10304129995/1701304382
          -48777925059/3047939560 15336726248/1032824649 -45442868181/3398467696 3065993473/597172653
        | 185892177/718116043 0 0 -3185094517/667107341 -477755414/1098053517 -703635378/230739211
          5731566787/1027545527 5232866602/850066563 -4093664535/808688257 3962137247/1805957418
          65686358/487910083
        | 403863854/491063109 0 0 -5068492393/434740067 -411421997/543043805 652783627/914296604
          11173962825/925320556 -13158990841/6184727034 3936647629/1978049680 -160528059/685178525
          248638103/1413531060 0
        | 14005451/335480064 0 0 0 0 -59238493/1068277825 181606767/758867731 561292985/797845732
          -1041891430/1371343529 760417239/1151165299 118820643/751138087 -528747749/2220607170 1/4""",
        ("rk8_13s",),
        "Prince and Dormand 1981",
        approximate=True,
    ),
)
