"""A network under diffusers' name: its config, its files in diffusers' layout, its dtype and device."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..core.errors import FileError, OptionError
from ..core.safetensors_file import write_safetensors
from ..schedulers.frozen import FrozenDict
from ..standalone.folder import read_json
from ..standalone.hub import Hub
from ..standalone.offload import offload_of

Self = TypeVar("Self", bound="Component")
STEM = "diffusion_pytorch_model"
# what people give every from_pretrained alike and what changes nothing here: weights are mapped, pickles run no code
IDLE = frozenset(
    {
        "add_watermarker",
        "cache_dir",
        "device_map",
        "force_download",
        "low_cpu_mem_usage",
        "mirror",
        "proxies",
        "requires_safety_checker",
        "resume_download",
        "use_auth_token",
        "use_safetensors",
    }
)


class Component(nn.Module):
    """Holds one of our networks as `network`; names of tensors are diffusers' outside and ours inside.

    Attributes:
        config: frozen; the folder's config.json, or what the sizes say.
    """

    config_name: ClassVar[str] = "config.json"
    folder: ClassVar[str] = ""

    def __init__(self, network: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.config = FrozenDict(config)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        offload = offload_of(self)
        return next(self.network.parameters()).device if offload is None else offload.device

    def num_parameters(self) -> int:
        """How many numbers the weights are."""
        return sum(weight.numel() for weight in self.network.parameters())

    def named_tensors(self) -> dict[str, Tensor]:
        """The weights under diffusers' names."""
        raise NotImplementedError

    @classmethod
    def load(cls: type[Self], path: Path, variant: str | None, dtype: torch.dtype) -> Self:
        """The network of a local folder or file."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls: type[Self],
        pretrained_model_name_or_path: str | os.PathLike[str],
        subfolder: str | None = None,
        variant: str | None = None,
        torch_dtype: torch.dtype | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool | None = None,
        **idle: Any,
    ) -> Self:
        """From a folder with config.json and weights (or its `subfolder`), or from a repository on the hub.

        FileError where there is none, OptionError for an unknown argument.
        """
        from ..standalone.source import locate

        refuse_unknown(cls, idle)
        source = os.fspath(pretrained_model_name_or_path)
        hub = Hub(revision, token, local_files_only or None)
        path = locate(source, subfolder, variant, hub)
        if path.is_dir() and not (path / cls.config_name).is_file() and (path / cls.folder).is_dir():
            path = path / cls.folder
        return cls.load(path, variant, torch_dtype or torch.float32)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], variant: str | None = None, **idle: Any
    ) -> None:
        """Write config.json and `diffusion_pytorch_model[.variant].safetensors`, which diffusers loads back.

        FileError where they cannot be written.
        """
        refuse_unknown(
            type(self), {k: v for k, v in idle.items() if k not in ("safe_serialization", "max_shard_size")}
        )
        target = Path(save_directory)
        name = f"{STEM}.{variant}.safetensors" if variant else f"{STEM}.safetensors"
        try:
            target.mkdir(parents=True, exist_ok=True)
            (target / self.config_name).write_text(self.to_json_string(), encoding="utf-8")
        except OSError as error:
            raise FileError(f"cannot write: {error}", target, todo="choose another place") from None
        write_safetensors(target / name, self.named_tensors(), {"format": "pt"})

    def to_json_string(self) -> str:
        """The config as sorted JSON with its class name."""
        entries = {**self.config, "_class_name": type(self).__name__}
        return json.dumps(entries, indent=2, sort_keys=True) + "\n"


def refuse_unknown(owner: type, given: Mapping[str, Any]) -> None:
    """Raises OptionError for an argument that nobody knows; those that change nothing here pass."""
    unknown = sorted(set(given) - IDLE)
    if unknown:
        raise OptionError(f"unknown argument {unknown[0]!r}", owner.__name__)


def folder_config(path: Path) -> dict[str, Any]:
    """A component's config.json without its private entries; empty where there is none."""
    file = path / "config.json"
    said = read_json(file) if path.is_dir() and file.is_file() else {}
    return {key: value for key, value in said.items() if not key.startswith("_")}
