"""What the classes of rectified flow have beside the others: a shift that can be changed."""

from __future__ import annotations

from typing import Any

from .scheduler import Scheduler


class FlowScheduler(Scheduler):
    """A class whose sigmas are shifted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shift: float = self.config.shift

    @property
    def shift(self) -> float:
        """The config's, or what `set_shift` said last."""
        return self._shift

    def set_shift(self, shift: float) -> None:
        """Shift the next run's steps so."""
        self._shift = shift

    def set_timesteps(self, num_inference_steps: int | None = None, device: Any = None, **given: Any) -> None:
        super().set_timesteps(num_inference_steps, device, **given, shift=self._shift)
