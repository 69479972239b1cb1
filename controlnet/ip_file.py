"""An IP-Adapter's file (arXiv:2308.06721): which variant it is and what is in it, by names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..core.checkpoint import Checkpoint, open_weights
from ..core.entry import Entry
from ..core.errors import FileError, OptionError
from ..core.kinds import adapter_kind, other_kind
from .ip_layouts import Tensors, published
from .ip_projection import FacePlusProjection, FaceResampler, Variant, variant_of

_LAYER = re.compile(r"ip_adapter\.(\d+)\.to_([kv])_ip\.weight")
_LORA = re.compile(r"ip_adapter\.(\d+)\.to_(q|k|v|out)_lora\.(down|up)\.weight")
# (first input, its channels) -> the image encoder that gives it, and where it is published
ENCODERS = {
    ("pooled", 1024): ("CLIP ViT-H/14", "h94/IP-Adapter, folder models/image_encoder"),
    ("pooled", 1280): ("CLIP ViT-bigG/14", "h94/IP-Adapter, folder sdxl_models/image_encoder"),
    ("hidden", 1280): ("CLIP ViT-H/14", "h94/IP-Adapter, folder models/image_encoder"),
    ("hidden", 1664): ("CLIP ViT-bigG/14", "h94/IP-Adapter, folder sdxl_models/image_encoder"),
    ("pooled", 768): ("CLIP ViT-L/14", "openai/clip-vit-large-patch14"),
    ("hidden", 1024): ("CLIP ViT-L/14", "openai/clip-vit-large-patch14"),
}


@dataclass(frozen=True)
class IPAdapterFile:
    """`projection` under its network's names; `layers`: number -> {"k", "v"}; `loras`: number -> {"q.down", ...}.

    `version` tells FaceID plus v2 from v1, which have the same tensors: only the file's name differs.
    """

    source: Path
    variant: Variant
    projection: Tensors
    layers: dict[int, dict[str, Entry]]
    loras: dict[int, dict[str, Entry]] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    version: int = 1

    @property
    def width(self) -> int:
        """Channels of the tokens: 768 in SD1.5's, 2048 in SDXL's."""
        return next(iter(self.layers.values()))["k"].shape[1]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The features it is made from, among pooled, hidden and face."""
        return self.variant.network.inputs

    @property
    def channels(self) -> dict[str, int]:
        """Input -> its channels, by the width of the first matrix that reads it."""
        firsts = ("proj.weight", "perceiver_resampler.proj_in.weight", "proj_in.weight", "proj.0.weight")
        found = [self.projection[name].shape[1] for name in firsts if name in self.projection]
        return dict(zip(reversed(self.inputs), found, strict=True))

    @property
    def encoder(self) -> tuple[str, str]:
        """The image encoder it was trained with, and where to get it."""
        name, channels = next((pair for pair in self.channels.items() if pair[0] != "face"), ("", 0))
        other = (
            f"an image encoder whose {name} features have {channels} channels",
            "the adapter's author",
        )
        return ENCODERS.get((name, channels), other)

    def lora(self) -> Iterator[tuple[int, str, Entry, Entry]]:
        """(number of the attention, q, k, v or out, down [r, in], up [out, r]) of each low-rank pair.

        FaceID was trained together with them: weight + up @ down (alpha is the rank).
        """
        for number, parts in sorted(self.loras.items()):
            for name in ("q", "k", "v", "out"):
                if f"{name}.down" in parts:
                    yield number, name, parts[f"{name}.down"], parts[f"{name}.up"]


def read_ip_adapter(path: str | Path, version: int | None = None) -> IPAdapterFile:
    """Open a file in any layout. FileError says what it is where it is no IP-Adapter, and what it lacks."""
    return recognise(open_weights(path), version)


def recognise(checkpoint: Checkpoint, version: int | None = None) -> IPAdapterFile:
    """The same of an open file."""
    named, ignored, unknown = published(checkpoint)
    projection = {n.removeprefix("image_proj."): e for n, e in named.items() if n.startswith("image_proj.")}
    layers, loras, strange = _layers({n: e for n, e in named.items() if n.startswith("ip_adapter.")})
    where = checkpoint.source
    variant = variant_of({name: entry.shape for name, entry in projection.items()})
    if variant is None or not layers:
        raise FileError(_what(checkpoint, bool(projection or layers)), where, "an IP-Adapter")
    if unknown + strange:
        raise FileError(f"an {variant.label} with {(unknown + strange)[0]!r}, which nobody knows", where)
    for number, pair in layers.items():
        if set(pair) != {"k", "v"}:
            raise FileError(
                f"layer {number} has to_{next(iter(pair))}_ip alone", where, todo="download it again"
            )
    _check_version(version, variant, where)
    found = version or (2 if "plusv2" in where.name.lower().replace("-", "").replace("_", "") else 1)
    return IPAdapterFile(where, variant, projection, layers, loras, ignored, found)


def _check_version(version: int | None, variant: Variant, where: Path) -> None:
    """Only FaceID plus has two."""
    if version is not None and (version not in (1, 2) or variant.network is not FacePlusProjection):
        raise OptionError(f"version {version} of {variant.label}", where, "1 or 2, of IP-Adapter FaceID plus")


def _layers(
    named: Tensors,
) -> tuple[dict[int, dict[str, Entry]], dict[int, dict[str, Entry]], list[str]]:
    layers: dict[int, dict[str, Entry]] = {}
    loras: dict[int, dict[str, Entry]] = {}
    strange: list[str] = []
    for name, entry in named.items():
        if match := _LAYER.fullmatch(name):
            layers.setdefault(int(match[1]), {})[match[2]] = entry
        elif match := _LORA.fullmatch(name):
            loras.setdefault(int(match[1]), {})[f"{match[2]}.{match[3]}"] = entry
        else:
            strange.append(name)
    return layers, loras, strange


def _what(checkpoint: Checkpoint, partly: bool) -> str:
    if partly:
        return "half of an IP-Adapter, or one of a kind that nobody knows"
    shapes = checkpoint.shapes
    kind = adapter_kind(shapes) or other_kind(shapes)
    if kind is None and any(name.startswith("model.diffusion_model.") for name in shapes):
        return "this is a whole model"
    return f"this is {kind.label}" if kind else f"unknown tensors, such as {next(iter(shapes))!r}"


def about(checkpoint: Checkpoint) -> list[str]:
    """Sentences for a person: variant, layers, what it is made from; why it is none where it cannot be read."""
    try:
        file = recognise(checkpoint)
    except FileError as error:
        return [error.what]
    made = " and ".join(f"{name} features of {channels} channels" for name, channels in file.channels.items())
    said = [f"{file.variant.label}, {len(file.layers)} layers, tokens {file.width} wide, made from {made}"]
    if set(file.inputs) != {"face"}:
        said.append("image encoder: {} ({})".format(*file.encoder))
    return [*said, "it changes the model's weights too (FaceID)"] if file.loras else said


def unnormalised(file: IPAdapterFile) -> bool:
    """Whether it takes a face's embedding at its own length instead of at length 1."""
    return issubclass(file.variant.network, FaceResampler)
