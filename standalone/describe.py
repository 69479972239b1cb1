"""What a weights file or folder is: kind, family, prediction, dtypes, parts, parameters, what is missing or unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..controlnet.ip_file import about
from ..core.checkpoint import open_weights
from ..core.entry import Entry, Pages
from ..core.errors import FileError
from ..core.family import identify
from ..core.fill import is_finite, short_name
from ..core.kinds import adapter_kind, foreign_kind, other_kind
from ..core.parts import Parts, parts_of, shapes
from ..core.shapes import Shapes
from .folder import Folder
from .prediction import Evidence, predict

_ALONE = {
    "unet": "a UNet alone",
    "vae": "a VAE",
    "text_encoder": "a text encoder",
    "ema": "an averaged UNet alone",
}


def describe(path: str | Path, *, check: bool = False) -> dict[str, Any]:
    """A JSON-able description of a weights file or a diffusers folder; nothing is loaded.

    Keys: path, container, kind, label, dtypes {name: parameters}, parameters, parts {name: {tensors, parameters,
    dtypes}}, missing (parts, each with the option that supplies it), ignored {reason: tensors}, unknown [names],
    metadata, notes; for models also family, task, prediction, zero_snr, shift, sigma_min, sigma_max, latent_channels
    and reasons. `check` reads every tensor and lists in not_finite those with NaN or infinite values.
    Raises FileError for what is no weights file.
    """
    path = Path(path)
    if path.is_dir():
        folder = Folder(path)
        found = _facts(path, "folder", _everything(folder.parts), folder.metadata, folder.notes)
        _add_parts(found, folder.parts, {}, folder.configs.get("scheduler", {}))
        return _checked(found, _everything(folder.parts), check)
    checkpoint = open_weights(path)
    found = _facts(
        path, checkpoint.container, checkpoint.entries, checkpoint.metadata, list(checkpoint.notes)
    )
    kind = adapter_kind(checkpoint.shapes)
    if kind:
        found |= {"kind": kind.name, "label": kind.label}
        if kind.name == "ip-adapter":
            found["reasons"] = about(checkpoint)
    else:
        _add_parts(found, parts_of(checkpoint), checkpoint.shapes, {})
    return _checked(found, checkpoint.entries, check)


def _facts(
    path: Path, container: str, tensors: Mapping[str, Entry], metadata: Mapping[str, str], notes: list[str]
) -> dict[str, Any]:
    return {
        "path": str(path),
        "container": "pickle" if container == "zip" else container,
        "kind": "unknown",
        "label": "a weights file of an unknown kind",
        **_count(tensors),
        "parts": {},
        "missing": [],
        "ignored": {},
        "unknown": [],
        "metadata": dict(metadata),
        "notes": notes,
    }


def _count(tensors: Mapping[str, Entry]) -> dict[str, Any]:
    dtypes: Counter[str] = Counter()
    for entry in tensors.values():
        dtypes[short_name(entry.dtype)] += entry.numel
    return {"tensors": len(tensors), "parameters": sum(dtypes.values()), "dtypes": dict(dtypes.most_common())}


def _pieces(parts: Parts) -> dict[str, Mapping[str, Entry]]:
    texts = {
        "text_encoder" if i == 0 else f"text_encoder_{i + 1}": text for i, text in enumerate(parts.texts)
    }
    found = {"unet": parts.unet, "ema": parts.ema, "vae": parts.vae, **texts}
    return {name: tensors for name, tensors in found.items() if tensors}


def _everything(parts: Parts) -> dict[str, Entry]:
    return {f"{name}.{key}": entry for name, part in _pieces(parts).items() for key, entry in part.items()}


def _add_parts(found: dict[str, Any], parts: Parts, every: Shapes, scheduler: Mapping[str, Any]) -> None:
    """Fill in what the parts say; a file without any is one of the other kinds, or nobody knows it."""
    pieces = _pieces(parts)
    found["parts"] = {name: _count(tensors) for name, tensors in pieces.items()}
    found["ignored"] = dict(Counter(parts.ignored.values()))
    found["unknown"] = parts.unknown
    other = foreign_kind(every) if pieces else other_kind(every)
    if other:
        found |= {"kind": other.name, "label": other.label}
    if other or not pieces:
        return
    unet = parts.unet or parts.ema
    if not unet:
        first = next(iter(pieces))
        found |= {"kind": first, "label": _ALONE[first] if len(pieces) == 1 else " and ".join(pieces)}
        return
    _add_model(found, parts, unet, scheduler)


def _add_model(
    found: dict[str, Any], parts: Parts, unet: dict[str, Entry], scheduler: Mapping[str, Any]
) -> None:
    try:
        identity = identify(shapes(unet))
    except FileError as error:
        found |= {"kind": "unet", "label": error.what, "reasons": [str(error)]}
        return
    family = identity.family
    evidence = Evidence(
        family.name,
        identity.task,
        found["path"],
        parts.markers,
        found["metadata"],
        scheduler,
        unet,
        identity.latent_channels,
    )
    guess = predict(evidence)
    lacking = [] if parts.vae else ["VAE (--vae)"]
    lacking += [f"text encoder {i + 1} (--text-encoder)" for i in range(len(parts.texts), family.texts)]
    task = {"base": "", "inpaint": ", inpainting", "depth": ", depth to image"}[identity.task]
    found |= {
        "kind": "model" if not lacking else "unet" if list(_pieces(parts)) == ["unet"] else "model",
        "label": family.label + task,
        "family": family.name,
        "task": identity.task,
        "prediction": guess.kind,
        "zero_snr": guess.zero_snr,
        "shift": guess.shift,
        "sigma_min": guess.sigma_min,
        "sigma_max": guess.sigma_max,
        "latent_channels": identity.latent_channels,
        "missing": lacking,
        "reasons": [*identity.reasons, *guess.reasons],
    }


def _checked(found: dict[str, Any], tensors: Mapping[str, Entry], check: bool) -> dict[str, Any]:
    if check:
        found["not_finite"] = [name for name, entry in tensors.items() if not _entry_is_finite(entry)]
    return found


def _entry_is_finite(entry: Entry) -> bool:
    return not entry.dtype.is_floating_point or is_finite(Pages().tensor(entry))
