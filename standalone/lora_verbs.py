"""Loading and weighing adapters by the method names that users of diffusers know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import OptionError
from ..loras import LoadReport, Strength
from .hub import Hub
from .lora_source import locate_lora
from .lora_stack import Loras
from .lora_weights import strength_of

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


class LoraVerbs:
    """For whatever has its adapters in ``loras``."""

    loras: Loras

    def load_lora_weights(
        self,
        source: str | Path,
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        subfolder: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool | None = None,
        force: bool = False,
    ) -> LoadReport:
        """Load an adapter: a file, a folder, a hub id, or a name in the folders of adapters. It acts at once, and those
        loaded before wait until `set_adapters` names them.

        Answers what was found; ``force`` applies what fits of a file made for another model. FileError, OptionError.
        """
        given = {"weight_name": weight_name, "subfolder": subfolder, "revision": revision}
        options = {name: value for name, value in given.items() if value is not None}
        hub = Hub(revision, token, local_files_only or None)
        return self.loras.load(locate_lora(source, self.loras.folders, options, hub), adapter_name, force)

    def set_adapters(
        self,
        adapter_names: str | Sequence[str],
        adapter_weights: float | str | Mapping[str, Any] | Strength | Sequence[Any] | None = None,
    ) -> None:
        """Makes exactly these adapters act, each with its weight: a number, diffusers' dictionary by component and
        block, or an expression such as "0.8:te=0.5:sigma=0@14,1@2". OptionError where the numbers of names and weights
        differ.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        weights = _each(adapter_weights, names)
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise OptionError(f"the adapter {twice!r} is named twice", todo="name it once")
        self.loras.set({n: strength_of(w, self.loras.targets) for n, w in zip(names, weights, strict=True)})

    def fuse_lora(
        self,
        components: Sequence[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: Sequence[str] | None = None,
    ) -> None:
        """Merge adapters (those that act, or the named ones) into the weights: a run then costs what it cost without.

        Results are always checked; all components are merged.
        """
        _all_of(components)
        self.loras.fuse(adapter_names, lora_scale)

    def unfuse_lora(self, components: Sequence[str] | None = None) -> None:
        """Every weight as the model had it, bit for bit; the adapters act apart again."""
        _all_of(components)
        self.loras.unfuse()

    def unload_lora_weights(self) -> None:
        """Take all adapters out, merged ones too, and forget them."""
        self.loras.clear()

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Take adapters out and forget them."""
        self.loras.delete([adapter_names] if isinstance(adapter_names, str) else adapter_names)

    def disable_lora(self) -> None:
        """Let no adapter act that is not merged."""
        self.loras.enabled = False
        self.loras.refresh()

    def enable_lora(self) -> None:
        """Let the active adapters act again."""
        self.loras.enabled = True
        self.loras.refresh()

    def get_active_adapters(self) -> list[str]:
        """The names of those that act."""
        return list(self.loras.active)

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Component -> the adapters that change it."""
        found: dict[str, list[str]] = {}
        for name, bound in self.loras.loaded.items():
            for component in COMPONENTS:
                if component in bound.report.networks:
                    found.setdefault(component, []).append(name)
        return found

    @property
    def num_fused_loras(self) -> int:
        """How many adapters are merged."""
        return len(self.loras.fused)

    @property
    def fused_loras(self) -> set[str]:
        """The names of the merged adapters."""
        return set(self.loras.fused)


def _each(weights: Any, names: Sequence[str]) -> list[Any]:
    if not isinstance(weights, (list, tuple)):
        return [1.0 if weights is None else weights] * len(names)
    if len(weights) != len(names):
        raise OptionError(
            f"{len(weights)} weights for {len(names)} adapters",
            expected="one weight for each, or a single one",
        )
    return [1.0 if weight is None else weight for weight in weights]


def _all_of(components: Sequence[str] | None) -> None:
    unknown = [name for name in components or () if name not in COMPONENTS]
    if unknown:
        raise OptionError(f"unknown component {unknown[0]!r}", expected=", ".join(COMPONENTS))
