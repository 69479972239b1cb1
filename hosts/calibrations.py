"""Calibrations that a host's user keeps in a folder: which there are, and what each was fitted to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..samplers.calibration_file import is_calibration
from ..samplers.levels import NoiseLevels
from ..samplers.sampler_files import of_file
from ..samplers.spec import SamplerSpec
from .log import warn_once
from .offers import SamplerOffer

FOLDER = "sigmagraft"  # within a host's folder of models


def files_in(folders: Iterable[str | Path]) -> dict[str, Path]:
    """Every file that may be a calibration, by its path within its folder; of two alike the first folder's."""
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        for path in sorted(_files(folder)):
            name = path.relative_to(folder).as_posix()
            if is_calibration(name) and name.isprintable():
                found.setdefault(name, path)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder, followlinks=True):
        yield from (Path(where, name) for name in names)


def offer_in(name: str, path: Path) -> SamplerOffer:
    """The sampler of a file under the name a host lists it by. FileError where it is absent or damaged."""
    spec = of_file(str(path))
    assert spec is not None  # files_in gives none but these
    return SamplerOffer(name, name, spec)


def calibration_offers(folders: Iterable[str | Path]) -> list[SamplerOffer]:
    """The samplers of all files that can be read; of each of the others the console is told once."""
    return [offer for name, path in files_in(folders).items() if (offer := _tried(name, path))]


def _tried(name: str, path: Path) -> SamplerOffer | None:
    try:
        return offer_in(name, path)
    except Exception as error:  # whatever lies in a folder, the host's lists must come about
        warn_once(f"[SigmaGraft] left out: {error}")
        return None


def told_of(spec: SamplerSpec) -> str:
    """What a calibration was fitted to, in a line; "" for any other sampler."""
    if not spec.sigmas:
        return ""
    facts = _facts(spec)
    words = [f"its own {len(spec.sigmas) - 1} steps"]
    if isinstance(model := facts.get("model"), str):
        words.append(f"fitted to {Path(model).name}")
    if isinstance(guidance := facts.get("guidance"), int | float):
        words.append(f"cfg {guidance:g}")
    if isinstance(size := facts.get("size"), list):
        words.append("x".join(map(str, size)))
    return ", ".join(words)


def warn_of_kind(spec: SamplerSpec, levels: NoiseLevels) -> None:
    """Tell the console, once, where a sampler was fitted to a model of the other kind, diffusion or rectified flow."""
    prediction = _facts(spec).get("prediction")
    if prediction is not None and (prediction == "flow") != levels.is_flow:
        ours, this = (
            ("rectified flow", "diffusion") if prediction == "flow" else ("diffusion", "rectified flow")
        )
        warn_once(f"[SigmaGraft] {spec.name}: fitted to a model of {ours}, this one is of {this}")


def _facts(spec: SamplerSpec) -> Mapping[str, Any]:
    facts = getattr(spec, "facts", None)
    return facts if isinstance(facts, Mapping) else {}
