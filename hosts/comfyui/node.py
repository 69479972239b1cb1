"""What the nodes of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...core.errors import SigmaGraftError


class Node:
    """A node of ComfyUI: INPUT_TYPES and `make` are its own.

    Attributes:
        ID: its name in workflows, which never changes.
        TITLE: what people are shown.
    """

    ID: ClassVar[str]
    TITLE: ClassVar[str]
    RETURN_TYPES: ClassVar[tuple[str, ...]]
    CATEGORY: ClassVar[str] = "SigmaGraft"
    DESCRIPTION: ClassVar[str] = ""
    FUNCTION = "make"

    @staticmethod
    def checked(check: Callable[[], Any]) -> bool | str:
        """True, or the message of what `check` raised: how ComfyUI is told before it runs anything."""
        try:
            check()
        except SigmaGraftError as error:
            return str(error)
        return True
