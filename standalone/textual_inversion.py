"""Textual inversion files (arXiv:2208.01618): learned rows that stand in for token embeddings in a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.checkpoint import open_weights
from ..core.errors import FileError, OptionError, nearest

SUFFIXES = (
    ".safetensors",
    ".pt",
    ".bin",
)  # of two files with one name in a folder the first of these is used
ROLES = ("clip_l", "clip_g")
_MADE_FOR = {768: "SD1.x", 1024: "SD2.x", 1280: "the SDXL refiner"}


@dataclass(frozen=True)
class Embedding:
    """One file's vectors: `parts[""]` [n, width], or `parts["clip_l"]` and `parts["clip_g"]` for SDXL."""

    name: str
    path: Path
    parts: Mapping[str, Tensor]

    @property
    def vectors(self) -> int:
        """How many token positions it takes."""
        return len(next(iter(self.parts.values())))

    def rows(self, role: str, width: int) -> Tensor:
        """The vectors [n, width] for one text encoder; FileError where they were made for another model."""
        part = self.parts.get(role, self.parts.get(""))
        if part is None:
            raise FileError(
                f"this embedding holds vectors for {' and '.join(self.parts)} alone",
                self.path,
                f"vectors for {role}, {width} wide",
                f"take {self.name!r} out of the prompt",
            )
        if part.shape[1] != width:
            made_for = _MADE_FOR.get(part.shape[1])
            raise FileError(
                f"this embedding's vectors are {part.shape[1]} wide"
                + (f", for {made_for}" if made_for else ""),
                self.path,
                f"{width}, the width of this model's text encoder {role}",
                f"take {self.name!r} out of the prompt or give an embedding made for this model",
            )
        return part


class Embeddings:
    """The embeddings that prompts may name: files, or folders of them; a file is read on first use.

    A file's name without its suffix is its name; in a folder `sub/name` names it too.
    """

    def __init__(self, sources: Iterable[str | Path] = ()) -> None:
        self._files: dict[str, list[Path]] = {}
        self._read: dict[Path, Embedding] = {}
        self._paths: dict[str, Path] = {}
        self._lent: dict[str, Embedding] = {}
        for source in sources:
            self.add(source)

    def add(self, source: str | Path) -> None:
        """Know another file, or a folder's files. FileError where there is none."""
        source = Path(source)
        if source.is_file():
            self._files.setdefault(source.stem, []).append(source)
            return
        if not source.is_dir():
            raise FileError("no such embedding file or folder", source)
        found = [p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        for path in sorted(found, key=lambda p: (p.with_suffix(""), SUFFIXES.index(p.suffix.lower()))):
            relative = path.relative_to(source).with_suffix("").as_posix()
            if relative not in self._paths:
                self._paths[relative] = path
                self._files.setdefault(path.stem, []).append(path)

    def lend(self, embeddings: Mapping[str, Embedding]) -> None:
        """Know these too, before those of files, until others are lent: an adapter may bring its own."""
        self._lent = dict(embeddings)

    @property
    def names(self) -> list[str]:
        """What a prompt may call."""
        return sorted({*self._files, *self._lent})

    def __contains__(self, name: str) -> bool:
        return name in self._lent or self._find(name) is not None

    def __getitem__(self, name: str) -> Embedding:
        """The embedding of that name (in any case where none has it exactly); OptionError if none."""
        if name in self._lent:
            return self._lent[name]
        paths = self._find(name)
        if not paths:
            hint = nearest(name, self.names) if self._files else "give its file with --embeddings"
            raise OptionError(f"no embedding is named {name!r}", "prompt", todo=hint)
        if len(set(paths)) > 1:
            places = ", ".join(map(str, paths))
            raise OptionError(
                f"{len(paths)} files are named {name!r}", "prompt", "one", f"rename one of {places}"
            )
        if paths[0] not in self._read:
            self._read[paths[0]] = read_embedding(paths[0])
        return self._read[paths[0]]

    def _find(self, name: str) -> list[Path] | None:
        name = re.sub(r"\.(safetensors|pt|bin)$", "", name, flags=re.IGNORECASE)
        if name in self._files:
            return self._files[name]
        if name in self._paths:
            return [self._paths[name]]
        return next((paths for known, paths in self._files.items() if known.lower() == name.lower()), None)


def read_embedding(path: str | Path) -> Embedding:
    """The vectors of a .safetensors, .pt or .bin file; FileError where it is not a textual inversion file."""
    path = Path(path)
    return embedding_of(path.stem, path, open_weights(path).tensors())


def embedding_of(name: str, path: Path, tensors: Mapping[str, Tensor]) -> Embedding:
    """The vectors among a file's tensors; FileError where they are not a textual inversion's."""
    parts = _parts(tensors, path)
    for role, part in parts.items():
        if part.dim() not in (1, 2) or part.numel() == 0 or not part.is_floating_point():
            what = f"{role or 'its tensor'} is {part.dtype} of shape {tuple(part.shape)}"
            raise FileError(f"not a textual inversion file: {what}", path, "numbers [vectors, width]")
        if not bool(torch.isfinite(part.float()).all()):
            raise FileError("this embedding holds NaN or infinity", path, todo="fetch or train it again")
    # A copy: the file stays free to be moved or replaced.
    parts = {role: torch.atleast_2d(part).to(torch.float32, copy=True) for role, part in parts.items()}
    if len({len(part) for part in parts.values()}) > 1:
        counts = " and ".join(f"{len(part)} vectors for {role}" for role, part in parts.items())
        raise FileError(f"this embedding has {counts}", path, "as many for each text encoder")
    return Embedding(name, path, parts)


def _parts(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The vectors in each layout: SDXL's pair, A1111's .pt, its .safetensors, diffusers' {token: vectors}."""
    by_role = {role: tensors[role] for role in ROLES if role in tensors}
    if by_role:
        return by_role
    found = [tensor for name, tensor in tensors.items() if name.startswith("string_to_param.")]
    if not found:
        found = [tensors["emb_params"]] if "emb_params" in tensors else list(tensors.values())
    if len(found) != 1:
        seen = ", ".join(list(tensors)[:4]) + (", ..." if len(tensors) > 4 else "")
        raise FileError(
            f"not a textual inversion file: {len(found)} tensors ({seen})",
            path,
            "string_to_param, emb_params, clip_l with clip_g, or a single tensor",
        )
    return {"": found[0]}
