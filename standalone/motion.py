"""Motion modules for a model: found, loaded, and the noise levels they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..animate.files import MotionFile, open_motion
from ..animate.network import Motion, check_fit
from ..core.errors import FileError
from ..core.temporal import HEADS
from ..samplers.levels import DiscreteLevels, NoiseLevels
from .bundled import bundled
from .folder import pick_weights, read_json
from .hub import Hub, is_hub_id

if TYPE_CHECKING:
    from .model import Model

ZERO_SNR = 1000.0  # a sigma beyond which a model was trained to zero terminal SNR


def load_motion(source: str | Path, model: Model, hub: Hub | None = None) -> tuple[MotionFile, Motion]:
    """A file, a folder of diffusers' or a hub id, where the model's weights are. FileError where it does not fit."""
    path = locate_motion(source, hub)
    config = path.with_name("config.json")
    said = read_json(config) if config.is_file() and path.stem.startswith("diffusion_pytorch") else {}
    heads = said.get("motion_num_attention_heads") or HEADS
    file = open_motion(path, heads if isinstance(heads, int) else heads[0])
    unet = getattr(model.unet, "_orig_mod", model.unet)
    check_fit(file.config, unet.config, path)
    return file, file.build(model.home, model.dtype)


def local_motion(source: str | Path) -> MotionFile | None:
    """What a local file or folder holds; None for what is on the hub. FileError where it holds no motion modules."""
    path = Path(source).expanduser()
    if not path.exists() and is_hub_id(str(source)):
        return None
    return open_motion(locate_motion(source))


def locate_motion(source: str | Path, hub: Hub | None = None) -> Path:
    """The local file: a path, a folder, a bundled name, a hub id. FileError where there is none, or several."""
    if (own := bundled("motion", source)) is not None:
        return own
    path = Path(source).expanduser()
    if path.is_dir():
        return path / _chosen([file.name for file in path.iterdir() if file.is_file()], source)
    if path.exists() or not (isinstance(source, str) and is_hub_id(source)):
        return path

    def wanted(names: Sequence[str]) -> list[str]:
        top = [name for name in names if "/" not in name]
        return [_chosen(top, source), *(["config.json"] if "config.json" in top else [])]

    return (hub or Hub()).file(source, wanted)


def _chosen(names: Sequence[str], source: object) -> str:
    found = pick_weights(names)
    if found is None:
        raise FileError("no weights file, or several", source, "one", "name the file itself")
    return found


def motion_levels(file: MotionFile, levels: NoiseLevels) -> NoiseLevels:
    """The levels that a file's modules were trained on; the model's where it says so, or has no betas."""
    betas = file.betas
    if betas is None or not isinstance(levels, DiscreteLevels) or levels.sigma_max > ZERO_SNR:
        return levels
    return NoiseLevels.discrete(**betas)
