"""A second pass in the parameters text: A1111's keys, as one table of settings and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SIZE, _SCALE, _STRENGTH = "Hires resize", "Hires upscale", "Denoising strength"
_TEXTS = {"Hires prompt": "prompt", "Hires negative prompt": "negative"}
_NUMBERS = {"Hires steps": ("steps", int), "Hires CFG Scale": ("cfg", float)}
_LISTED = {"Hires sampler": ("sampler", "SAMPLERS"), "Hires schedule type": ("schedule", "SCHEDULES")}


def _registry(name: str) -> Any:
    if name == "UPSCALERS":
        from .upscalers import UPSCALERS

        return UPSCALERS
    from .. import samplers

    return getattr(samplers, name)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def written(hires: Any) -> dict[str, str]:
    """The pairs of a second pass; of what is no table only what A1111 could not read anyway: none."""
    if not isinstance(hires, Mapping):
        return {}
    pairs: dict[str, str] = {}
    if "size" in hires:
        pairs[_SIZE] = "{}x{}".format(*hires["size"])
    else:
        pairs[_SCALE] = _number(hires.get("scale", 2.0))
    upscalers = _registry("UPSCALERS")
    if hires.get("upscaler", "latent") in upscalers:
        pairs["Hires upscaler"] = upscalers[hires.get("upscaler", "latent")].label
    for key, (name, _) in _NUMBERS.items():
        pairs |= {key: _number(hires[name])} if name in hires else {}
    for key, (name, registry) in _LISTED.items():
        pairs |= {key: _registry(registry)[hires[name]].label} if name in hires else {}
    pairs |= {key: hires[name] for key, name in _TEXTS.items() if name in hires}
    pairs[_STRENGTH] = _number(hires.get("strength", 0.7))
    return pairs


def taken(other: dict[str, str], settings: dict[str, Any]) -> None:
    """Moves what a text says of a second pass from `other` to settings; an unknown upscaler leaves it all there."""
    if _SCALE not in other and _SIZE not in other:
        return
    try:
        hires = _read(other, settings.get("strength", 0.7))
    except (ValueError, KeyError):
        return
    settings.pop("strength", None)
    settings["hires"] = hires
    for key in (_SCALE, _SIZE, "Hires upscaler", *_NUMBERS, *_LISTED, *_TEXTS):
        other.pop(key, None)


def _read(pairs: Mapping[str, str], strength: float) -> dict[str, Any]:
    """KeyError, ValueError for what is not known here."""
    hires: dict[str, Any] = {"strength": strength}
    if _SIZE in pairs:
        hires["size"] = [int(side) for side in pairs[_SIZE].split("x")]
    else:
        hires["scale"] = float(pairs[_SCALE])
    label = pairs.get("Hires upscaler", "Latent")
    if label not in (upscalers := _registry("UPSCALERS")):
        raise KeyError(label)
    hires["upscaler"] = upscalers[label].name
    for key, (name, kind) in _NUMBERS.items():
        hires |= {name: kind(pairs[key])} if key in pairs else {}
    for key, (name, registry) in _LISTED.items():
        hires |= {name: _labelled(_registry(registry), pairs[key]).name} if key in pairs else {}
    return hires | {name: pairs[key] for key, name in _TEXTS.items() if key in pairs}


def _labelled(registry: Any, label: str) -> Any:
    found = next((spec for spec in registry if spec.label.lower() == label.lower()), None)
    if found is None and label not in registry:
        raise KeyError(label)
    return found or registry[label]
