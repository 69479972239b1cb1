"""A ControlNet-LLLite in a run: shifts of what attention projects, each hint's view kept between steps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import FileError
from ..core.patch import Attention, Block, EvaluationPatch, InputPatch, StepInfo
from .acting import Acting
from .hints import stacked
from .host import Host
from .lllite import LLLite, Projection
from .settings import Control
from .share import Share, forget_windows

Grid = tuple[int, int]  # height, width in tokens


class LLLiteActing(Acting):
    """All modules of a file; they see the picture in -1..1. In mode control the prompt's half alone is shifted."""

    foreign = (*Acting.foreign, "weights", "pool")
    modes = ("balanced", "control")

    def __init__(self, control: Control, host: Host, network: LLLite) -> None:
        super().__init__(control, host)
        self.network = network
        self._widths = {block: width for block, _, width in host.config.transformers()}
        self._levels = levels(host)
        self._conditions: dict[tuple[str, Grid, Share], Tensor] = {}
        self._names: dict[tuple[Block, int, Attention], dict[Projection, str]] = {}
        for name, place in network.places.items():
            self._check(name, place.block, place.index)
            self._names.setdefault((place.block, place.index, place.attention), {})[place.projection] = name

    def _check(self, name: str, block: Block, index: int) -> None:
        depth = {block: depth for block, depth, _ in self.host.config.transformers()}.get(block, 0)
        width = self.network.part(name).get_parameter("down.0.weight").shape[1]
        if index >= depth or width != self._widths[block]:
            raise FileError(
                f"this LLLite has a module {name!r}, {width} wide, that the model has no place for",
                self.control.model,
                todo="it was made for another family of models",
            )

    def patches(self) -> Iterable[EvaluationPatch]:
        return [InputPatch(*place, self._changer(names)) for place, names in self._names.items()]

    def _changer(self, names: dict[Projection, str]):
        def change(q: Tensor, k: Tensor, v: Tensor, info: StepInfo) -> tuple[Tensor, Tensor, Tensor]:
            strength, share = self.strength(info), self.share(info)
            if not strength or not any(share.acts):
                return q, k, v
            given: dict[Projection, Tensor] = {"q": q, "k": k, "v": v}
            changed = {
                which: self._shifted(given[which], names[which], strength, share, info)
                if which in names
                else x
                for which, x in given.items()
            }
            return changed["q"], changed["k"], changed["v"]

        return change

    @torch.no_grad()
    def _shifted(self, x: Tensor, name: str, strength: float, share: Share, info: StepInfo) -> Tensor:
        grid = self.grid(self.network.places[name].block, info)
        condition = self._condition(name, grid, share, info)
        masks = self.masks(self.size(info))
        shift = self.network.part(name)(share.taken(x), condition)
        return x + share.spread(masks.tokens(shift, *grid)) * strength

    def grid(self, block: Block, info: StepInfo) -> Grid:
        """Rows and columns of a block's tokens: each halving rounds up."""
        assert info.inputs is not None
        height, width = info.inputs.x.shape[-2:]
        step = 2 ** self._levels[block]
        return -(-height // step), -(-width // step)

    def _condition(self, name: str, grid: Grid, share: Share, info: StepInfo) -> Tensor:
        key = (name, grid, share)
        if key not in self._conditions:
            assert info.inputs is not None
            hint = self.hints(self.size(info), info.inputs.x) * 2 - 1
            stride = self.network.stride(name)
            to = (grid[0] * stride, grid[1] * stride)
            if hint.shape[-2:] != to:
                hint = F.interpolate(hint, size=to, mode="bilinear", antialias=True)
            tokens = [self.network.part(name).condition(one) for one in share.own(hint.split(1))]
            forget_windows(self._conditions, share)
            self._conditions[key] = share.repeated(stacked(tokens, share.images))
        return self._conditions[key]


def levels(host: Host) -> dict[Block, int]:
    """How often the resolution was halved at each block with attention."""
    widths, blocks = host.config.widths, host.config.num_res_blocks
    down, up, n = {}, {}, 0
    for level in range(len(widths)):
        down |= {n + 1 + i: level for i in range(blocks[level])}
        n += blocks[level] + 1
    n = 0
    for level in reversed(range(len(widths))):
        up |= {n + i: level for i in range(blocks[level] + 1)}
        n += blocks[level] + 1
    sides = {"input": down, "output": up, "middle": {0: len(widths) - 1}}
    return {(side, n): sides[side][n] for (side, n), _, _ in host.config.transformers()}
