"""Controls, IP-Adapters, image encoders and motion modules in a web UI's folders, by the names its dropdown shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...controlnet.settings import REFERENCE
from ...core.errors import FileError, MissingPartError, SigmaGraftError, nearest

if TYPE_CHECKING:
    from ...controlnet.clip_vision import ImageEncoder
    from ...controlnet.files import ControlFile
    from ...controlnet.ip_file import IPAdapterFile

NONE = "None"
ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
MODELS = ("ControlNet", "controlnet", "t2i_adapter", "ipadapter", "sigmagraft/control")
ENCODERS = ("clip_vision", "CLIP", "ControlNetPreprocessor", "ControlNet", "ipadapter")
MOTION = ("sigmagraft/motion", "animatediff_models", "AnimateDiff")
EXTENSIONS = {MODELS[0]: "sd-webui-controlnet/models", MOTION[0]: "sd-webui-animatediff/model"}
FEATURES = (".safetensors", ".ipadpt")


def names() -> list[str]:
    """What a unit may be: nothing, what needs no file, a file."""
    return [NONE, *REFERENCE, *_listed(MODELS)]


def motion_names() -> list[str]:
    """None, and the files of motion modules."""
    return [NONE, *_listed(MOTION)]


def path_of(name: str, kinds: tuple[str, ...] = MODELS) -> Path:
    """The file of a name, with or without its folder and ending. FileError with the nearest."""
    listed = _listed(kinds)
    short = {Path(key).stem: path for key, path in listed.items()}
    if name not in listed and name not in short:
        raise FileError(
            f"no such file in the web UI's models/{kinds[0]}", name, todo=nearest(name, [*listed, *short])
        )
    return listed.get(name) or short[name]


def opened(name: str) -> ControlFile | IPAdapterFile:
    """A control or an IP-Adapter, told by its tensors. FileError for what is neither."""
    from ...controlnet.files import open_control
    from ...controlnet.ip_file import read_ip_adapter

    path = path_of(name)
    try:
        return read_ip_adapter(path)
    except SigmaGraftError:
        return open_control(path)


def encoder_for(file: IPAdapterFile, given: str) -> ImageEncoder:
    """On the CPU: the one of this name, else the first that gives what the adapter takes. MissingPartError."""
    from ...controlnet.clip_vision import ImageEncoder

    paths = [path_of(given, ENCODERS)] if given else _listed(ENCODERS).values()
    for path in paths:
        try:
            found = ImageEncoder.load(path)
        except SigmaGraftError:  # most files in these folders are something else
            continue
        sizes = {"pooled": found.pooled, "hidden": found.hidden}
        if all(sizes[name] == channels for name, channels in file.channels.items() if name != "face"):
            return found
    name, where = file.encoder
    raise MissingPartError(
        f"{file.variant.label} needs its image encoder, {name}",
        file.source,
        "a file in models/clip_vision",
        f"get it from {where}, or name it with encoder=NAME",
    )


def _listed(kinds: tuple[str, ...]) -> dict[str, Path]:
    """Name -> file: its path within its folder, of two alike the first folder's."""
    found: dict[str, Path] = {}
    for folder in _folders(kinds):
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in (*ENDINGS, *FEATURES) and path.is_file():
                found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def _folders(kinds: tuple[str, ...]) -> Iterator[Path]:
    from modules import paths, shared

    options = shared.cmd_opts
    named = [getattr(options, "controlnet_dir", None), *(getattr(options, "controlnet_dirs", None) or ())]
    folders = [Path(folder) for folder in named if folder and MODELS[0] in kinds]
    folders += [Path(paths.models_path, kind) for kind in kinds]
    folders += [
        Path(paths.script_path, "extensions", EXTENSIONS[kind]) for kind in kinds if kind in EXTENSIONS
    ]
    seen: set[Path] = set()
    for folder in folders:
        real = folder.resolve()  # two spellings of one folder where names have no capitals
        if folder.is_dir() and real not in seen:
            seen.add(real)
            yield folder
