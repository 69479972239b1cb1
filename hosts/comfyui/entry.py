"""What ComfyUI asks of a pack: its nodes. Asking adds the samplers and schedules too."""

from __future__ import annotations

from ..log import guarded
from . import in_comfyui


def graft() -> tuple[dict[str, type], dict[str, str]]:
    """(node classes, display names) by node id; empty outside ComfyUI and where they could not be made."""
    classes: dict[str, type] = {}
    titles: dict[str, str] = {}
    if in_comfyui():
        with guarded("adding samplers and schedules to ComfyUI"):
            from .registry import register

            register()
        with guarded("making nodes for ComfyUI"):
            from .nodes import node_table

            for node in node_table():
                classes[node.ID], titles[node.ID] = node, node.TITLE
    return classes, titles


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = graft()
