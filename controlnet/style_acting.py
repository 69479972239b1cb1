"""The T2I style adapter in a run: a picture as further tokens of the context, for the prompt's half alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from ..core.blocks import attend
from ..core.errors import FileError, MissingPartError
from ..core.patch import AttentionPatch, EvaluationPatch, InputPatch, StepInfo
from .acting import Acting
from .host import Host
from .settings import Control
from .style import StyleAdapter

_NEEDED = "the image encoder of CLIP ViT-L/14 (openai/clip-vit-large-patch14), as options clip_vision=FILE"


class StyleActing(Acting):
    """Tokens times strength after the words; rows of the negative prompt attend to their own words alone."""

    foreign = ("frames", "joint_norm", "fidelity", "weights", "pool", "mask")
    modes = ("balanced",)

    def __init__(self, control: Control, host: Host, network: StyleAdapter) -> None:
        super().__init__(control, host)
        self.network = network
        width = network.proj.shape[1]
        if width != host.config.context_dim:
            raise FileError(
                f"a style adapter for contexts of {width}", control.model, f"{host.config.context_dim}"
            )
        if host.vision is None:
            raise MissingPartError("a style adapter without an image encoder", control.model, _NEEDED)
        self._tokens: Tensor | None = None

    def patches(self) -> Iterable[EvaluationPatch]:
        patches: list[EvaluationPatch] = []
        for block, depth, width in self.host.config.transformers():
            alone = partial(self._alone, self.host.config.heads(width))
            for index in range(depth):
                patches.append(InputPatch(block, index, "attn2", self._longer))
                patches.append(AttentionPatch(block, index, "attn2", alone))
        return patches

    @torch.no_grad()
    def tokens(self, like: Tensor) -> Tensor:
        """[n, tokens, width], encoded once."""
        found = self._tokens
        if found is None:
            vision: Callable[[object], Tensor] = self.host.vision  # type: ignore[assignment]
            hidden = torch.cat([vision(image) for image in self.pictures()])
            found = self._tokens = self._encoded(hidden)
        return found.to(like)

    def _encoded(self, hidden: Tensor) -> Tensor:
        return self.network(hidden.to(self.network.proj))

    def _longer(self, q: Tensor, k: Tensor, v: Tensor, info: StepInfo) -> tuple[Tensor, Tensor, Tensor]:
        strength, share = self.strength(info), self.share(info)
        if not strength:
            return q, k, v
        tokens = share.of_images(self.tokens(k).split(1)) * strength
        longer = torch.cat([k, torch.cat([tokens] * len(share.acts))], dim=1)
        return q, longer, longer if v is k else torch.cat([v, torch.cat([tokens] * len(share.acts))], dim=1)

    def _alone(self, heads: int, q: Tensor, k: Tensor, v: Tensor, info: StepInfo) -> Tensor:
        """Takes from the negative prompt's rows what the tokens brought: attention without them less with them."""
        branches = info.branches or ("cond",)
        if not self.strength(info) or "uncond" not in branches:
            return torch.zeros_like(q)
        words = k.shape[1] - self.tokens(k).shape[1]
        parts = zip(*(x.chunk(len(branches)) for x in (q, k, v)), branches, strict=True)
        return torch.cat([_without(a, b, c, words, heads, branch == "uncond") for a, b, c, branch in parts])


def _without(q: Tensor, k: Tensor, v: Tensor, words: int, heads: int, wanted: bool) -> Tensor:
    if not wanted:
        return torch.zeros_like(q)
    return attend(q, k[:, :words], v[:, :words], heads) - attend(q, k, v, heads)
