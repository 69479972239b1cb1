"""Adaptive projected guidance: the pull without what only makes the prompt's answer stronger."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.option import Option
from .spec import Evaluation, Guidance, Setting, guidance


def _remembers(options: dict[str, Any]) -> bool:
    return options["momentum"] != 0.0


@guidance(
    "apg",
    label="Adaptive projected guidance",
    paper="2410.02416",
    remembers=_remembers,
    options=(
        Option("eta", 0.0, -10.0, 10.0, "how much of the pull along the prompt's answer is kept"),
        Option("norm", 15.0, 0.0, 1e6, "the longest a pull may be, over an image; 0: no limit"),
        Option("momentum", -0.5, -1.0, 1.0, "of earlier pulls added; negative pushes away from them"),
        Option("space", "denoised", choices=("denoised", "output"), help="where it is measured"),
    ),
)
class APG(Guidance):
    """cond + (w - 1) (p_orthogonal + eta p_parallel), parallel to cond, where p is the pull cond - uncond with
    `momentum` times the p of the evaluation before added and shortened to `norm` (algorithm 1).
    """

    def __init__(self, setting: Setting, eta: float, norm: float, momentum: float, space: str) -> None:
        super().__init__(setting)
        self.eta, self.norm, self.momentum, self.space = eta, norm, momentum, space
        self._last: Tensor | None = None

    def direction(self, at: Evaluation, pull: Tensor) -> Tensor:
        if self.space == "output":
            return self._projected(pull, at.cond)
        cond = at.x0(at.cond)
        changed = self._projected(cond - at.x0(at.cond - pull), cond)
        return at.cond - at.answer(cond - changed)

    def _projected(self, pull: Tensor, cond: Tensor) -> Tensor:
        axes = tuple(range(1, pull.ndim))
        if self._last is not None and self._last.shape == pull.shape:
            pull = pull + self.momentum * self._last
        self._last = pull
        if self.norm:
            length = pull.double().square().sum(axes, keepdim=True).sqrt()
            pull = pull * (self.norm / length).clamp(max=1.0).to(pull)
        exact = pull.double()
        along = torch.nn.functional.normalize(cond.double().flatten(1), dim=1).view_as(exact)
        parallel = (exact * along).sum(axes, keepdim=True) * along
        return (exact - parallel + self.eta * parallel).to(pull)
