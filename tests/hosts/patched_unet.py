"""A double of the UNets that know `transformer_options`: where ComfyUI and the Forges ask which lists, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sigmagraft.core.blocks import SpatialTransformer, TransformerBlock
from sigmagraft.standalone.unet import UNet


class PatchedUNet(UNet):
    """`control` are residuals as the host's own ControlNets give them: lists that are emptied from their ends."""

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Mapping[str, list[Tensor]] | None = None,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor:
        told = transformer_options if transformer_options is not None else {}
        lists = told.get("patches", {})
        emb = F.silu(self.embedding(timesteps, y, x))
        skips = []
        for n, layers in enumerate(self.input_blocks):
            told["block"] = ("input", n)
            x = added(_through(layers, x, emb, context, told), control, "input")
            for patch in lists.get("input_block_patch", ()):
                x = patch(x, told)
            skips.append(x)
        told["block"] = ("middle", 0)
        x = added(_through(self.middle_block, x, emb, context, told), control, "middle")
        for n, layers in enumerate(self.output_blocks):
            told["block"] = ("output", n)
            skip = added(skips.pop(), control, "output")
            for patch in lists.get("output_block_patch", ()):
                x, skip = patch(x, skip, told)
            size = skips[-1].shape[-2:] if skips else None
            x = _through(layers, torch.cat([x, skip], dim=1), emb, context, told, size)
        return self.out(x)


def added(x: Tensor, control: Mapping[str, list[Tensor]] | None, side: str) -> Tensor:
    given = (control or {}).get(side)
    return x + given.pop() if given else x


def _through(layers: Any, x: Tensor, emb: Tensor, context: Tensor, told: Any, size: Any = None) -> Tensor:
    for layer in layers:
        if isinstance(layer, SpatialTransformer):
            x = _transformed(layer, x, context, told)
        elif type(layer).__name__ == "ResBlock":
            x = layer(x, emb)
        else:
            x = layer(x, size) if type(layer).__name__ == "Upsample" else layer(x)
    return x


def _transformed(layer: SpatialTransformer, x: Tensor, context: Tensor, told: Any) -> Tensor:
    blocks = list(layer.transformer_blocks)
    for index, block in enumerate(blocks):
        block.forward = _patched(block, told, index)  # type: ignore[method-assign]
    try:
        return layer(x, context)
    finally:
        for block in blocks:
            del block.forward


def _patched(block: Any, told: Any, index: int) -> Any:
    assert isinstance(block, TransformerBlock)

    def forward(x: Tensor, context: Tensor, *_: Any) -> Tensor:
        lists = told.get("patches", {})
        told["block_index"] = index
        extra = {name: value for name, value in told.items() if name != "patches"}
        for name, norm, source in (("attn1", block.norm1, None), ("attn2", block.norm2, context)):
            n = norm(x)
            k = v = n if source is None else source
            for patch in lists.get(f"{name}_patch", ()):
                n, k, v = patch(n, k, v, extra)
            attention = getattr(block, name)
            x = x + _attended(attention, n, k, v)
        return x + block.ff(block.norm3(x))

    return forward


def _attended(attention: Any, n: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from sigmagraft.core.blocks import attend

    q, k, v = attention.to_q(n), attention.to_k(k), attention.to_v(v)
    return attention.to_out[0](attend(q, k, v, attention.heads))
