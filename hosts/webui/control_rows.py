"""Whose rows are whose where a host does not say it to its UNet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...core.patch import Branch


class Rows:
    """Whose rows Automatic1111 gives its UNet: first those of the prompts, then those of the negative one.

    It may give them in several calls, and says it nowhere else.
    """

    def __init__(self) -> None:
        self.prompts = self.images = self.seen = 0
        self.mixed = False

    @contextmanager
    def counted(self, denoiser: Any) -> Iterator[None]:
        """Counts anew at each call of the host's denoiser."""

        def begin(module: Any, args: Any, named: Mapping[str, Any]) -> None:
            parts = getattr(named.get("cond"), "batch", None) or [[None]] * len(args[0])
            self.prompts, self.images, self.seen = sum(map(len, parts)), len(parts), 0
            self.mixed = self.images > 1 and self.prompts > self.images  # an image's parts stand side by side

        handle = denoiser.register_forward_pre_hook(begin, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def branches(self, count: int) -> tuple[Branch, ...]:
        """Those of the next rows: one for each batch of images, or for each row where prompts of images mix."""
        step = 1 if self.mixed else self.images
        first, self.seen = self.seen, self.seen + count
        return tuple("cond" if row < self.prompts else "uncond" for row in range(first, first + count, step))
