"""`sigmagraft schedules`: every registered noise schedule; with a name, the sigmas it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import OptionError
from .options import PREDICTIONS
from .parser import Parser, choice, named, number, size
from .schedule_options import add_schedule_option
from .table import dump, option_json, option_lines, show

if TYPE_CHECKING:
    from argparse import Namespace

    from ...samplers import NoiseLevels, ScheduleSpec
    from ..model import ModelInfo

HEAD = ("name", "label", "as in", "for", "paper", "default of")
NOTES = """
as in: the systems in which that name is this schedule, so that name@system is another name of it
for: any kind of model unless said otherwise; *: may end above 0 or give another number of steps, as its host does
the sigmas: sigmagraft schedules NAME --steps 10"""


def run(argv: Sequence[str]) -> int:
    """Print the table, or the sigmas of one schedule; either as JSON."""
    parser = Parser(
        "schedules", "The noise schedules: --schedule NAME. With a name: its sigmas and timesteps."
    )
    parser.add_argument(
        "name", nargs="*", metavar="NAME", help="one of them; NAME:option=value,... sets options"
    )
    add = parser.add_argument
    add("--steps", type=number(int, 1, 1000), metavar="N", help="1 to 1000; default 20")
    add_schedule_option(add)
    add(
        "--model",
        metavar="FILE",
        help="the model they are for: a file, folder, `bundled`; default: SD's levels",
    )
    add(
        "--prediction",
        type=choice(PREDICTIONS),
        metavar="NAME",
        help="eps, v, x0, flow or edm, instead of a model",
    )
    add(
        "--shift", type=number(float, 0.01, 100), metavar="X", help="timestep shift of a rectified-flow model"
    )
    add(
        "--size",
        type=size,
        metavar="WxH",
        help="of the picture, for schedules that go by it; default: the model's",
    )
    add("--json", action="store_true", help="for programs")
    args = parser.parse(argv, words="name")
    return _one(args) if getattr(args, "name", "") else _all(args)


def _all(args: Namespace) -> int:
    from ...samplers import SAMPLERS, SCHEDULES

    users = {
        spec.name: [s.name for s in SAMPLERS if SCHEDULES[s.default_schedule] is spec] for spec in SCHEDULES
    }
    if hasattr(args, "json"):
        dump([as_json(spec) | {"default_of": users[spec.name]} for spec in SCHEDULES])
        return 0
    print(show([HEAD, *((*row(spec), _few(users[spec.name])) for spec in SCHEDULES)]))
    print(NOTES)
    print("\nalso called:")
    print(
        "\n".join(f"  {spec.name}: {', '.join(spec.other_names)}" for spec in SCHEDULES if spec.other_names)
    )
    print("\noptions:")
    print("\n".join(line for spec in SCHEDULES for line in option_lines(spec.name, spec.options)))
    return 0


def _few(names: list[str]) -> str:
    return ", ".join(names if len(names) < 5 else [*names[:3], f"{len(names) - 3} more"])


def row(spec: ScheduleSpec) -> tuple[str, ...]:
    """The cells of one schedule, as HEAD without the last."""
    mark = "" if spec.ends_at_zero and spec.exact_steps else "*"
    need = "" if spec.needs.text == "any model" else spec.needs.text
    return spec.name, spec.label, ", ".join(spec.hosts), (need + mark), spec.paper


def as_json(spec: ScheduleSpec) -> dict[str, Any]:
    """Everything a schedule declares."""
    names = ("name", "label", "paper", "ends_at_zero", "exact_steps", "fewest", "most")
    return {name: getattr(spec, name) for name in names} | {
        "aliases": list(spec.aliases),
        "hosts": list(spec.hosts),
        "needs": spec.needs.text,
        "options": [option_json(option) for option in spec.options],
    }


def _one(args: Namespace) -> int:
    from ...samplers import SCHEDULES, schedule
    from ..levels import levels_of
    from ..steps import fitted_options

    name, options = named(args.name)
    spec = SCHEDULES[name]
    info = _info(args)
    levels = levels_of(info)
    fitted = fitted_options(spec, info, getattr(args, "size", (info.native_size, info.native_size)))
    options = fitted | options | dict(getattr(args, "schedule_option", []))
    sigmas = schedule(spec, getattr(args, "steps", 20), levels, **options)
    times = [_time(levels, sigma) for sigma in sigmas]
    if hasattr(args, "json"):
        dump({"name": spec.name, "options": options, "sigmas": sigmas, "timesteps": times})
        return 0
    rows = [
        (str(i), f"{sigma:.6g}", f"{t:.6g}") for i, (sigma, t) in enumerate(zip(sigmas, times, strict=True))
    ]
    print(show([("", "sigma", "timestep"), *rows]))
    return 0


def _time(levels: NoiseLevels, sigma: float) -> float:
    """What the network is told; at sigma 0, where it is not asked, what it would be told at its smallest sigma."""
    return levels.timestep(max(sigma, 0.0 if levels.is_flow else levels.sigma_min))


def _info(args: Namespace) -> ModelInfo:
    """What a model file says of its levels, or what the options say."""
    from ..model import ModelInfo

    said: dict[str, Any] = {"family": "sd1", "native_size": 1024}
    if hasattr(args, "model"):
        said |= _read(args.model)
    said |= {name: getattr(args, name) for name in ("prediction", "shift") if hasattr(args, name)}
    return ModelInfo(**said)


def _read(source: str) -> dict[str, Any]:
    from pathlib import Path

    from ..describe import describe
    from ..source import BUNDLED

    found = describe(BUNDLED if source == "bundled" else Path(source).expanduser())
    names = ("family", "prediction", "zero_snr", "shift", "sigma_min", "sigma_max")
    if "prediction" not in found:
        raise OptionError(
            f"{source} is {found.get('label', 'no model')}", "--model", "a model's file or folder"
        )
    return {name: found[name] for name in names}
