"""Adapters put into a checkpoint for good: a file becomes a file, a folder a folder, each in its own layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.checkpoint import open_weights
from ..core.entry import Entry
from ..core.errors import FileError, OptionError
from ..core.safetensors_file import read_safetensors
from ..loras import LoadReport, LoraFile, Strength, bind
from ..loras.bake import Baker
from ..loras.delta import Delta
from . import output
from .folder import COMPONENTS, WEIGHTS, pick_weights, variants
from .hub import Hub
from .lora_stack import merge_into
from .lora_targets import Base, base_of_source
from .source import locate, open_source

BAKED = "sigmagraft.baked"
_STEMS = {name: "model" if name.startswith("text") else "diffusion_pytorch_model" for name in COMPONENTS}


@dataclass
class Baking:
    """``acting`` are adapters with their strengths; ``note`` says in the header what was put in.

    ``told`` receives what was found of each adapter before anything is written; ``force`` applies what fits.
    """

    acting: Sequence[tuple[LoraFile, Strength]]
    note: str
    told: Callable[[LoadReport], None] = lambda report: None
    force: bool = False
    changes: dict[str, list[tuple[Delta, float]]] = field(default_factory=dict)

    def write(self, model: str, out: Path) -> None:
        """FileError, OptionError; nothing is written where something fails."""
        path = locate(model, None, None, Hub())
        source = open_source(path)
        base = base_of_source(source)
        self._bind(base)
        averages = [(f"unet.{name}", entry) for name, entry in source.parts.ema.items()]
        baker = Baker([*base.entries.items(), *averages], self.changes)
        _check_out(path, out)
        if path.is_dir():
            self._folder(path, out, baker)
        else:
            self._file(path, out, baker)
        lost = [key for key in self.changes if key not in baker.written]
        if lost:
            raise RuntimeError(f"{len(lost)} changes found no place, such as {lost[0]}")

    def _bind(self, base: Base) -> None:
        for file, strength in self.acting:
            if strength.curves:
                raise OptionError("a strength that moves over the run", file.path, "a fixed one to bake")
            bound = bind(file, base.targets, self.force)
            self.told(bound.report)
            merge_into(self.changes, bound, strength)
        kept = {key: [c for c in own if c[1] != 0.0] for key, own in self.changes.items()}
        self.changes = {key: own for key, own in kept.items() if own}
        if not self.changes:
            raise OptionError(
                "nothing to bake: no weight is changed", expected="an adapter of a weight above 0"
            )

    def _file(self, path: Path, out: Path, baker: Baker) -> None:
        entries, metadata = stored(path)
        baker.write(entries, {**metadata, BAKED: self.note}, out)

    def _folder(self, path: Path, out: Path, baker: Baker) -> None:
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _copy_others(path, partial)
            for name in COMPONENTS if (path / "model_index.json").is_file() else ("",):
                self._component(path / name, partial / name, name, baker)
            os.replace(partial, out)
        except OSError as error:
            raise FileError(f"cannot write: {error}", out, todo="choose another place") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _component(self, folder: Path, into: Path, name: str, baker: Baker) -> None:
        """A component's weights as one file of the usual name."""
        chosen = _chosen(folder)
        if chosen is not None:
            parts = [
                _STEMS.get(name, chosen.name.partition(".")[0]),
                *variants([chosen.name])[:1],
                "safetensors",
            ]
            self._file(chosen, into / ".".join(parts), baker)


def stored(path: Path) -> tuple[dict[str, Entry], Mapping[str, str]]:
    """All tensors as they lie in a file or in the shards of an index, scales of fp8 among them; and its header."""
    checkpoint = open_weights(path)
    if checkpoint.container != "safetensors":
        return checkpoint.entries, {}
    files = sorted({entry.file for entry in checkpoint.values()})
    return {k: e for file in files for k, e in read_safetensors(file)[0].items()}, checkpoint.metadata


def _chosen(folder: Path) -> Path | None:
    """The weights that are read of a component; None where there are none."""
    names = [file.name for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    chosen = pick_weights(names)
    return folder / chosen if chosen else None


def _copy_others(path: Path, into: Path) -> None:
    """Everything but weights; of components nobody reads here (a safety checker), those too."""

    def weights(folder: str, names: list[str]) -> list[str]:
        if Path(folder) != path and Path(folder).name not in COMPONENTS:
            return []
        return [name for name in names if name.endswith((*WEIGHTS, ".index.json")) or ".index." in name]

    shutil.copytree(path, into, ignore=weights)


def _check_out(path: Path, out: Path) -> None:
    if path.is_dir() and out.suffix in WEIGHTS:
        raise OptionError(f"{str(out)!r}", "-o", "a folder, as the model is one")
    if not path.is_dir() and out.suffix != ".safetensors":
        raise OptionError(f"{str(out)!r}", "-o", "a name that ends in .safetensors")
    if out.exists() and (path.is_dir() or out.samefile(path)):
        raise OptionError(f"{str(out)!r} is there already", "-o", todo="choose another name")
    output.check_folder(out.parent)
