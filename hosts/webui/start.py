"""Begin and end inside a web UI: what happens when it loads its extensions, and when it loads them again without us."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules import script_callbacks, sd_samplers

from ..log import guarded, logger
from . import axes, lists, lora, lora_place, page
from .script import SigmaGraft

PACKAGE = __name__.partition(".")[0]
ROOT = Path(__file__).resolve().parents[2]


def start() -> type[Any]:
    """Put our samplers and schedules into the lists and hang on the host's callbacks; the script to register."""
    try:
        samplers, schedules = lists.fill(page.hidden(page.FAMILIES), page.hidden(page.SCHEDULES))
    except Exception:
        lists.clear()  # all or nothing: a list half filled would offer what does not run
        raise
    logger.info("SigmaGraft: %d samplers and %d schedules added", samplers, schedules)
    _guarded("adding axes", axes.add_axes)()  # with --nowebui the plot reads its list before the event below
    # the host looks through the whole stack and every module to see who hangs on it: once here, the rest in `with_ui`
    script_callbacks.on_before_ui(_guarded("starting with the UI", with_ui))
    with guarded("making the panels"):
        from .clip_script import SigmaGraftClip
        from .control_script import SigmaGraftControl
        from .guidance_script import SigmaGraftGuidance

        SigmaGraft.companions = (SigmaGraftControl, SigmaGraftGuidance, SigmaGraftClip)
    return SigmaGraft


def with_ui() -> None:
    """All scripts are loaded and no page is made yet."""
    script_callbacks.on_infotext_pasted(tell_of_missing_sampler)
    script_callbacks.on_script_unloaded(_guarded("leaving", stop))
    if hasattr(script_callbacks, "on_cfg_denoiser"):
        script_callbacks.on_cfg_denoiser(lora_place.follow)
    leave_path()
    axes.add_axes()
    page.add_settings()


def stop() -> None:
    """Leave no trace, so that a reload begins anew and a disabled extension is gone."""
    lora.ungraft()
    axes.remove_axes()
    page.remove_settings()
    lists.clear()
    forget()


def leave_path() -> None:
    """Take our root off `sys.path`: the Forges leave every extension there, and our `samplers` would be anybody's."""
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != ROOT]


def forget() -> None:
    """Take the package's modules out of the process; the next start imports them as they are then."""
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]


def tell_of_missing_sampler(infotext: str, params: Mapping[str, Any]) -> None:
    """Say that another sampler stands in, where a picture's is not here; a host puts its first one without a word."""
    name = params.get("Sampler")
    if not name:
        return
    found = sd_samplers.get_sampler_and_scheduler(name, params.get("Schedule type"))[0]
    if not str(name).lower().startswith(found.lower()):
        _warn(f"The picture's sampler {name!r} is not in this web UI; {found} stands in its place.")


def _warn(message: str) -> None:
    print(f"[SigmaGraft] {message}")
    with guarded("showing a message"):
        import gradio as gr

        gr.Warning(message)


def _guarded(doing: str, action: Any) -> Any:
    def act(*args: Any) -> None:
        with guarded(doing):
            action()

    return act
