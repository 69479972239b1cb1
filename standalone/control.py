"""The controls of a pipeline: files opened once as long as runs ask for them, put into each run as its adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..controlnet.acting import Acting
from ..controlnet.clip_vision import ImageEncoder
from ..controlnet.files import open_control
from ..controlnet.host import Host
from ..controlnet.ip_image import pixels
from ..controlnet.model import ControlModel, acting, pooled
from ..controlnet.settings import REFERENCE, Control
from ..controlnet.strength import Timeline
from ..core.errors import OptionError
from ..core.patch import EvaluationPatch, Hooks, StepInfo, rows_of
from . import latents
from .bundled import bundled
from .control_passes import in_pass, prepared
from .folder import pick_weights
from .hub import Hub, is_hub_id
from .memory import prefer_layout

if TYPE_CHECKING:
    from ..samplers.levels import NoiseLevels
    from .model import Model
    from .run import Run


@dataclass
class Controls:
    """Of one model; nothing of them is in the model itself."""

    model: Model
    _opened: dict[str, ControlModel] = field(default_factory=dict)

    def for_run(self, run: Run, noise: Tensor) -> list[Acting]:
        """The controls of a run. `noise` [b, z, h, w] is what reference pictures are noised with."""
        request = run.request
        wanted: list[Control] = request.controls
        for control in wanted:
            _check_batch(control, request.batch)
        asked = {str(control.model): control.model for control in wanted if needs_file(control)}
        self._opened = {name: self.open(source) for name, source in asked.items()}
        host = host_of(self.model, run.levels, run.sigmas, noise)
        made = [(control, self._acting(control, host, run)) for control in prepared(wanted, request)]
        return [acting for control, acting in made if in_pass(control, request)]

    def open(self, source: str | Path | ControlModel) -> ControlModel:
        """A file, folder or hub id, where the model's weights are; kept until a run does not ask for it."""
        if isinstance(source, ControlModel):
            return source
        found = self._opened.get(str(source))
        if found is None:
            found = ControlModel.load(locate_control(source), self.model.home, self.model.dtype)
            if found.own is not None:
                prefer_layout(found.own, self.model.device)  # the UNet's, whose input it is given
        return found

    def unload(self) -> None:
        """Lets go of all networks."""
        self._opened = {}

    def _acting(self, control: Control, host: Host, run: Run) -> Acting:
        if needs_file(control):
            model = self.open(control.model)
            control = replace(control, model=model, pool=pooled(control, model.file, control.model))
        if control.vision is not None:
            host = replace(host, vision=_vision(control.vision))
        return acting(_with_picture(control, run), host)


def needs_file(control: Control) -> bool:
    """Whether it is more than the UNet looking at a picture."""
    return str(control.model) not in REFERENCE


def _vision(source: str | Path) -> Callable[[object], Tensor]:
    """Pictures -> CLIP's last hidden state, for the style adapter."""
    encoder = ImageEncoder.load(source)

    def see(image: object) -> Tensor:
        assert isinstance(image, Image.Image)
        with torch.no_grad():
            weight = encoder.network.visual_projection.weight
            seen = pixels([image], encoder.side, "center").to(weight.device, weight.dtype)
            return encoder.network(seen).last_hidden_state

    return see


def locate_control(source: str | Path, hub: Hub | None = None) -> Path:
    """The local file: a path, a diffusers folder, a bundled name, a hub id. FileError or OptionError where none is."""
    if (own := bundled("controls", source)) is not None:
        return own
    path = Path(source).expanduser()
    if isinstance(source, str) and not path.exists() and is_hub_id(source):
        config = ("config.json",)  # heads leave no trace in the weights
        path = (hub or Hub()).file(
            source, lambda names: [_chosen(names, source), *filter(config.count, names)]
        )
    if not path.is_dir():
        return path
    return path / _chosen([file.name for file in path.iterdir() if file.is_file()], source)


def check_file(source: str | Path | ControlModel) -> None:
    """FileError where a local file is none of a control; what lies on the hub is not asked for."""
    local = not (isinstance(source, str) and is_hub_id(source)) or Path(source).expanduser().exists()
    if not isinstance(source, ControlModel) and str(source) not in REFERENCE and local:
        open_control(locate_control(source))


def _chosen(names: Sequence[str], source: object) -> str:
    found = pick_weights([name for name in names if "/" not in name])
    if found is None:
        raise OptionError("no weights file, or several", source, "one", "name the file itself")
    return found


def _check_batch(control: Control, batch: int) -> None:
    """Before anything runs: as many pictures as images, where each image has its own."""
    count = len(control.images)
    if count > 1 and not control.types and control.frames is None and count != batch:
        raise OptionError(f"{count} control pictures for {batch} images", expected=f"one, or {batch}")


def _with_picture(control: Control, run: Run) -> Control:
    """Without a picture of its own the control looks at the one that is redrawn, or at the region of it."""
    request = run.request
    picture = run.region.image if run.region else request.image
    if control.images:
        return control if run.region is None else _cropped(control, run)
    if picture is None:
        raise OptionError(
            "a control without a picture", control.model, todo="give it one, or redraw one with --image"
        )
    options: dict[str, Any] = dict(control.options)
    if control.preprocess == "inpaint" and run.region is not None:
        options.setdefault("hole", run.region.mask)
    return replace(control, image=picture, options=options)


def _cropped(control: Control, run: Run) -> Control:
    """Pictures of the original's size, cut as the region that is repainted."""
    region = run.region
    assert region is not None
    images = [i.crop(region.box) if i.size == region.original.size else i for i in control.images]
    return replace(control, image=images)


def host_of(model: Model, levels: NoiseLevels, sigmas: Sequence[float], noise: Tensor) -> Host:
    """What the controls of a run may ask of the runner."""
    unet = getattr(model.unet, "_orig_mod", model.unet)

    def noised(latent: Tensor, info: StepInfo) -> Tensor:
        _, _, c_in = levels.scalings(model.info.prediction, info.sigma)
        own = rows_of(noise, info.rows) if info.rows else noise
        x = torch.add(latent * levels.alpha(info.sigma), own.to(latent), alpha=info.sigma)
        return x * c_in

    def evaluate(info: StepInfo, patches: Sequence[EvaluationPatch]) -> None:
        given = info.inputs
        assert given is not None
        unet(given.x, given.timesteps, given.context, given.vector, Hooks(patches, info))

    return Host(
        config=unet.config,
        timeline=Timeline(sigmas),
        factor=model.vae.factor,
        weights=unet.state_dict,
        encode=lambda x: latents.encode(model, x).to(model.device),
        noised=noised,
        evaluate=evaluate,
    )
