"""Our section of the settings page: what is left out of the lists."""

from __future__ import annotations

import gradio as gr
from modules import shared

from .lists import all_families, all_schedules

SECTION = ("sigmagraft", "SigmaGraft")
FAMILIES, SCHEDULES = "sigmagraft_hidden_families", "sigmagraft_hidden_schedules"


def add_settings() -> None:
    """The settings; each takes hold when the UI is loaded again."""
    _add(FAMILIES, "Families of samplers left out of the lists", all_families())
    _add(SCHEDULES, "Schedules left out of the lists", all_schedules())


def hidden(setting: str) -> list[str]:
    """What is left out, as the host has saved it; nothing before it has."""
    return list(shared.opts.data.get(setting) or ())


def remove_settings() -> None:
    """Take the section off the page; what was saved stays in the host's file."""
    for name in (FAMILIES, SCHEDULES):
        shared.opts.data_labels.pop(name, None)


def _add(name: str, label: str, choices: list[str]) -> None:
    info = shared.OptionInfo([], label, gr.CheckboxGroup, lambda: {"choices": choices}, section=SECTION)
    shared.opts.add_option(name, info.needs_reload_ui() if hasattr(info, "needs_reload_ui") else info)
