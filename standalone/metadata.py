"""The parameters text inside a picture: written so that A1111 reads it back, and read so that anyone's serves
us.

The text is the prompt, a line ``Negative prompt: ...`` and one last line of ``Key: value`` pairs; values
with a comma, colon or newline are JSON strings. A1111's keys carry what A1111 knows. Whatever its reading
of the text does not give back exactly (a prompt with blank lines, our sampler options, the model's path)
travels as JSON under the one key ``SigmaGraft``, which A1111 shows and ignores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import __version__
from . import metadata_hires

if TYPE_CHECKING:
    from ..core.registry import Registry

OURS = "SigmaGraft"
NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_MINIMUM_PAIRS = 3  # fewer, and A1111 takes the last line for a line of the prompt
Settings = dict[str, Any]


@dataclass(frozen=True)
class Parameters:
    """What a text says: `settings` in our names, `other` the pairs which have no meaning here."""

    settings: Settings
    other: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Field:
    """One A1111 key: the setting it carries, how its value is written and read; None is "not in the text"."""

    key: str
    setting: str
    write: Callable[[Any], str | None] = str
    read: Callable[[str], Any] = str


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _hashes(text: str) -> dict[str, str]:
    """`name: hash, name: hash`."""
    return dict(item.rsplit(": ", 1) for item in text.split(", "))  # type: ignore[misc]


def _size(text: str) -> list[int]:
    width, height = text.split("x")
    return [int(width), int(height)]


def _label(registry: str) -> Callable[[str], str]:
    def label(name: str) -> str:
        specs = _registry(registry)
        return specs[name].label if name in specs else name

    return label


def _named(registry: str) -> Callable[[str], str]:
    def name(label: str) -> str:
        specs = _registry(registry)
        labelled = (spec.name for spec in specs if spec.label.lower() == label.lower())
        return next(labelled, specs[label].name if label in specs else label)

    return name


def _registry(name: str) -> Registry[Any]:
    from .. import samplers  # imports torch; the command line reads pictures without it until it must

    return getattr(samplers, name)


_RNG = {"cpu": "CPU", "nv": "NV"}  # A1111 writes none for its default, the device's own generator
_EMPHASIS = {"a1111-no-norm": "No norm", "none": "None"}  # nor for its default "Original"

_FIELDS = (
    _Field("Steps", "steps", str, int),
    _Field("Sampler", "sampler", _label("SAMPLERS"), _named("SAMPLERS")),
    _Field("Schedule type", "schedule", _label("SCHEDULES"), _named("SCHEDULES")),
    _Field("CFG scale", "cfg", _number, float),
    _Field("Seed", "seed", str, int),
    _Field("Size", "size", lambda size: f"{size[0]}x{size[1]}", _size),
    _Field("Model hash", "model_hash"),
    _Field("Model", "model_name"),
    _Field("Lora hashes", "lora_hashes", lambda hashes: ", ".join(map(": ".join, hashes.items())), _hashes),
    _Field("Denoising strength", "strength", _number, float),
    _Field("Clip skip", "clip_skip", str, int),
    _Field("Mask blur", "mask_blur", _number, float),
    _Field("Masked area padding", "only_masked", str, int),
    _Field("ENSD", "ensd", str, int),
    _Field("RNG", "noise", _RNG.get, str.lower),
    _Field(
        "Emphasis", "emphasis", _EMPHASIS.get, {label: name for name, label in _EMPHASIS.items()}.__getitem__
    ),
)
_OPTIONS = {
    "eta": "Eta",
    "s_churn": "Sigma churn",
    "s_tmin": "Sigma tmin",
    "s_tmax": "Sigma tmax",
    "s_noise": "Sigma noise",
}
_SCHEDULE_OPTIONS = {
    "rho": "Schedule rho",
    "sigma_max": "Schedule max sigma",
    "sigma_min": "Schedule min sigma",
    "alpha": "Beta schedule alpha",
    "beta": "Beta schedule beta",
}


def to_text(settings: Mapping[str, Any]) -> str:
    """The parameters text of one picture. `settings` are JSON-able; None and what is empty are left out."""
    given = {name: value for name, value in settings.items() if value not in (None, "", {}, [], ())}
    wanted = json.loads(json.dumps(given))
    pairs = _pairs(wanted)
    read = from_text(_layout(wanted, pairs)).settings
    rest = {name: value for name, value in wanted.items() if read.get(name) != value}
    rest |= {name: None for name in read if name not in wanted}
    if rest:
        pairs[OURS] = json.dumps(rest, ensure_ascii=False)
    return _layout(wanted, pairs)


def _pairs(settings: Settings) -> dict[str, str]:
    pairs = {"Version": f"{OURS} {__version__}"}
    written = {f.key: f.write(settings[f.setting]) for f in _FIELDS if f.setting in settings}
    for setting, keys in (("options", _OPTIONS), ("schedule_options", _SCHEDULE_OPTIONS)):
        options = settings.get(setting) or {}
        written |= {key: _number(options[name]) for name, key in keys.items() if name in options}
    if "hires" in settings:
        written |= metadata_hires.written(settings["hires"])
    if "only_masked" in settings:
        written["Inpaint area"] = "Only masked"
    return {key: value for key, value in written.items() if value is not None} | pairs


def _layout(settings: Settings, pairs: Mapping[str, str]) -> str:
    lines = [_guard(settings.get("prompt", ""))]
    if settings.get("negative"):
        lines.append(f"{NEGATIVE} {_guard(settings['negative'])}")
    return "\n".join([*lines, ", ".join(f"{key}: {_quote(value)}" for key, value in pairs.items())])


def _guard(prompt: str) -> str:
    """Keep a prompt's own line `Negative prompt:` from ending it: A1111 drops a lone backslash from a
    prompt.
    """
    return re.sub(rf"(?m)^(\s*)(?={NEGATIVE})", r"\1\\", prompt)


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def from_text(text: str) -> Parameters:
    """Read a parameters text, ours or A1111's. A value that does not parse is left among `other`."""
    *lines, last = text.strip().split("\n")
    pairs = {key: _unquote(value) for key, value in _PAIR.findall(last)}
    if len(_PAIR.findall(last)) < _MINIMUM_PAIRS:
        lines, pairs = [*lines, last], {}
    prompt, negative = _prompts(lines)
    settings, other = _settings(pairs)
    if prompt:
        settings["prompt"] = prompt
    if negative:
        settings["negative"] = negative
    for name, value in _extras(other.pop(OURS, None)).items():
        settings.pop(name, None) if value is None else settings.update({name: value})
    return Parameters(settings, other)


def _prompts(lines: list[str]) -> tuple[str, str]:
    """A1111's rule: lines stripped, everything from a line `Negative prompt:` on is the negative one."""
    parts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE):
            negative = True
            line = line[len(NEGATIVE) :].strip()
        part = parts[negative]
        if part or line:
            part.append(line)
    return "\n".join(parts[0]), "\n".join(parts[1])


def _settings(pairs: dict[str, str]) -> tuple[Settings, dict[str, str]]:
    settings: Settings = {}
    other = dict(pairs)
    made_here = other.pop("Version", "").startswith(OURS)
    other.pop("Inpaint area", None)
    for row in _FIELDS:
        if row.key in pairs:
            try:
                settings[row.setting] = row.read(pairs[row.key])
            except (ValueError, KeyError):
                continue
            del other[row.key]
    for setting, keys in (("options", _OPTIONS), ("schedule_options", _SCHEDULE_OPTIONS)):
        options = {name: float(other.pop(key)) for name, key in keys.items() if _is_number(other.get(key))}
        if options:
            settings[setting] = options
    metadata_hires.taken(other, settings)
    if settings:
        settings.setdefault("emphasis", "a1111")
    if not made_here and settings:
        _split_sampler(settings)
        _theirs(settings, other)
        settings.setdefault("noise", "nv")  # A1111's silence means the GPU's generator, which `nv` computes
    return settings, other


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and float(text) == float(text)
    except ValueError:
        return False


def _split_sampler(settings: Settings) -> None:
    """Before A1111 1.9 the schedule was the sampler's last words ("DPM++ 2M Karras")."""
    if "schedule" in settings:
        if settings["schedule"].lower() == "automatic":
            del settings["schedule"]
        return
    for spec in _registry("SCHEDULES"):
        label = str(settings.get("sampler", ""))
        if label.lower().endswith(" " + spec.label.lower()):
            settings["sampler"] = _named("SAMPLERS")(label[: -len(spec.label) - 1])
            settings["schedule"] = spec.name
            return


def _theirs(settings: Settings, other: dict[str, str]) -> None:
    """A schedule's name as A1111 means it, and of its options those that the schedule has."""
    specs = _registry("SCHEDULES")
    at_a1111 = f"{settings.get('schedule')}@a1111"
    if at_a1111 in specs:
        settings["schedule"] = specs[at_a1111].name
    samplers, sampler = _registry("SAMPLERS"), settings.get("sampler", "dpmpp_2m")
    schedule = settings.get("schedule") or (samplers[sampler].default_schedule if sampler in samplers else "")
    takes = {option.name for option in specs[schedule].options} if schedule in specs else set()
    options = settings.pop("schedule_options", {})
    other |= {_SCHEDULE_OPTIONS[name]: _number(value) for name, value in options.items() if name not in takes}
    if kept := {name: value for name, value in options.items() if name in takes}:
        settings["schedule_options"] = kept


def _extras(text: str | None) -> Settings:
    try:
        extras = json.loads(text) if text else {}
    except ValueError:
        return {}
    return extras if isinstance(extras, dict) else {}
