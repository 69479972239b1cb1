"""Catching a model that answers NaN or infinity, with the step and sigma, without waiting for a device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import SigmaGraftError


class NonFiniteError(SigmaGraftError):
    """A model evaluation gave NaN or infinity."""


class FiniteWatch:
    """On the CPU each evaluation is looked at as it comes. On an accelerator only a flag is computed, in the
    stream of the work itself; `finish` reads all flags in one transfer when the walk is over.

    Args:
        steps: number of steps, for the message.
        late: read the flags at the end; None decides by the tensor's device.
    """

    def __init__(self, steps: int, late: bool | None = None) -> None:
        self.steps = steps
        self.late = late
        self._flags: list[Tensor] = []
        self._where: list[tuple[int, float]] = []

    def see(self, output: Tensor, step: int, sigma: float) -> None:
        """Look at one evaluation of step `step` (from 0). Raises NonFiniteError at once on the CPU."""
        if self.late if self.late is not None else output.device.type != "cpu":
            self._flags.append(output.isfinite().all())
            self._where.append((step, sigma))
        elif not math.isfinite(output.sum(dtype=torch.float64).item()):
            self._refuse(step, sigma)

    def finish(self) -> None:
        """Raises NonFiniteError for the first evaluation that was not finite."""
        if not self._flags or self._flags[0].is_meta:
            return
        for fine, where in zip(torch.stack(self._flags).tolist(), self._where, strict=True):
            if not fine:
                self._refuse(*where)

    def _refuse(self, step: int, sigma: float) -> None:
        raise NonFiniteError(
            "the model's output holds NaN or infinity",
            where=f"step {step + 1} of {self.steps}, sigma {sigma:.4g}",
            expected="finite numbers",
            todo="run it in fp32 or bf16 (fp16 can overflow), lower cfg, or look for NaN in the weights",
        )
