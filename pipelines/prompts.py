"""Prompts, or their embeddings, as the conditioning of a run: prompt, and what guidance leads away from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.errors import OptionError
from ..standalone.conditioning import Conditioning, aligned, size_vector
from ..standalone.encode import encode_prompts
from ..standalone.model import Model
from ..standalone.textrules import RULES, Sizes
from ..standalone.textual_inversion import Embeddings

Text = str | Sequence[str] | None


@dataclass(frozen=True)
class Words:
    """One side of guidance: a text for each encoder, or what the encoders would have given.

    Attributes:
        second: what SDXL's second encoder reads; None is `text`.
        embeds, pooled: [b, n, width] and [b, p] in place of the texts.
        sizes: SDXL's numbers.
        zero: an absent text is zeros, not an empty prompt (SDXL base).
    """

    text: Text = None
    second: Text = None
    embeds: Tensor | None = None
    pooled: Tensor | None = None
    sizes: Sizes | None = None
    zero: bool = False


class Prompter:
    """Encodes both sides for a batch of images."""

    def __init__(
        self, model: Model, embeddings: Embeddings, size: tuple[int, int], clip_skip: int | None = None
    ) -> None:
        self.model, self.embeddings, self.size = model, embeddings, size
        self.rule = RULES[model.info.family]
        self.skip = None if clip_skip is None else self.rule.skip + clip_skip

    def batch(self, words: Words) -> int:
        """How many prompts are given. OptionError for none, or for a text and its embeddings both."""
        if (words.text is None) == (words.embeds is None):
            raise OptionError(
                "neither prompt nor prompt_embeds" if words.text is None else "prompt and prompt_embeds",
                expected="one of the two",
            )
        if words.embeds is not None:
            return len(words.embeds)
        return 1 if isinstance(words.text, str) else len(words.text or ())

    def both(
        self, prompt: Words, negative: Words, images: int, guided: bool
    ) -> tuple[Conditioning, Conditioning | None]:
        """(cond, uncond) with `images` rows for each prompt; uncond is None where nothing is guided.

        OptionError where the negative prompts are not as many as the prompts.
        """
        count = self.batch(prompt)
        cond = _repeated(self.one(prompt, count, False), images)
        if not guided:
            return cond, None
        uncond = _repeated(self.one(negative, count, True), images)
        cond, uncond = aligned(cond, uncond)
        return cond, uncond

    def one(self, words: Words, count: int, negative: bool) -> Conditioning:
        """One side, `count` rows."""
        if words.embeds is not None:
            return self._given(words, negative)
        absent = words.text is None
        first = self._encoded(_texts(words.text, count), words, negative, words.zero and absent)
        if words.second is None or len(self.model.texts) < 2:
            return first
        second = self._encoded(_texts(words.second, count), words, negative, False)
        first, second = aligned(first, second)
        width = self.model.texts[0].config.width
        return replace(
            second, context=torch.cat([first.context[..., :width], second.context[..., width:]], -1)
        )

    def _encoded(self, texts: list[str], words: Words, negative: bool, zero: bool) -> Conditioning:
        return encode_prompts(
            self.model,
            texts,
            size=self.size,
            negative=negative,
            clip_skip=self.skip,
            emphasis="none",
            embeddings=self.embeddings,
            zero_empty=zero,
            sizes=words.sizes,
        )

    def _given(self, words: Words, negative: bool) -> Conditioning:
        assert words.embeds is not None
        context = words.embeds.to(self.model.device, self.model.dtype)
        if not self.rule.sizes:
            return Conditioning(context)
        if words.pooled is None:
            which = "negative_pooled_prompt_embeds" if negative else "pooled_prompt_embeds"
            raise OptionError(f"embeddings without {which}", todo="give what encode_prompt gave beside them")
        width = self.model.unet.config.adm_in_channels or 0
        values = (words.sizes or Sizes()).values(self.rule.sizes, self.size, negative)
        vector = torch.stack([size_vector(row, values, width) for row in words.pooled])
        return Conditioning(context, vector.to(self.model.device, self.model.dtype))


def _texts(text: Text, count: int) -> list[str]:
    texts = [text or ""] * count if text is None or isinstance(text, str) else list(text)
    if len(texts) != count:
        raise OptionError(
            f"{len(texts)} prompts beside {count}", expected="as many of each, or one text for all"
        )
    return texts


def _repeated(cond: Conditioning, images: int) -> Conditioning:
    if images == 1:
        return cond
    vector = None if cond.vector is None else cond.vector.repeat_interleave(images, 0)
    return replace(cond, context=cond.context.repeat_interleave(images, 0), vector=vector)
