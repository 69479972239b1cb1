"""DiffusionPipeline: a model, a scheduler, and what all pipelines have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from .. import __version__
from ..core.errors import FileError, OptionError, nearest
from ..standalone.folder import COMPONENTS, read_json
from ..standalone.hub import Hub
from ..standalone.source import locate
from .component import Component, refuse_unknown
from .offloading import Offloading

# components that some pipelines have, fetched where the repository has them and nobody gave None for them
EXTRA = ("safety_checker", "depth_estimator")
Self = TypeVar("Self", bound="DiffusionPipeline")


@dataclass(frozen=True)
class Found:
    """A local folder with its model_index.json, and how its weights are wanted."""

    path: Path
    index: Mapping[str, Any]
    dtype: torch.dtype
    variant: str | None


class DiffusionPipeline(Offloading):
    """Base of all pipelines; `DiffusionPipeline.from_pretrained` makes the class that model_index.json names.

    Attributes:
        scheduler: exchange it any time: `pipe.scheduler = Other.from_config(pipe.scheduler.config)`.
        stopped: set it in callback_on_step_end to end the run after that step.
    """

    known: ClassVar[dict[str, type[DiffusionPipeline]]] = {}
    parts: ClassVar[tuple[str, ...]] = ("scheduler",)
    options: ClassVar[tuple[str, ...]] = ()  # what the constructor takes besides components
    scheduler: Any

    def __init_subclass__(cls, listed: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if listed:
            DiffusionPipeline.known[cls.__name__] = cls

    def __init__(self) -> None:
        self.stopped = False
        self.progress_options: dict[str, Any] = {}
        self.source = ""

    @classmethod
    def from_pretrained(
        cls: type[Self],
        pretrained_model_name_or_path: str | os.PathLike[str],
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool | None = None,
        **given: Any,
    ) -> Self:
        """From a folder in diffusers' layout or a repository on the hub.

        `given`: components that replace the repository's (`scheduler=`, `unet=`, `vae=`, `safety_checker=None`).
        FileError, MissingPartError; OptionError for an unknown class, component or argument.
        """
        source = os.fspath(pretrained_model_name_or_path)
        extra = tuple(name for name in EXTRA if given.get(name, name) is not None)
        hub = Hub(revision, token, local_files_only or None, (*COMPONENTS, *extra))
        path = locate(source, None, variant, hub)
        index = read_index(path)
        made = cls.wanted(index, path, given)
        components = {name: given.pop(name) for name in list(given) if name in (*made.parts, *made.options)}
        refuse_unknown(made, given)
        pipe = made.build(Found(path, index, torch_dtype or torch.float32, variant), components)
        pipe.source = source
        return pipe  # type: ignore[return-value]

    @classmethod
    def wanted(cls, index: Mapping[str, Any], path: Path, given: dict[str, Any]) -> type[DiffusionPipeline]:
        """This class; of the base class, the one that model_index.json names. OptionError for one nobody has."""
        if cls is not DiffusionPipeline:
            return cls
        name = str(index.get("_class_name", ""))
        if name not in cls.known:
            raise OptionError(
                f"_class_name {name!r}", path / "model_index.json", todo=nearest(name, cls.known)
            )
        return cls.known[name]

    @classmethod
    def build(cls, found: Found, components: dict[str, Any]) -> DiffusionPipeline:
        """A pipeline of this class from a local folder, with `components` in place of the folder's."""
        raise OptionError(f"{cls.__name__} cannot be loaded", found.path, todo="use one of its subclasses")

    @classmethod
    def from_pipe(cls: type[Self], other: DiffusionPipeline, **components: Any) -> Self:
        """This class on the networks of another pipeline: no weight is loaded or copied."""
        taken = {name: part for name, part in other.components.items() if name in cls.parts}
        refuse_unknown(cls, {name: None for name in components if name not in (*cls.parts, *cls.options)})
        pipe = cls(**{**other.settings, **taken, **components})
        pipe.source = other.source
        return pipe

    @property
    def components(self) -> dict[str, Any]:
        """Every component by name, as the constructor takes them."""
        return {name: getattr(self, name) for name in self.parts}

    @property
    def settings(self) -> dict[str, Any]:
        """What the constructor takes besides components, and model_index.json keeps."""
        return {}

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The components that hold weights."""
        return {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(network.device for network in self.networks.values() if isinstance(network, Component))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(next(iter(self.networks.values())).parameters()).dtype

    def to(self: Self, *places: str | torch.device | torch.dtype, **named: Any) -> Self:
        """Move all networks to a device, a dtype, or both: `to("cuda")`, `to(torch.float16)`. OptionError."""
        refuse_unknown(
            type(self), {k: v for k, v in named.items() if k not in ("torch_device", "torch_dtype")}
        )
        wanted = [*places, *(value for value in named.values() if value is not None)]
        if not all(isinstance(place, (str, torch.device, torch.dtype)) for place in wanted):
            raise OptionError(f"to({', '.join(map(repr, wanted))})", expected="a device, a dtype, or both")
        for place in wanted:
            self.moved(place)
        return self

    def moved(self, place: str | torch.device | torch.dtype) -> None:
        """Move all networks to one device or dtype. OptionError for a device that is not here."""
        from ..standalone.memory import choose_device

        target = place if isinstance(place, torch.dtype) else choose_device(place)
        if self.offload is not None and isinstance(target, torch.device):
            todo = "call remove_all_hooks() first, or leave .to() out"
            raise OptionError(f"to({place!r}) after enabling offload", type(self).__name__, todo=todo)
        self.maybe_free_model_hooks()
        for network in self.networks.values():
            network.to(target)

    def set_progress_bar_config(self, **options: Any) -> None:
        """What tqdm is told, such as `disable=True`."""
        self.progress_options = options

    def progress_bar(self, total: int) -> Any:
        """The bar of a run."""
        from tqdm.auto import tqdm

        return tqdm(total=total, **self.progress_options)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], variant: str | None = None, **idle: Any
    ) -> None:
        """Write a folder in diffusers' layout, which diffusers loads too. FileError where it cannot be."""
        from .saving import save_pipeline

        refuse_unknown(
            type(self), {k: v for k, v in idle.items() if k not in ("safe_serialization", "max_shard_size")}
        )
        save_pipeline(self, save_directory, variant)

    def to_json_string(self) -> str:
        """model_index.json: the class, and of each component the library and class."""
        entries: dict[str, Any] = {"_class_name": type(self).__name__, "_sigmagraft_version": __version__}
        if self.source:
            entries["_name_or_path"] = self.source
        entries |= self.settings
        for name, part in self.components.items():
            entries[name] = [None, None] if part is None else [_library(part), type(part).__name__]
        return json.dumps(entries, indent=2) + "\n"

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


def _library(part: object) -> str:
    module = type(part).__module__
    return (
        "sigmagraft"
        if "." in module and module.split(".")[0] == __name__.split(".")[0]
        else module.split(".")[0]
    )


def read_index(path: Path) -> dict[str, Any]:
    """model_index.json of a folder; FileError where there is none."""
    file = path / "model_index.json"
    if not file.is_file():
        todo = "use from_single_file for one file, or give the folder that has model_index.json"
        raise FileError("no model_index.json", path, "a diffusers folder or a hub id", todo)
    return read_json(file)


def load_scheduler(path: Path) -> Any:
    """The scheduler of a folder, of the class its config names. OptionError for one nobody has."""
    from .. import schedulers

    inner = path / "scheduler"
    folder = inner if inner.is_dir() else path
    name = str(read_json(folder / "scheduler_config.json").get("_class_name", ""))
    known = [each for each in dir(schedulers) if each.endswith("Scheduler")]
    if name not in known:
        raise OptionError(f"scheduler class {name!r}", folder, todo=nearest(name, known))
    return getattr(schedulers, name).from_pretrained(folder)
