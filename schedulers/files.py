"""Where a scheduler's JSON is: a file, a folder, or a repository on the hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..core.errors import FileError

NAME = "scheduler_config.json"
# what huggingface_hub is told
HUB_OPTIONS = ("revision", "token", "cache_dir", "force_download", "local_files_only")
# what people give every from_pretrained alike, and a config has no use for
IDLE_OPTIONS = (
    "use_safetensors",
    "variant",
    "torch_dtype",
    "proxies",
    "resume_download",
    "mirror",
    "use_auth_token",
)


def read_config(source: str | os.PathLike[str], subfolder: str | None, hub: dict[str, Any]) -> dict[str, Any]:
    """The entries of `scheduler_config.json`. FileError where there is none or it is no JSON object."""
    path = _local(Path(source), subfolder) if Path(source).exists() else _fetch(str(source), subfolder, hub)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"not readable as JSON ({error})", where=path) from error
    if not isinstance(value, dict):
        raise FileError("not a JSON object", where=path)
    return value


def write_config(folder: str | os.PathLike[str], text: str) -> Path:
    """`text` as the folder's scheduler_config.json, complete or not there. FileError where it cannot be."""
    target = Path(folder) / NAME
    part = target.with_name(f"{NAME}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except OSError as error:
        raise FileError(f"cannot be written ({error})", where=target) from error
    return target


def _local(path: Path, subfolder: str | None) -> Path:
    if path.is_file():
        return path
    places = [path / subfolder / NAME] if subfolder else []
    # a scheduler's own folder is taken with a subfolder too, as people are used to
    for place in [*places, path / NAME]:
        if place.is_file():
            return place
    inside = path / "scheduler" / NAME
    todo = 'pass subfolder="scheduler"' if inside.is_file() and subfolder is None else "check the folder"
    raise FileError(f"no {NAME}", where=path / (subfolder or ""), todo=todo)


def _fetch(repo: str, subfolder: str | None, hub: dict[str, Any]) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise FileError(
            "a hub id needs the package huggingface_hub", repo, todo="pip install huggingface_hub"
        ) from None
    try:
        return Path(hf_hub_download(repo, NAME, subfolder=subfolder, **hub))
    except Exception as error:
        what, todo = _explain(type(error).__name__, error)
        raise FileError(what, repo, todo=todo) from error


def _explain(kind: str, error: Exception) -> tuple[str, str]:
    """One line and what to do; GatedRepoError is a RepositoryNotFoundError, so the name tells them apart."""
    if kind == "GatedRepoError":
        return (
            "this model is gated",
            "accept its terms on the hub and give your token (HF_TOKEN or `hf auth login`)",
        )
    if kind in ("RepositoryNotFoundError", "HFValidationError"):
        return (
            "no such folder here and no such model on the hub",
            "check the name; a private model needs a token",
        )
    if kind in ("EntryNotFoundError", "RemoteEntryNotFoundError"):
        return f"it has no {NAME} there", 'pass subfolder="scheduler" for a pipeline'
    if kind == "RevisionNotFoundError":
        return "there is no such revision", "check revision="
    if kind in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        return "not in the cache, and the network is off or out of reach", "load it once while online"
    return f"the hub could not be reached ({kind}: {str(error)[:200]})", "try again"
