"""Functions in k-diffusion's calling convention as samplers: the installed package's, or one that a user wrote."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..core.errors import OptionError
from . import installed
from .drive import find_sampler
from .sampler_files import of_file
from .spec import Method, Option, Run, SamplerSpec

Function = Callable[..., Any]
SUPPLIED = ("extra_args", "callback", "disable", "noise_sampler", "sigmas", "sigma_min", "sigma_max", "n")
LEFT_OUT = ("return_info",)


class Argument(Option):
    """An option read off a signature: a number without bounds; text, a flag or None take what is written."""

    @property
    def expected(self) -> str:
        kind = type(self.default)
        return {bool: "true or false", str: "text"}.get(
            kind, "a number" if kind in (int, float) else "a value"
        )

    def check(self, value: Any, owner: str) -> Any:
        """`value` as the default's type; OptionError where it does not read as one."""
        if isinstance(self.default, bool):
            if (word := str(value).lower()) in ("true", "false"):
                return word == "true"
        elif isinstance(self.default, str):
            return str(value)
        elif (number := _number(value)) is not None:
            return number
        elif self.default is None and isinstance(value, str):
            return value
        raise OptionError(f"option {self.name}={value!r}", owner, self.expected)


def _number(value: Any) -> float | int | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if isinstance(value, bool) or number != number:
        return None
    return int(number) if number.is_integer() and "." not in str(value) else number


def _method(run: Run, x: Tensor) -> Method:
    raise OptionError(
        "a function of k-diffusion's convention holds its own loop", todo="drive it with `walk`"
    )
    yield x, 0.0


@dataclass(frozen=True)
class ForeignSpec(SamplerSpec):
    """What is known of a function from its signature; its order and whether it is valid for flow are not.

    Attributes:
        function: sample(model, x, sigmas, extra_args, callback, disable, ...), or with sigma_min, sigma_max and
            perhaps n in the place of sigmas.
        exploding: it knows x = x0 + sigma noise alone; rectified flow is brought to it as that.
    """

    function: Function = field(kw_only=True)
    exploding: bool = field(default=False, kw_only=True)


def find_method(sampler: str | SamplerSpec | Function) -> SamplerSpec:
    """A spec, a registered name, `k_diffusion:NAME`, a file (statistics, a calibration), or a function.

    Raises OptionError with the nearest names, FileError for a file that is no such.
    """
    if isinstance(sampler, SamplerSpec):
        return sampler
    if not isinstance(sampler, str):
        return of_function(sampler)
    if (spec := of_file(sampler)) is not None:
        return spec
    name = installed.split(sampler)
    return find_sampler(sampler) if name is None else _installed(name)


def _installed(name: str) -> ForeignSpec:
    function = installed.function(name)
    return of_function(
        function, installed.PREFIX + name, label=f"k-diffusion {name}", brownian="sde" in name, exploding=True
    )


def of_function(function: Function, name: str = "", **declared: Any) -> ForeignSpec:
    """A function of the convention as a sampler. Raises OptionError if it needs arguments that nobody knows."""
    if not callable(function):
        raise OptionError(
            f"sampler {function!r}", expected="a name or a function in k-diffusion's convention"
        )
    called = getattr(function, "__qualname__", type(function).__qualname__)
    name = name or f"function:{getattr(function, '__module__', '')}.{called}"
    options = tuple(_options(function, name))
    defaults = {option.name: option.default for option in options}
    own = {
        "label": name,
        "order": 0,
        "family": "Functions",
        "adaptive": "adaptive" in name,
        "noise_option": next((noisy for noisy in ("eta", "s_churn") if noisy in defaults), None),
        "stochastic": bool(defaults.get("eta")),
    }
    return ForeignSpec(name=name, method=_method, options=options, function=function, **(own | declared))


def _options(function: Function, name: str) -> Iterator[Argument]:
    parameters = list(inspect.signature(function).parameters.values())[2:]  # after model and x
    for parameter in parameters:
        if parameter.name in (*SUPPLIED, *LEFT_OUT) or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        if parameter.default is parameter.empty:
            raise OptionError(
                f"it needs an argument {parameter.name!r}",
                f"sampler {name}",
                expected="(model, x, sigmas, extra_args=None, callback=None, disable=None, ...) and defaults",
                todo="bind it with functools.partial",
            )
        yield Argument(parameter.name, parameter.default)
