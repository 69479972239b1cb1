"""Where an adapter comes from: a path, a name in the folders of adapters, a folder, a hub id with its file's name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from ..core.errors import FileError, OptionError, nearest
from .bundled import ASSETS
from .hub import Hub, is_hub_id

SUFFIXES = (".safetensors", ".pt", ".bin", ".ckpt", ".pth")
USUAL = (
    "pytorch_lora_weights.safetensors",
    "adapter_model.safetensors",
    "pytorch_lora_weights.bin",
    "adapter_model.bin",
)
"""What diffusers and PEFT call their files, in the order they are looked for."""
BUNDLED = ASSETS / "loras"
"""Adapters of the bundled model; a name is looked for here last."""


class Folders:
    """The folders that names in prompts are looked for in; `name` or `sub/name`, with or without its ending."""

    def __init__(self, folders: Iterable[str | Path] = ()) -> None:
        self.folders = [Path(folder).expanduser() for folder in folders]
        for folder in self.folders:
            if not folder.is_dir():
                raise FileError("no such folder of adapters", folder)

    def find(self, name: str) -> Path | None:
        """The file of that name, else the bundled one; OptionError where several have it."""
        for files in (_files(self.folders), _files([BUNDLED])):
            paths = files.get(name) or files.get(name.removesuffix(Path(name).suffix)) or []
            if len(paths) > 1:
                places = ", ".join(map(str, paths))
                raise OptionError(f"{len(paths)} adapters are named {name!r}", places, "one", "give a path")
            if paths:
                return paths[0]
        return None

    def names(self) -> list[str]:
        """All names there are."""
        return sorted(_files([*self.folders, BUNDLED]))


def _files(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Name -> the files it may mean."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                relative = path.relative_to(folder).with_suffix("").as_posix()
                for name in {relative, path.stem}:
                    found.setdefault(name, []).append(path)
    return found


def locate_lora(
    source: str | Path,
    folders: Folders | None = None,
    options: Mapping[str, str] | None = None,
    hub: Hub | None = None,
) -> Path:
    """The local file that `source` means. `options`: weight_name, subfolder, revision. FileError with what is near."""
    given, folders = dict(options or {}), folders or Folders()
    path = Path(source).expanduser()
    if path.is_file():
        return path
    named = folders.find(str(source))
    if named is not None:
        return named
    if path.is_dir():
        return _in_folder(path / given.get("subfolder", ""), given.get("weight_name"))
    if isinstance(source, str) and is_hub_id(source):
        return _on_hub(source, given, hub or Hub())
    raise FileError(
        "no such adapter",
        source,
        "a file, a name in a folder of adapters, or a hub id",
        _hint(str(source), folders),
    )


def _hint(name: str, folders: Folders) -> str:
    """The names that are near, or all; where only bundled ones are known and none is near, what to give."""
    known = folders.names()
    if folders.folders or get_close_matches(name.lower(), known):
        return nearest(name, known)
    return "give a path, or a folder of adapters with --lora-dir"


def _in_folder(folder: Path, name: str | None) -> Path:
    if not folder.is_dir():
        raise FileError("no such folder", folder)
    files = [path.name for path in folder.iterdir() if path.is_file()]
    return folder / _choose(files, name, folder)


def _on_hub(repo: str, given: Mapping[str, str], hub: Hub) -> Path:
    subfolder = given.get("subfolder", "").strip("/")
    prefix = f"{subfolder}/" if subfolder else ""
    hub = Hub(given.get("revision", hub.revision), hub.token, hub.offline)

    def choose(names: list[str]) -> list[str]:
        here = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        chosen = [_choose(here, given.get("weight_name"), repo)]
        if chosen[0].startswith("adapter_model.") and "adapter_config.json" in here:
            chosen.append("adapter_config.json")
        return [prefix + name for name in chosen]

    return hub.file(repo, choose)


def _choose(names: Iterable[str], name: str | None, where: object) -> str:
    """The named file; else the one with a usual name, or the only one of weights."""
    files = sorted(file for file in names if file.lower().endswith(SUFFIXES))
    if name is not None:
        if name not in files:
            raise FileError(f"there is no file {name!r}", where, todo=nearest(name, files) if files else None)
        return name
    for usual in USUAL:
        if usual in files:
            return usual
    top = [file for file in files if "/" not in file] or files
    if len(top) != 1:
        what = f"{len(top)} weights files: {', '.join(top[:5])}" if top else "no weights file"
        raise FileError(what, where, "one", "name it with weight_name" if top else None)
    return top[0]


@lru_cache(maxsize=256)
def _hash(path: Path, size: int, changed: float) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if path.suffix.lower() in (".safetensors", ".sft"):
            file.seek(int.from_bytes(file.read(8), "little"), 1)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:12]


def lora_hash(path: Path) -> str:
    """The 12 digits that A1111 writes: SHA-256 of the tensors, of a safetensors file without its header."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime)
