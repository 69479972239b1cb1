"""Perturbed-attention guidance: away from what the network answers where its self-attention sees nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..core.option import Option
from ..core.patch import Block, OutputPatch, StepInfo
from .places import Places, self_attentions
from .spec import Evaluation, Guidance, Setting, guidance


def _itself(out: Tensor, q: Tensor, k: Tensor, v: Tensor, info: StepInfo) -> Tensor:
    """Every token keeps its own value: the attention map is the identity."""
    return v[:, : q.shape[1]]


@guidance(
    "pag",
    label="Perturbed-attention guidance",
    paper="2403.17377",
    extra=1,
    options=(
        Option("scale", 3.0, -100.0, 100.0, "how strongly"),
        Option("adaptive", 0.0, 0.0, 100.0, "by how much the scale falls over the run, to 0 at the least"),
        Places("layers", "middle", help="whose self-attention is perturbed"),
    ),
)
class PAG(Guidance):
    """+ s (cond - perturbed), where the perturbed answer to the prompt is made with the identity in place of the
    self-attention maps of `layers` (equation 16), in words or as (block, index). It needs no negative prompt.
    """

    def __init__(
        self, setting: Setting, scale: float, adaptive: float, layers: str | Sequence[tuple[Block, int]]
    ) -> None:
        super().__init__(setting)
        self.scale, self.adaptive = scale, adaptive
        words = isinstance(layers, str)
        where = self_attentions(setting.known("pag"), layers, "guidance pag, layers") if words else layers
        self._perturbed = [OutputPatch(block, index, "attn1", _itself) for block, index in where]

    def term(self, at: Evaluation) -> Tensor | None:
        scale = max(self.scale - self.adaptive * at.step / at.steps, 0.0) if self.adaptive else self.scale
        if not scale:
            return None
        return (at.cond - at.again(at.x, patches=self._perturbed)) * scale
