"""LoRA inside a host: files read once, bound to the host's weights, parted into what is merged and what moves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import FileError, OptionError, SigmaGraftError, nearest
from ..core.family import identify
from ..loras import Bound, LoraFile, Strength, Targets, bind, read_lora
from ..loras.forward import Term
from ..loras.fuse import Change
from ..loras.report import Unused
from ..loras.targets import NETWORKS, Shapes

Acting = Sequence[tuple[Bound, Strength]]

UNET = "diffusion_model."
ENCODERS = ("clip_l", "clip_h", "clip_g")
"""What hosts with a ModelPatcher call their text encoders, in the order of networks."""

_TEXT = re.compile(
    r"(lora_te|te\d?[._]|text_encoder|text_model|clip_[lgh][._]|base_model\.model\.text_model)"
)


@dataclass(frozen=True)
class Layout:
    """A host's weights as adapters know them. ``prefixes``: network -> what its parameters' names begin with there."""

    targets: Targets
    prefixes: Mapping[str, str]

    @classmethod
    def of(cls, model: Shapes, clip: Shapes | None) -> Layout:
        """Of the states of a host's UNet and text encoders, name -> shape."""
        unet = _under(model, UNET)
        named = [f"{name}.transformer." for name in ENCODERS]
        texts = [prefix for prefix in named if any(key.startswith(prefix) for key in clip or ())]
        targets = Targets.of(unet, [_under(clip or {}, prefix) for prefix in texts], _label(unet))
        return cls(targets, dict(zip(NETWORKS, (UNET, *texts), strict=False)))

    def key(self, key: str) -> str:
        """The host's name of a patch key."""
        network, _, path = key.partition(".")
        return self.prefixes[network] + path


def is_ldm(model: Iterable[str]) -> bool:
    """Whether a host's model has the UNet of SD1, SD2 or SDXL; files for any other are the host's own to load."""
    return f"{UNET}input_blocks.0.0.weight" in model


def _under(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}


def _label(unet: Shapes) -> str:
    try:
        return identify(unet).family.label
    except SigmaGraftError:  # a task the runner does not have changes nothing about adapters
        return "this model"


class Shelf:
    """Files read, kept until other ones are asked for."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, int], LoraFile] = {}

    def read(self, paths: Iterable[Path]) -> list[LoraFile]:
        """The files, each read once as long as it is not changed. FileError."""
        keys = [(path, _changed(path)) for path in paths]
        found = {key: self._kept.get(key) or read_lora(key[0]) for key in dict.fromkeys(keys)}
        self._kept = found
        return [found[key] for key in keys]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise FileError("cannot be read", path, todo=str(error)) from error


def bound_to(file: LoraFile, layout: Layout, force: bool = False) -> Bound:
    """The file's changes on these weights; without a text encoder, those of text encoders are reported as not used.

    FileError with the reason for a file that was made for another model; ``force`` applies what fits.
    """
    if "text_encoder" in layout.prefixes:
        return bind(file, layout.targets, force)
    texts = {stem: part for stem, part in file.parts.items() if _TEXT.match(stem)}
    rest = replace(file, parts={stem: part for stem, part in file.parts.items() if stem not in texts})
    bound = bind(rest, layout.targets, force)
    reason = "no text encoder is connected"
    bound.report.unused += [Unused(key, reason) for part in texts.values() for key in part.keys]
    return bound


def split(acting: Acting) -> tuple[dict[str, list[Change]], dict[str, list[Term]]]:
    """What is merged and what moves over the run, by patch key; what acts at strength 0 is in neither."""
    fixed: dict[str, list[Change]] = {}
    moving: dict[str, list[Term]] = {}
    for bound, strength in acting:
        for key, deltas in bound.deltas.items():
            if not (weight := strength.of(key)):
                continue
            if strength.moves(key):
                moving.setdefault(key, []).extend(Term(d, weight, strength.moving) for d in deltas)
            else:
                fixed.setdefault(key, []).extend((d, weight) for d in deltas)
    return fixed, moving


def told(bound: Bound) -> str:
    """The report of one file, its notes and unused tensors first seen."""
    return "\n".join(bound.report.lines())


def by_name(name: str, files: Iterable[str]) -> str:
    """The file of a host's folder that a name means: as listed, without its ending, or by its own name alone.

    FileError with the nearest name, or where several have it.
    """
    listed = list(files)
    if name in listed:
        return name
    for means in (
        lambda path: path.with_suffix("").as_posix(),
        lambda path: path.stem,
        lambda path: path.name,
    ):
        found = [file for file in listed if means(Path(file.replace("\\", "/"))) == name]
        if len(found) > 1:
            raise FileError(
                f"{len(found)} LoRAs have this name: {', '.join(found)}", name, todo="name the folder too"
            )
        if found:
            return found[0]
    hint = (
        nearest(name, [Path(file.replace("\\", "/")).stem for file in listed])
        if listed
        else "put it into the folder of LoRAs"
    )
    raise FileError("no such LoRA", name, todo=hint)


def refuse_sources(options: Mapping[str, str], where: str) -> None:
    """OptionError for options of hub ids: a host loads files of its own folder."""
    if options:
        raise OptionError(
            f"{', '.join(options)}: options of a hub id", where, "a file in the host's folder of LoRAs"
        )
