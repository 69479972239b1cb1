"""Terms on a network that is a plain module: there while it evaluates, gone between two evaluations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from ...loras.curve import Place
from ..loras_moving import Moving, Weights


class Switch:
    """Puts `Moving` on a network's evaluations, whoever asks for them, until `off`."""

    def __init__(
        self, network: nn.Module, moving: Moving, place: Callable[[], Place], weights: Weights
    ) -> None:
        self._parts = (network, moving, place, weights)
        self._open: list[ExitStack] = []
        self._handles = [
            network.register_forward_pre_hook(self._begin),
            network.register_forward_hook(self._end, always_call=True),
        ]

    def off(self) -> None:
        """The network as it was, and what was made ready for it freed."""
        for handle in self._handles:
            handle.remove()
        while self._open:
            self._open.pop().close()
        self._parts[1].forget()

    def _begin(self, *_: Any) -> None:
        network, moving, place, weights = self._parts
        while self._open:  # an evaluation that was stopped before it began
            self._open.pop().close()
        stack = ExitStack()
        with exactly():
            stack.enter_context(moving.on(network, place(), weights))
        self._open.append(stack)

    def _end(self, *_: Any) -> None:
        while self._open:
            self._open.pop().close()


def exactly() -> ExitStack:
    """No autocast within, which would round the products that changes are made of."""
    stack = ExitStack()
    for device in ("cuda", "cpu"):
        stack.enter_context(torch.autocast(device, enabled=False))
    return stack
