"""Guidance as a page, the API and a picture write it: `pag:scale=3`, one of each kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...guidance import GUIDANCES, Chosen, GuidanceSpec, read_guidances
from .choice import KEY

NAME = "guidance"  # within the picture's key, as the runner has it


def chosen_of(args: Sequence[Any], axis: str | None = None) -> list[Chosen]:
    """The guidance of a script's args: a switch and options for each kind (the page), or texts (the API).

    `axis` is a plot's, and wins. OptionError for what is not registered, out of range or there twice.
    """
    if axis is not None:
        return read_guidances(parted(axis))
    if args and not isinstance(args[0], bool):
        given = [args[0]] if isinstance(args[0], str) else list(args[0] or ())
        given += [arg for arg in args[1:] if isinstance(arg, str)]
        return read_guidances([text for one in given for text in parted(str(one))])
    pairs = zip(GUIDANCES, args[::2], args[1::2], strict=False)
    return read_guidances([_text(spec, options) for spec, on, options in pairs if on])


def parted(text: str) -> list[str]:
    """`pag:scale=3; freeu` -> each."""
    return [part.strip() for part in text.replace("\n", ";").split(";") if part.strip()]


def _text(spec: GuidanceSpec, options: Any) -> str:
    return f"{spec.name}:{str(options or '').replace(';', ',').replace(chr(10), ',')}"


def write(told: dict[str, Any], chosen: Sequence[Chosen]) -> None:
    """Into a picture's parameters, as the runner writes it; what another cell of a plot left there goes."""
    kept = {name: value for name, value in json.loads(told.pop(KEY, None) or "{}").items() if name != NAME}
    texts = [one.text for one in chosen]
    kept |= {NAME: texts if len(texts) > 1 else texts[0]} if texts else {}
    if kept:
        told[KEY] = json.dumps(kept, ensure_ascii=False)


def read_back(params: Mapping[str, Any]) -> dict[str, str]:
    """name -> options of each kind that a picture's parameters name, ours or the runner's."""
    try:
        told = json.loads(params.get(KEY) or "{}")
    except (TypeError, ValueError):
        return {}
    given = told.get(NAME, ()) if isinstance(told, dict) else ()
    texts = [given] if isinstance(given, str) else [str(one) for one in given]
    found = {name: options for name, _, options in (text.partition(":") for text in texts)}
    return {GUIDANCES[name].name: options for name, options in found.items() if name in GUIDANCES}
