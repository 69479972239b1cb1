"""LoRA in a web UI: the host's own `<lora:...>`, with ours in front of it.

What a host reads whole stays its own; a tag with blocks or curves, and a file of a family or naming that it lacks, is
ours. Both act in one prompt. Everything of ours hangs on the objects of the loaded model and is taken off after a job.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import FileError, OptionError, SigmaGraftError
from ...loras import Bound, Strength, read_lora
from ...loras.bind import examine
from ..log import guarded, logger
from ..loras import Shelf, bound_to
from . import lora_forge, lora_place
from .lora_files import FAMILIES, entry_of, file_of, host_reads
from .lora_forge import ForgeModel
from .lora_ldm import LdmModel
from .lora_tags import Tag, tags_of

NAME, ATTRIBUTE = "lora", "sigmagraft_lora"
Model = ForgeModel | LdmModel


class Graft:
    """The extra network of the name `lora`: gives the host its tags, and takes ours."""

    name = NAME

    def __init__(self, host: Any | None) -> None:
        self.host = host
        self.shelf = Shelf()
        self._reads: dict[tuple[Path, int, int], bool] = {}

    def __getattr__(self, name: str) -> Any:  # what other extensions look for in the host's object
        return getattr(self.__dict__["host"], name)

    def activate(self, p: Any, params_list: list[Any]) -> None:
        """Called at the start of every batch and pass, with the tags of its prompt."""
        model, tags = model_of(p), tags_of(params_list)
        ours = [tag for tag in tags if model is not None and self._is_ours(tag, model)]
        if self.host is not None:
            self.host.activate(p, [tag.params for tag in tags if tag not in ours])
        if model is not None:
            try:
                self._put(p, model, ours)
            except SigmaGraftError as error:
                model.off()
                stop(p, error)

    def deactivate(self, p: Any) -> None:
        """Called when a job is over."""
        if self.host is not None:
            self.host.deactivate(p)
        model = model_of(p)
        if model is not None:
            model.off()
        lora_place.forget()

    def _is_ours(self, tag: Tag, model: Model) -> bool:
        if tag.asked or self.host is None:
            return True
        if model.layout is None:
            return False
        try:
            path = file_of(tag.name)
            key = (path, path.stat().st_mtime_ns, id(model))
            if key not in self._reads:
                self._reads[key] = host_reads(examine(read_lora(path), model.layout.targets), families())
            return not self._reads[key]
        except (FileError, OSError) as error:  # the host says in its own way what it cannot find or read
            logger.info("%s is left to the web UI: %s", tag.name, error)
            return False

    def _put(self, p: Any, model: Model, tags: Sequence[Tag]) -> None:
        if tags and model.layout is None:
            where = f"<lora:{tags[0].text}>"
            raise OptionError(
                "a model that is not SD1, SD2 or SDXL", where, todo="leave it to the web UI: one weight alone"
            )
        wanted = [(file_of(tag.name), *tag.read()) for tag in tags]
        files = self.shelf.read(path for path, _, _ in wanted)
        acting: list[tuple[Bound, Strength]] = []
        for file, (_, strength, force) in zip(files, wanted, strict=True):
            acting.append((bound_to(file, model.layout, force), strength))  # type: ignore[arg-type]
        changed = [f"{path}@{path.stat().st_mtime_ns}" for path, _, _ in wanted]
        model.put(acting, f"sigmagraft {[tag.text for tag in tags]} {changed}")
        for bound, _ in acting:
            _tell(p, bound)
        _write_hashes(p, tags)


def families() -> frozenset[str]:
    """The families that this host reads."""
    if "backend.patcher.lora" not in sys.modules and "ldm_patched.modules.lora" not in sys.modules:
        return FAMILIES["a1111"]
    return FAMILIES["forge" if lora_forge.adapter_base() is None else "adapters"]


def model_of(p: Any) -> Model | None:
    """What ours puts on the model that is loaded; None before one is, and for kinds of models that it does not know."""
    loaded = getattr(p, "sd_model", None)
    made: Model | None = getattr(loaded, ATTRIBUTE, None)
    if loaded is None or made is not None:
        return made
    if getattr(loaded, "forge_objects_original", None) is not None:
        made = ForgeModel(loaded)
    elif hasattr(getattr(loaded, "model", None), "diffusion_model"):
        made = LdmModel(loaded)
    if made is not None:
        setattr(loaded, ATTRIBUTE, made)
    return made


def stop(p: Any, error: SigmaGraftError) -> None:
    """Has a job end with our message: a host reports what an extra network raises, and draws without it."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    p.setup_conds = p.calculate_hr_conds = refuse


def _tell(p: Any, bound: Bound) -> None:
    """What is not used, beside the picture and on the console."""
    lines = list(bound.report.warnings())
    if bound.file.embeddings:
        names = ", ".join(bound.file.embeddings)
        lines.append(f"{bound.file.path.name}: its textual inversions ({names}) are not used here")
    for line in lines:
        logger.warning("%s", line)
        if hasattr(p, "comment"):
            p.comment(line)


def _write_hashes(p: Any, tags: Sequence[Tag]) -> None:
    """Our files among the host's `Lora hashes`, where it writes those."""
    from modules import shared

    if not getattr(shared.opts, "lora_add_hashes_to_infotext", False):
        return
    kept = getattr(p, "lora_hashes", None) or {}
    for tag in tags:
        entry = entry_of(tag.name)
        if entry is not None:
            with guarded("reading a LoRA's hash"):
                entry.read_hash()
            if entry.shorthash:
                kept[tag.name.translate(str.maketrans("", "", ":,"))] = entry.shorthash
    if kept:
        p.lora_hashes = kept
        p.extra_generation_params["Lora hashes"] = ", ".join(
            f"{name}: {value}" for name, value in kept.items()
        )


def graft() -> None:
    """Puts ours in front of the host's `lora`; again changes nothing. Late: the host registers its own last."""
    networks: Any = sys.modules.get("modules.extra_networks")
    if networks is None:
        return
    there = networks.extra_network_registry.get(NAME)
    if isinstance(there, Graft):
        return
    ours = Graft(there)
    networks.extra_network_registry[NAME] = ours
    for alias, network in list(networks.extra_network_aliases.items()):
        if network is there:
            networks.extra_network_aliases[alias] = ours


def ungraft() -> None:
    """The host's own `lora` again, and nothing of ours on its model."""
    networks: Any = sys.modules.get("modules.extra_networks")
    ours = getattr(networks, "extra_network_registry", {}).get(NAME)
    if networks is not None and isinstance(ours, Graft):
        networks.extra_network_registry.pop(NAME)
        if ours.host is not None:
            networks.extra_network_registry[NAME] = ours.host
        for alias, network in list(networks.extra_network_aliases.items()):
            if network is ours:
                networks.extra_network_aliases[alias] = ours.host
    _clear_model()
    lora_forge.leave()
    lora_place.forget()


def _clear_model() -> None:
    data = getattr(sys.modules.get("modules.sd_models"), "model_data", None)
    loaded = getattr(data, "sd_model", None)
    made = getattr(loaded, ATTRIBUTE, None)
    if made is not None:
        made.off()
        delattr(loaded, ATTRIBUTE)
