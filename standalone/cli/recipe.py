"""The settings of a run: defaults, over them a picture's own (--from-image), over them what was given."""

from __future__ import annotations

import hashlib
import os
import threading
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import FileError, OptionError, nearest
from .. import metadata, output
from ..like import filled
from . import control_options, ip_adapter_options, lora_options, pass_options, state
from .options import DEFAULTS, LOADING

Settings = dict[str, Any]
_PATHS = ("model", "vae", "text_encoder", "image", "mask", "refiner")
_FLAGS = ("resize_mask", "invert_mask", "soft")
_TEXTS = (
    *_PATHS,
    "prompt",
    "negative",
    "cfg_interval",
    "sampler",
    "schedule",
    "emphasis",
    "noise",
    "step_noise",
    "noise_type",
    "resize",
    "fill",
    "like",
    "model_hash",
    "model_name",
)
_LOADING_TEXTS = ("prediction", "variant", "subfolder", "revision", "dtype")
_KINDS: dict[str, Any] = (
    dict.fromkeys((*_TEXTS, *_LOADING_TEXTS), str)
    | dict.fromkeys(("steps", "seed", "clip_skip", "only_masked", "ensd", "overlap"), int)
    | dict.fromkeys(
        ("cfg", "cfg_rescale", "strength", "mask_blur", "shift", "aesthetic_score", "switch"), (int, float)
    )
    | dict.fromkeys(_FLAGS, bool)
    | {"options": dict, "schedule_options": dict, "lora_hashes": dict}
)
_INPUTS = ("image", "mask", "resize", "resize_mask", "invert_mask", "expand", "fill", "overlap")
_PAIRS = ("size", "original_size", "crop", "target_size")
_LISTS = ("sigmas", "timesteps")
_HASH_DIGITS = 10  # as many of the SHA-256 as A1111 writes


def settings_of(args: Namespace) -> tuple[Settings, list[str]]:
    """All settings of the run, and notes for a person about what a picture's text held and cannot be done."""
    given = vars(args).copy()
    name, options = given.pop("sampler", (None, {}))
    apart = dict(given.pop("option", []))
    named, options = set(options) - set(apart), options | apart
    if name is not None:
        given["sampler"] = name
    schedule_options = _take_schedule(given)
    _check_steps(given, schedule_options)
    recorded, notes = _recorded(given)
    pass_options.gather(given, recorded)
    if name is not None and name != recorded.get("sampler"):
        # they were the other sampler's
        _drop(recorded, "options", "schedule", "schedule_options", "step_noise", "noise_type")
    _drop_steps(given, recorded)
    _drop_ways(given, recorded)
    if "guidance" in given:
        given["guidance"] = given["guidance"][0] if len(given["guidance"]) == 1 else given["guidance"]
        if _base(given) != _base(recorded):
            recorded.pop("cfg", None)  # it means something else there
    settings = DEFAULTS | filled(recorded | given)
    settings["options"] = recorded.get("options", {}) | options
    settings["named_options"] = named
    if schedule_options := recorded.get("schedule_options", {}) | schedule_options:
        settings["schedule_options"] = schedule_options
    return settings, notes


def _base(settings: Settings) -> bool:
    """Whether the guidance is cfg++."""
    said = settings.get("guidance", [])
    return "cfg++" in ([said] if isinstance(said, str) else said)


def _recorded(given: Settings) -> tuple[Settings, list[str]]:
    if "state" in given:
        return state.read(given["state"], _usable), []
    return _from_picture(given) if "from_image" in given else ({}, [])


def _take_schedule(given: Settings) -> Settings:
    """Leaves the schedule's bare name in `given`. The options named with it and apart."""
    name, options = given.pop("schedule", (None, {}))
    if name is not None:
        given["schedule"] = name
    return options | dict(given.pop("schedule_option", []))


def _check_steps(given: Settings, schedule_options: Settings) -> None:
    """OptionError for two ways to say the steps, by the names they have here."""
    said = [name for name in (*_LISTS, "schedule") if name in given]
    if len(said) > 1:
        what = " and ".join(f"--{name}" for name in said)
        raise OptionError(f"{what} together", expected="one of them")
    if schedule_options and said in (["sigmas"], ["timesteps"]):
        raise OptionError(f"--schedule-option with --{said[0]}", todo="leave it out")


def _drop_steps(given: Settings, recorded: Settings) -> None:
    """What a picture says of its steps, where another schedule or list is given here."""
    if any(name in given for name in _LISTS):
        _drop(recorded, "schedule", "schedule_options", "steps", *_LISTS)
    elif "schedule" in given or "steps" in given:
        _drop(recorded, *_LISTS)
    if given.get("schedule", recorded.get("schedule")) != recorded.get("schedule"):
        _drop(recorded, "schedule_options")


def _drop_ways(given: Settings, recorded: Settings) -> None:
    """What a picture says of another system's ways, where this run is to be like yet another."""
    if "like" in given and given["like"] != recorded.get("like"):
        usual = DEFAULTS | filled({name: value for name, value in recorded.items() if name == "like"})
        _drop(recorded, *(name for name in ("emphasis", "noise") if recorded.get(name) == usual[name]))
        if "@" in recorded.get("schedule", ""):
            _drop(recorded, "schedule", "schedule_options")


def _drop(settings: Settings, *names: str) -> None:
    for name in names:
        settings.pop(name, None)


def _from_picture(given: Settings) -> tuple[Settings, list[str]]:
    path = given["from_image"]
    read = metadata.from_text(output.read_text(path))
    settings = _usable(read.settings)
    if not settings:
        raise FileError("its text holds no settings that can be read", path, "A1111's or our parameters text")
    if "model" not in settings and "model" not in given:
        model = f"{settings.get('model_name', 'unknown')!r} (hash {settings.get('model_hash', 'unknown')})"
        raise OptionError(f"made with the model {model}", path, todo="name its file with --model")
    unused = [*read.other, *(name for name in read.settings if name not in settings)]
    notes = [f"{path}: not used: {', '.join(unused)}"] if unused else []
    if settings.get("model", DEFAULTS["model"]) != DEFAULTS["model"] and "model" not in given:
        notes.append(f"{path}: its model is {settings['model']}")
    return settings, notes


def _usable(read: Settings) -> Settings:
    """Those of the settings, from anybody's file, that are of the kind they should be."""
    settings = {name: value for name, value in read.items() if _fits(name, value)}
    for name in _PAIRS:
        if name in settings:
            settings[name] = tuple(settings[name])
    for name in _PATHS:
        if name in settings:
            settings[name] = os.path.expanduser(settings[name])
    return settings


def _fits(name: str, value: Any) -> bool:
    """Whether a value read from a picture, which anybody may have written, is of the kind the setting
    takes.
    """
    if name in _PAIRS:
        return isinstance(value, list) and len(value) == 2 and all(type(side) is int for side in value)
    if name == "expand":
        return isinstance(value, list) and len(value) == 4 and all(type(side) is int for side in value)
    if name in _LISTS:
        return isinstance(value, list) and all(type(number) in (int, float) for number in value)
    if name == "guidance":
        return isinstance(value, str) or (
            isinstance(value, list) and all(isinstance(one, str) for one in value)
        )
    if name == pass_options.NAME:
        return pass_options.usable(value)
    if name == control_options.NAME:
        return control_options.usable(value)
    if name == ip_adapter_options.NAME:
        return isinstance(value, list) and all(isinstance(one, (str, dict)) for one in value)
    if name in ("embeddings", *lora_options.LISTS):
        return isinstance(value, list) and all(isinstance(path, str) for path in value)
    return (
        name in _KINDS and isinstance(value, _KINDS[name]) and (name in _FLAGS or not isinstance(value, bool))
    )


def prompts_of(settings: Settings) -> list[str]:
    """The prompts of the run, one a picture. OptionError where there is none, FileError for a bad file."""
    if "prompt_file" in settings:
        prompts = _prompt_lines(settings["prompt_file"])
    elif "prompts" in settings:
        prompts = settings["prompts"]
    elif "prompt" in settings or "from_image" in settings:
        prompts = [settings.get("prompt", "")]
    else:
        raise OptionError(
            "no prompt", expected="words for what the picture shows", todo='such as sigmagraft "a red circle"'
        )
    for text in [*prompts, settings["negative"]]:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise OptionError(f"the prompt {text[:40]!a} is not valid UTF-8 text") from None
    return prompts


def _prompt_lines(path: str) -> list[str]:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"not UTF-8 text: {error.reason} at byte {error.start}", path, todo="save it as UTF-8"
        ) from None
    except OSError as error:
        raise FileError(f"cannot read the prompts: {error.strerror or error}", path) from None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise FileError("no prompt in this file", path, "one prompt a line")
    return lines


def check_names(settings: Settings) -> None:
    """Bring sampler and schedule to their registered names and check the options. OptionError before any
    model loads.
    """
    from ... import samplers
    from ...samplers.auto import AUTO
    from ..emphasis import find_emphasis
    from ..guidance_weight import check_guidance
    from ..noise_settings import check_noise

    auto = settings["sampler"] == AUTO  # is chosen when the model is known
    spec = _method("euler" if auto else settings["sampler"])
    settings["sampler"] = AUTO if auto else spec.name
    if settings.get("schedule"):
        settings["schedule"] = _registered(samplers.SCHEDULES, settings["schedule"]).name
    if "schedule_options" in settings and not spec.sigmas:
        steps = samplers.SCHEDULES[settings.get("schedule") or spec.default_schedule]
        settings["schedule_options"] = _checked(settings["schedule_options"], steps)
    known = {option.name: option for option in spec.options}
    for name, value in settings["options"].items():
        if name not in known:
            todo = nearest(name, known) if known else "it has none"
            where = "--sampler" if name in settings.get("named_options", ()) else "--option"
            raise OptionError(f"sampler {spec.name} has no option {name!r}", where, todo=todo)
        settings["options"][name] = known[name].check(value, f"sampler {spec.name}, option {name} = {value}")
    find_emphasis(settings["emphasis"])
    check_guidance(settings.get("guidance", "cfg"), settings.get("cfg"), settings.get("cfg_interval"))
    check_noise(settings, spec, settings["options"])
    lora_options.check(settings)
    ip_adapter_options.check(settings)
    control_options.check(settings)
    pass_options.check(settings)


def _checked(options: Settings, spec: Any) -> Settings:
    """A schedule's given options with their values read."""
    from ...samplers.spec import resolve

    values = resolve(spec.options, options, f"schedule {spec.name}")
    return {name: values[name] for name in options}


def _method(name: str) -> Any:
    """A registered sampler, a function of an installed k-diffusion, or a file that is one."""
    from ...samplers import SAMPLERS, foreign, installed
    from ...samplers.sampler_files import is_file

    return (
        foreign.find_method(name) if installed.split(name) or is_file(name) else _registered(SAMPLERS, name)
    )


def _registered(registry: Any, name: str) -> Any:
    """By name, alias, or label ("DPM++ 2M")."""
    labelled = [spec for spec in registry if spec.label.lower() == name.lower()]
    return labelled[0] if labelled else registry[name]


def recorded(result: Mapping[str, Any], settings: Settings, model: Settings) -> Settings:
    """What goes into every picture of a run: the pipeline's settings, the model and the inputs."""
    from ...samplers.sampler_files import is_file

    kept = {name: value for name, value in result.items() if name not in ("batch", "prompt", "seed", "model")}
    inputs = _INPUTS if "image" in settings else ()
    kept |= {name: settings[name] for name in (*LOADING, *inputs) if name in settings}
    kept |= model
    if not kept.get("cfg_rescale"):
        kept.pop("cfg_rescale", None)
    for name in _PATHS:
        if name in kept:
            kept[name] = portable(kept[name])
    if is_file(kept["sampler"]):
        kept["sampler"] = portable(kept["sampler"])
    lora_options.portable(kept, portable)
    ip_adapter_options.portable(kept, portable)
    control_options.portable(kept, portable)
    if "embeddings" in kept:
        kept["embeddings"] = [portable(path) for path in kept["embeddings"]]
    return kept


def portable(path: str) -> str:
    """A path that works from any folder without telling the user's name; what is no path here stays as it
    is.
    """
    if not os.path.exists(path):
        return path
    full = Path(path).resolve()
    home = Path.home()
    return str(Path("~") / full.relative_to(home)) if full.is_relative_to(home) else str(full)


class FileHash:
    """A file's SHA-256, first digits, computed beside the work (hashlib leaves the interpreter free)."""

    def __init__(self, path: str | Path) -> None:
        self._digits: str | None = None
        self._thread = threading.Thread(target=self._compute, args=(Path(path),), daemon=True)
        self._thread.start()

    def digits(self) -> str | None:
        """Wait for it; None for a folder, a hub id or what cannot be read."""
        self._thread.join()
        return self._digits

    def _compute(self, path: Path) -> None:
        if not path.is_file():
            return
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        self._digits = digest.hexdigest()[:_HASH_DIGITS]
