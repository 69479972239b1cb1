"""ComfyUI's folders of models, those that only packs register (IP-Adapters, motion modules) included."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ...core.errors import FileError, nearest

IP_ADAPTERS = "ipadapter"
NONE = "none in models/{}"  # a dropdown without entries tells nobody what to do


def listed(kind: str) -> list[str]:
    """The files of a folder and of wherever else ComfyUI is told to look."""
    paths = _paths(kind)
    return list(paths.get_filename_list(kind)) if paths else []


def names(kind: str) -> list[str]:
    """The same for a dropdown."""
    return listed(kind) or [NONE.format(kind)]


def path(kind: str, name: str) -> Path:
    """The file of a name. FileError with the nearest where there is none."""
    paths = _paths(kind)
    found = paths.get_full_path(kind, name) if paths else None
    if found is None:
        there = listed(kind)
        todo = nearest(name, there) if there else f"put it into models/{kind}, then choose it"
        raise FileError(f"no such file in models/{kind}", name, todo=todo)
    return Path(found)


def changed(kind: str, name: str | None) -> int:
    """When a file was changed last: another file under the same name is read anew."""
    try:
        return path(kind, name or "").stat().st_mtime_ns
    except (FileError, OSError):
        return 0


def _paths(kind: str) -> Any:
    paths = sys.modules.get("folder_paths")
    if paths is not None and kind not in paths.folder_names_and_paths:
        folder = str(Path(paths.models_dir, kind))
        paths.folder_names_and_paths[kind] = ([folder], paths.supported_pt_extensions)
    return paths
