"""Reference-only: the UNet looks at a picture while it draws, without further weights (Mikubill, sd-webui-controlnet).

In every evaluation the UNet first runs on the reference, noised as far. What its self-attentions project is kept and
added to the keys and values of the drawing's (attention); the mean and deviation of what leaves its blocks are given
to the drawing's (adain, arXiv:1703.06868).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..core.blocks import attend
from ..core.patch import (
    AttentionPatch,
    Block,
    BlockPatch,
    EvaluationPatch,
    InputPatch,
    Inputs,
    ResidualPatch,
    StepInfo,
)
from ..core.unet_config import UNetConfig
from .acting import Acting
from .host import Host
from .settings import REFERENCE, Control

_NO_VARIANCE = 1e-6


class Reference(Acting):
    """`strength` chooses how many layers take part, those of the widest channels first: 1 is all of the attentions
    and half of the blocks, above 2 is all; `fidelity` in 0..1 is how much of the negative prompt's half stays as it is
    without the reference.
    """

    foreign = ("frames", "joint_norm", "vision", "weights", "pool", "mask")
    modes = ("balanced",)

    def __init__(self, control: Control, host: Host) -> None:
        super().__init__(control, host)
        method = REFERENCE[str(control.model)]
        strength = control.strength
        self._attentions = attention_order(host.config, strength) if method != "adain" else []
        self._blocks = adain_order(host.config, strength) if method != "attention" else []
        self._tokens: dict[tuple[Block, int], Tensor] = {}
        self._moments: dict[Block, tuple[Tensor, Tensor]] = {}
        self._latents: dict[tuple[int, int], Tensor] = {}

    def patches(self) -> Iterable[EvaluationPatch]:
        patches: list[EvaluationPatch] = [ResidualPatch(self._look)]
        heads = {block: self.host.config.heads(width) for block, _, width in self.host.config.transformers()}
        for block, index in self._attentions:
            place = (block, index)
            patches.append(InputPatch(block, index, "attn1", partial(self._seen, place)))
            patches.append(AttentionPatch(block, index, "attn1", partial(self._own, place, heads[block])))
        patches += [BlockPatch(block, partial(self._styled, block)) for block in self._blocks]
        return patches

    def _look(self, info: StepInfo) -> dict[Block, Tensor]:
        """Runs the UNet on the reference and keeps what it shows; adds nothing itself."""
        self._tokens, self._moments = {}, {}
        if self.strength(info) and info.inputs is not None:
            kept: list[EvaluationPatch] = [
                InputPatch(block, index, "attn1", partial(self._keep_tokens, (block, index)))
                for block, index in self._attentions
            ]
            kept += [BlockPatch(block, partial(self._keep_moments, block)) for block in self._blocks]
            self.host.evaluate(replace(info, inputs=self._inputs(info, info.inputs)), kept)
        return {}

    def _inputs(self, info: StepInfo, inputs: Inputs) -> Inputs:
        """The evaluation with the noised reference in place of every image."""
        size = self.size(info)
        if size not in self._latents:
            pixels = self.hints(size, inputs.x) * 2 - 1
            self._latents[size] = torch.cat([self.host.encode(one) for one in pixels.split(1)])
        share = self.share(info)
        rows = share.of_images(self._latents[size].split(1))
        seen = self.host.noised(rows, info).to(inputs.x)
        x = torch.cat([seen] * len(share.acts))
        return replace(inputs, x=torch.cat([x, inputs.x[:, x.shape[1] :]], dim=1))

    def _keep_tokens(
        self, place: tuple[Block, int], q: Tensor, k: Tensor, v: Tensor, info: StepInfo
    ) -> tuple[Tensor, Tensor, Tensor]:
        self._tokens[place] = k
        return q, k, v

    def _keep_moments(self, block: Block, x: Tensor, info: StepInfo) -> Tensor:
        self._moments[block] = _moments(x)
        return x

    def _seen(
        self, place: tuple[Block, int], q: Tensor, k: Tensor, v: Tensor, info: StepInfo
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values of the drawing and of the reference."""
        tokens = self._tokens.get(place)
        if tokens is None:
            return q, k, v
        return q, torch.cat([k, tokens], dim=1), torch.cat([v, tokens], dim=1)

    def _own(
        self, place: tuple[Block, int], heads: int, q: Tensor, k: Tensor, v: Tensor, info: StepInfo
    ) -> Tensor:
        """fidelity (attention to itself alone - attention to both) in the negative prompt's rows."""
        if place not in self._tokens or "uncond" not in info.branches or not self.control.fidelity:
            return torch.zeros_like(q)
        own = q.shape[1]
        alone = attend(q, k[:, :own], v[:, :own], heads) - attend(q, k, v, heads)
        return _uncond(alone * self.control.fidelity, info)

    def _styled(self, block: Block, x: Tensor, info: StepInfo) -> Tensor:
        """x with the reference's mean and deviation in each channel."""
        if block not in self._moments:
            return x
        mean, deviation = _moments(x)
        to_mean, to_deviation = self._moments[block]
        styled = (x - mean) / deviation * to_deviation + to_mean
        return styled + _uncond((x - styled) * self.control.fidelity, info)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    return mean, variance.clamp(min=_NO_VARIANCE).sqrt()


def _uncond(x: Tensor, info: StepInfo) -> Tensor:
    """x in the negative prompt's rows, zeros in the others."""
    branches = info.branches or ("cond",)
    parts = x.chunk(len(branches))
    return torch.cat(
        [p if b == "uncond" else torch.zeros_like(p) for p, b in zip(parts, branches, strict=True)]
    )


def attention_order(config: UNetConfig, strength: float) -> list[tuple[Block, int]]:
    """The self-attentions that take part: the share `strength` of all, widest first."""
    every = [(block, i, width) for block, depth, width in config.transformers() for i in range(depth)]
    every.sort(key=lambda place: -place[2])
    return [(block, i) for n, (block, i, _) in enumerate(every) if n / len(every) < strength]


def adain_order(config: UNetConfig, strength: float) -> list[Block]:
    """The blocks whose moments are taken over: the middle one, then those nearest to it.

    Input blocks below the first level that hold a ResNet count from the last, output blocks but the last level's
    from the first, half as readily.
    """
    inputs, n = [], 1
    for level, blocks in enumerate(config.num_res_blocks):
        inputs += [n + i for i in range(blocks) if level]
        n += blocks + 1
    outputs = range(sum(blocks + 1 for blocks in config.num_res_blocks[1:]))
    thresholds: dict[Block, float] = {("middle", 0): 0.0}
    for k, number in enumerate(inputs):
        thresholds["input", number] = 2 * (1 - k / len(inputs))
    for number in outputs:
        thresholds["output", number] = 2 * number / len(outputs)
    return [place for place, threshold in thresholds.items() if threshold < strength]
