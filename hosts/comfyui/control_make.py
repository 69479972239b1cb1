"""What the nodes of controls do when they run; loaded then, since a start needs none of it."""

from __future__ import annotations

from typing import Any

from ...controlnet.files import open_control
from ...controlnet.model import ControlModel, pooled
from ...controlnet.settings import Control
from ..control_run import ControlAsk
from .control_host import compute_dtype, encoder
from .control_networks import Network, control_network
from .control_patch import controlled
from .ip_vision import last_hidden

__all__ = ["apply", "control_network", "look", "open_control"]


def apply(
    model: Any, control: Network[ControlModel], settings: dict[str, Any], vae: Any = None, vision: Any = None
) -> Any:
    """A MODEL under a control of these settings. OptionError or FileError where they cannot be."""
    loaded, networks = control.at(compute_dtype(model.model))
    asked = Control(model=loaded, **settings)
    asked.pool = pooled(asked, loaded.file, loaded.file.source.name)
    ask = ControlAsk(asked, vae and encoder(model.model, vae), vision and last_hidden(vision))
    return controlled(model, ask, networks)


def look(model: Any, settings: dict[str, Any], vae: Any) -> Any:
    """A MODEL that looks at a picture while it draws."""
    return controlled(model, ControlAsk(Control(**settings), encoder(model.model, vae)))
