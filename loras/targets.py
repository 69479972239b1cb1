"""The weights an adapter may change: every module of a model, and every name a file may call it by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .delta import Shape
from .names import ldm_to_diffusers, motion_names, text_names, unet_names

Shapes = Mapping[str, Shape]
NETWORKS = ("unet", "text_encoder", "text_encoder_2")
MOTION = "motion"  # the network of motion modules, beside the UNet


@dataclass(frozen=True)
class Module:
    """A layer: its network, its path there (LDM or transformers names), the shapes of its parameters.

    ``names`` is naming -> what files in it call the module, the usual name first.
    """

    network: str
    path: str
    shapes: Mapping[str, Shape]
    names: Mapping[str, Sequence[str]]

    def key(self, parameter: str) -> str:
        """What patches call one of its parameters: `unet.input_blocks.1.1.proj_in.weight`."""
        return f"{self.network}.{self.path}.{parameter}"


class Targets:
    """All modules of a model by name, exactly: a name that means two of them is nobody's."""

    def __init__(self, modules: Iterable[Module], label: str = "this model") -> None:
        self.modules = list(modules)
        self.label = label

    @classmethod
    def of(
        cls,
        unet: Shapes,
        texts: Sequence[Shapes] = (),
        label: str = "this model",
        motion: Shapes | None = None,
    ) -> Targets:
        """The targets of a UNet (LDM names) and its text encoders (transformers names), by name -> shape; and of the
        motion modules on it.
        """
        modules = _unet(unet)
        modules += [
            Module(MOTION, path, own, motion_names(path)) for path, own in _modules(motion or {}).items()
        ]
        for i, shapes in enumerate(texts):
            modules += _text(shapes, i, texts)
        return cls(modules, label)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Patch key -> the weight's shape."""
        return {m.key(name): shape for m in self.modules for name, shape in m.shapes.items()}

    @cached_property
    def by_path(self) -> dict[tuple[str, str], Module]:
        """(network, path) -> module."""
        return {(module.network, module.path): module for module in self.modules}

    @cached_property
    def _aliases(self) -> dict[str, tuple[Module, str] | None]:
        found: dict[str, tuple[Module, str] | None] = {}
        for module in self.modules:
            for naming, names in module.names.items():
                for name in names:
                    other = found.get(name, (module, naming))
                    found[name] = other if other is not None and other[0] is module else None
        return found

    def find(self, name: str) -> tuple[Module, str] | None:
        """(module, naming) of a file's name for a module; None where it means none, or more than one."""
        return self._aliases.get(name)

    def ambiguous(self, name: str) -> bool:
        """Whether a name means more than one module."""
        return name in self._aliases and self._aliases[name] is None

    @property
    def names(self) -> Iterable[str]:
        """Every name a file may use."""
        return self._aliases.keys()


def _modules(shapes: Shapes) -> dict[str, dict[str, Shape]]:
    """path -> parameter -> shape."""
    found: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        path, _, parameter = name.rpartition(".")
        if path and parameter in ("weight", "bias"):
            found.setdefault(path, {})[parameter] = tuple(shape)
    return found


def _unet(shapes: Shapes) -> list[Module]:
    modules = _modules(shapes)
    table = ldm_to_diffusers(modules)
    return [Module("unet", path, own, unet_names(path, table)) for path, own in modules.items()]


def _text(shapes: Shapes, index: int, texts: Sequence[Shapes]) -> list[Module]:
    """The n-th text encoder; the only one of an SDXL refiner is SDXL's second."""
    alone, width = len(texts) == 1, shapes["text_model.final_layer_norm.weight"][0]
    second = index == 1 or (alone and width == 1280)
    words = {
        "te": ["te2"] if index == 1 else ["te", "te1"] if alone else ["te1"],
        "encoder": ["text_encoder_2"] if index == 1 else ["text_encoder"],
        "omi": ["clip_g"] if second else ["clip_l"],
    }
    if alone and second:
        words["te"].append("te2")
        words["encoder"].append("text_encoder_2")
    network = NETWORKS[1 + index]
    return [
        Module(network, path, own, text_names(path, words, alone)) for path, own in _modules(shapes).items()
    ]
