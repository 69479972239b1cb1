"""Configs as people know them: from and to JSON, from one class to another, printed."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch

from ..core.errors import OptionError
from .files import HUB_OPTIONS, IDLE_OPTIONS, NAME, read_config, write_config
from .frozen import FrozenDict

log = logging.getLogger("sigmagraft")
Self = TypeVar("Self", bound="Configured")
DEFAULTED = "_use_default_values"


class Configured:
    """An object described by its config, whose entries are the constructor's arguments.

    Attributes:
        config: frozen; what the constructor was given, its defaults, and entries that only other classes know.
            `_use_default_values` names those that nobody gave: another class takes its own defaults for them.
    """

    config_name: ClassVar[str] = NAME
    defaults: ClassVar[Mapping[str, Any]] = {}
    known: ClassVar[dict[str, type[Configured]]] = {}
    kin: ClassVar[bool] = False
    listed: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._internal_dict = FrozenDict(self._entries(args, kwargs))

    @classmethod
    def _entries(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        name = cls.__name__
        if len(args) > len(cls.defaults):
            raise TypeError(f"{name} takes {len(cls.defaults)} arguments, {len(args)} were given")
        given = dict(zip(cls.defaults, args, strict=False))
        for key, value in kwargs.items():
            if key in given:
                raise TypeError(f"{name} got two values for {key!r}")
            if key not in cls.defaults and not key.startswith("_"):
                raise TypeError(f"{name} got an unexpected argument {key!r}")
            given[key] = value
        entries = {**cls.defaults, **given}
        if defaulted := [key for key in cls.defaults if key not in given]:
            entries[DEFAULTED] = defaulted
        return entries

    @property
    def config(self) -> FrozenDict:
        return self._internal_dict

    def register_to_config(self, **entries: Any) -> None:
        """Replace entries of the config."""
        self._internal_dict = FrozenDict({**self._internal_dict, **entries})

    @classmethod
    def from_pretrained(
        cls: type[Self],
        pretrained_model_name_or_path: str | os.PathLike[str],
        subfolder: str | None = None,
        return_unused_kwargs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """From `scheduler_config.json` in a folder (or its `subfolder`) or in a repository on the hub.

        Args:
            kwargs: revision, token, cache_dir, force_download, local_files_only for the hub; all others replace
                entries of the config.

        Raises FileError where there is no such file.
        """
        hub = {name: kwargs.pop(name) for name in HUB_OPTIONS if name in kwargs}
        kwargs = {name: value for name, value in kwargs.items() if name not in IDLE_OPTIONS}
        config = read_config(pretrained_model_name_or_path, subfolder, hub)
        return cls.from_config(config, return_unused_kwargs=return_unused_kwargs, **kwargs)

    @classmethod
    def load_config(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        subfolder: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The entries of the file as they are."""
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        return read_config(pretrained_model_name_or_path, subfolder, hub)

    @classmethod
    def from_config(
        cls: type[Self], config: Mapping[str, Any], return_unused_kwargs: bool = False, **kwargs: Any
    ) -> Any:
        """This class with the entries of another's config; `kwargs` replace entries.

        Entries this class does not know are kept for the next `from_config`; those that no class knows are warned of.
        """
        if not isinstance(config, Mapping):
            raise OptionError(
                f"a config of type {type(config).__name__}", expected="other.config, or a dictionary"
            )
        defaulted = config.get(DEFAULTED) or ()
        entries = {k: v for k, v in config.items() if k not in defaulted and k != DEFAULTED}
        overriding = {k: kwargs.pop(k) for k in list(kwargs) if k in cls.defaults}
        taken = {k: v for k, v in {**entries, **overriding}.items() if k in cls.defaults}
        aside = {k: v for k, v in entries.items() if k not in taken}
        strange = {k: v for k, v in aside.items() if not cls._is_known(k, config.get("_class_name"))}
        if strange or (kwargs and not return_unused_kwargs):
            log.warning(
                "The config attributes %s were passed to %s, but are not expected and will be ignored.",
                {**strange, **kwargs},
                cls.__name__,
            )
        made = cls(**taken)
        if "_class_name" in aside:
            aside["_class_name"] = cls.__name__
        made.register_to_config(**aside)
        return (made, {**kwargs, **aside}) if return_unused_kwargs else made

    @classmethod
    def _is_known(cls, key: str, source: Any) -> bool:
        """Whether an entry belongs to the class the config comes from, or to one compatible with this."""
        others = [*cls._compatible(), *([cls.known[source]] if source in cls.known else [])]
        return key.startswith("_") or any(key in other.defaults for other in others)

    @classmethod
    def _compatible(cls) -> list[type[Configured]]:
        return [other for other in cls.known.values() if other is cls or (cls.kin and other.listed)]

    def to_json_string(self) -> str:
        """The config as sorted JSON, with `_class_name`, as it is saved and printed."""
        entries = {k: v for k, v in self.config.items() if k != DEFAULTED}
        entries["_class_name"] = type(self).__name__
        return json.dumps(entries, indent=2, sort_keys=True, default=_plain) + "\n"

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write `scheduler_config.json` into a folder, which is made. FileError where that cannot be."""
        if kwargs.pop("push_to_hub", False):
            raise OptionError("push_to_hub", todo="upload the folder with `hf upload`")
        write_config(save_directory, self.to_json_string())

    save_config = save_pretrained

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor) or hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise OptionError(f"a config entry of type {type(value).__name__} cannot be saved")


def signed(owner: type, name: str, leading: list[str], further: Mapping[str, Any]) -> None:
    """Give `owner` its own `name`, whose signature can be inspected as pipelines do: `leading`, then `further`."""
    plain = getattr(owner, name)
    names = list(further)
    known = {*leading, *further}

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= known or len(args) > len(known):
            what = ", ".join(kwargs.keys() - known) or f"{len(args)} arguments"
            raise TypeError(f"{owner.__name__}.{name} got an unexpected argument: {what}")
        return plain(
            self, *args[: len(leading)], **dict(zip(names, args[len(leading) :], strict=False)), **kwargs
        )

    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(each, either) for each in ("self", *leading)]
    parameters += [inspect.Parameter(each, either, default=value) for each, value in further.items()]
    method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    method.__name__, method.__doc__, method.__qualname__ = name, plain.__doc__, f"{owner.__qualname__}.{name}"
    setattr(owner, name, method)
