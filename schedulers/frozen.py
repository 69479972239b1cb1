"""A configuration that cannot be changed: a dictionary whose entries are attributes too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ..core.errors import OptionError


class FrozenDict(dict[str, Any]):
    """`config["beta_end"]` and `config.beta_end` alike. Changing it raises OptionError; `dict(config)` is a copy."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this config has no entry {name!r}") from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})

    def __repr__(self) -> str:
        return f"FrozenDict({super().__repr__()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise OptionError(
            "a config cannot be changed", todo="make another: Class.from_config(config, name=value)"
        )

    if not TYPE_CHECKING:
        __setitem__ = __setattr__ = __delitem__ = __delattr__ = __ior__ = _refuse
        setdefault = pop = popitem = update = clear = _refuse
