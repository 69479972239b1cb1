"""Models on the Hugging Face hub: only the files a model needs, cached, resumed, and usable offline afterwards.

huggingface_hub is imported when a hub id is given and never otherwise.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import FileError, OptionError
from .folder import COMPONENTS, CONFIGS, TOKENIZER, WEIGHTS, pick_weights, shards, variants

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(source: str) -> bool:
    """Whether `source` has the form owner/name and is no path to a weights file."""
    return bool(_ID.fullmatch(source)) and not source.lower().endswith((*WEIGHTS, ".sft", ".safetensor"))


@dataclass(frozen=True)
class Hub:
    """How to reach the hub: a revision (branch, tag or commit), a token, and whether to stay offline.

    `offline` None follows HF_HUB_OFFLINE. The endpoint and the cache are huggingface_hub's own (HF_ENDPOINT, HF_HOME).
    """

    revision: str | None = None
    token: str | bool | None = None
    offline: bool | None = None
    components: tuple[str, ...] = COMPONENTS  # of a pipeline, those that are wanted

    def fetch(self, repo: str, subfolder: str | None = None, variant: str | None = None) -> Path:
        """A local folder or single file with what `repo` needs. FileError says why it cannot be had."""
        with _plain_errors(repo, self.revision):
            import huggingface_hub
            from huggingface_hub import constants

            if self.offline or (self.offline is None and constants.HF_HUB_OFFLINE):
                return self._cached(huggingface_hub, repo, subfolder, variant)
            _quiet_unless_terminal()
            try:
                info = huggingface_hub.HfApi().model_info(repo, revision=self.revision, token=self.token)
            except Exception as error:
                if _unreachable(error) and (kept := self._kept(huggingface_hub, repo, subfolder, variant)):
                    return kept
                raise
            names = [file.rfilename for file in info.siblings or ()]
            wanted = files_wanted(names, subfolder, variant, repo, self.components)
            root = self._download(huggingface_hub, repo, wanted)
            more = [f for name in wanted if name.endswith(".index.json") for f in _shard_names(root, name)]
            if more:
                self._download(huggingface_hub, repo, more)
            return _local(root, wanted, subfolder)

    def file(self, repo: str, choose: Callable[[list[str]], list[str]]) -> Path:
        """The first of the files that `choose` picks from a repository's names; all that it picks are fetched."""
        with _plain_errors(repo, self.revision):
            import huggingface_hub
            from huggingface_hub import constants

            if self.offline or (self.offline is None and constants.HF_HUB_OFFLINE):
                return self._cached_file(huggingface_hub, repo, choose)
            _quiet_unless_terminal()
            try:
                info = huggingface_hub.HfApi().model_info(repo, revision=self.revision, token=self.token)
            except Exception as error:
                if _unreachable(error):
                    with suppress(OSError, FileError):
                        return self._cached_file(huggingface_hub, repo, choose)
                raise
            wanted = choose([file.rfilename for file in info.siblings or ()])
            return self._download(huggingface_hub, repo, wanted) / wanted[0]

    def _cached_file(self, hub: Any, repo: str, choose: Callable[[list[str]], list[str]]) -> Path:
        root = Path(hub.snapshot_download(repo, revision=self.revision, local_files_only=True))
        names = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
        return root / choose(names)[0]

    def _download(self, hub: Any, repo: str, names: list[str]) -> Path:
        """The snapshot folder with every one of `names` in it; complete files are kept, a cut one is resumed.

        The first file settles the commit that the others are taken from, and records it for offline use.
        """

        def get(name: str, revision: str | None) -> Path:
            return Path(hub.hf_hub_download(repo, name, revision=revision, token=self.token))

        root = get(names[0], self.revision).parents[names[0].count("/")]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: get(name, root.name), names[1:]))
        return root

    def _kept(self, hub: Any, repo: str, subfolder: str | None, variant: str | None) -> Path | None:
        """What the cache has of it, where that is all that is needed."""
        try:
            return self._cached(hub, repo, subfolder, variant)
        except (OSError, FileError, OptionError):
            return None

    def _cached(self, hub: Any, repo: str, subfolder: str | None, variant: str | None) -> Path:
        """What an earlier load left in the cache; nothing is asked of the network."""
        root = Path(hub.snapshot_download(repo, revision=self.revision, local_files_only=True))
        names = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
        wanted = files_wanted(names, subfolder, variant, repo, self.components)
        missing = [
            f for n in wanted if n.endswith(".index.json") for f in _shard_names(root, n) if f not in names
        ]
        if missing:
            raise FileError(
                f"{missing[0]} is not in the cache", repo, todo="load it once without offline mode"
            )
        return _local(root, wanted, subfolder)


def files_wanted(
    names: Iterable[str],
    subfolder: str | None,
    variant: str | None,
    repo: str,
    components: tuple[str, ...] = COMPONENTS,
) -> list[str]:
    """The files of a repository that loading reads: configs, tokenizer, and one set of weights a component."""
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    if not inside:
        raise OptionError(
            f"there is no folder {subfolder!r}", repo, "a folder of this repository (--subfolder)"
        )
    top = [name for name in inside if "/" not in name]
    if "model_index.json" in inside:
        found = _pipeline_files(inside, variant, repo, components)
        # unconditional models lie beside it, without folders of their own
        if not any(name.startswith("unet/") for name in inside) and (chosen := pick_weights(top, variant)):
            found += [chosen, *(name for name in top if name in CONFIGS and name not in found)]
    elif chosen := pick_weights(top, variant):
        found = [chosen, *(name for name in top if name in CONFIGS)]
    else:
        weights = sorted(name for name in top if name.endswith(WEIGHTS))
        hint = f"download one of its files: {', '.join(weights[:5])}" if weights else "check the name"
        raise FileError(
            "no diffusers model and not one single weights file", repo, "a model repository", hint
        )
    return [prefix + name for name in found]


def _pipeline_files(
    names: set[str], variant: str | None, repo: str, components: tuple[str, ...]
) -> list[str]:
    found = ["model_index.json"]
    found += [
        n for n in names if n.startswith(("tokenizer/", "tokenizer_2/")) and n.split("/")[-1] in TOKENIZER
    ]
    found += [
        name
        for name in names
        if name in ("scheduler/scheduler_config.json", "feature_extractor/preprocessor_config.json")
    ]
    seen: set[str] = set()
    for component in components:
        files = [
            name.split("/")[1] for name in names if name.startswith(f"{component}/") and name.count("/") == 1
        ]
        chosen = pick_weights(files, variant)
        seen |= set(variants(files))
        found += [f"{component}/{name}" for name in (chosen, "config.json") if name and name in files]
    if variant and variant not in seen:
        known = f"one of {', '.join(sorted(seen))}" if seen else "none: it has only one version"
        raise OptionError(f"no component has the variant {variant!r}", repo, known)
    return sorted(found)


def _shard_names(root: Path, index: str) -> list[str]:
    folder = index.rpartition("/")[0]
    return [f"{folder}/{name}" if folder else name for name in shards(root / index)]


def _local(root: Path, wanted: list[str], subfolder: str | None) -> Path:
    """The folder that was fetched, or the single weights file where the repository is one."""
    folder = root / subfolder if subfolder else root
    weights = [name for name in wanted if name.endswith(WEIGHTS)]
    alone = len(wanted) == 1 and len(weights) == 1
    return root / weights[0] if alone else folder


def _quiet_unless_terminal() -> None:
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()


class _plain_errors:
    """Turns the hub library's failures into one line each."""

    def __init__(self, repo: str, revision: str | None) -> None:
        self.repo, self.revision = repo, revision

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, (FileError, OptionError)) or not isinstance(error, Exception):
            return
        if isinstance(error, ImportError):
            raise FileError(
                "a hub id needs the package huggingface_hub", self.repo, todo="pip install huggingface_hub"
            ) from error
        what, todo = self._explain(type(error).__name__, error)
        if what:
            raise FileError(what, self.repo, todo=todo) from error

    def _explain(self, name: str, error: Exception) -> tuple[str | None, str | None]:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if name == "GatedRepoError" or status == 403:
            return (
                "this model is gated",
                "accept its terms on the hub and give your token (HF_TOKEN or `hf auth login`)",
            )
        if name == "RevisionNotFoundError":
            return f"there is no revision {self.revision!r}", "check --revision"
        if name == "RepositoryNotFoundError" or status == 401:
            return (
                "no such file here and no such model on the hub",
                "check the name; a private model needs a token",
            )
        if name in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
            return "not in the cache, and the network is off or out of reach", "load it once while online"
        if _unreachable(error) or isinstance(error, OSError):
            what = f"the hub could not be reached ({name}: {str(error)[:200]})"
            return what, "try again: the files that are complete are kept"
        return None, None


def _unreachable(error: Exception) -> bool:
    """A connection that failed or broke, as against an answer that says no."""
    network = type(error).__module__.split(".")[0] in (
        "httpx",
        "httpx2",
        "httpcore",
        "requests",
        "urllib3",
        "http",
    )
    return (network or isinstance(error, ConnectionError)) and getattr(error, "response", None) is None
