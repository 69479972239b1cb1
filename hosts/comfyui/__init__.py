"""ComfyUI: our samplers and schedules in its lists, and nodes for what a dropdown cannot say.

Nothing of ComfyUI is imported when a module here is loaded; what runs inside it fetches what it needs by name, late,
because other packs replace and reload those modules.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def in_comfyui() -> bool:
    """Whether ComfyUI has started: web hosts have a partial `comfy`, which lacks samplers."""
    return "comfy.samplers" in sys.modules and "nodes" in sys.modules


def comfy(name: str) -> Any:
    """ComfyUI's module comfy.NAME as it is now."""
    return import_module(f"comfy.{name}")
