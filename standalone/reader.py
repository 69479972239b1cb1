"""A model's text encoders and one way of reading: prompts -> weighed hidden states and pooled vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import FileError
from .chunks import Chunk, Framed, Names, Vector, embedding_names, frame, pieces
from .emphasis import Emphasis, find_emphasis
from .model import Model
from .text import TextEncoder
from .textrules import TextRule, hidden_layer, text_rule
from .textual_inversion import Embeddings
from .tokens import VOCAB, Tokenizer

COMMA_BACKTRACK = 20  # tokens, A1111's default


@dataclass(frozen=True)
class Reader:
    """Everything that turns a prompt into numbers; `layers`: the hidden state to use of each of `texts`."""

    texts: Sequence[TextEncoder]
    layers: Sequence[int]
    rule: TextRule
    style: Emphasis
    tokenizer: Tokenizer
    embeddings: Embeddings
    names: Names
    comma_backtrack: int

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        clip_skip: int | None = None,
        emphasis: str = "a1111",
        embeddings: Embeddings | None = None,
        comma_backtrack: int = COMMA_BACKTRACK,
    ) -> Reader:
        """A model's reader; OptionError, MissingPartError or FileError where the options do not fit it."""
        style, rule = find_emphasis(emphasis), text_rule(model.info.family, len(model.texts))
        layers = [hidden_layer(model.info.family, text.config.layers, clip_skip) for text in model.texts]
        tokenizer, embeddings = _tokenizer(model), embeddings or Embeddings()
        names = embedding_names(tokenizer, embeddings) if style.bare_names else {}
        return cls(model.texts, layers, rule, style, tokenizer, embeddings, names, comma_backtrack)

    @property
    def length(self) -> int:
        """Tokens in a framed chunk, start and end among them: 77."""
        return min(text.config.max_length for text in self.texts)

    def chunks(self, prompt: str) -> list[Chunk]:
        """The prompt cut into chunks of at most `length` - 2 tokens with their weights."""
        found = pieces(self.style.parse(prompt), self.tokenizer, self.embeddings, self.names)
        return self.style.fill(list(found), self.length - 2, self.tokenizer.comma, self.comma_backtrack)

    def read(self, prompts: Sequence[str]) -> tuple[list[Tensor], list[Tensor]]:
        """Each prompt's context [chunks * length, width of all encoders] and pooled vector [p], in float32.

        The pooled vector is the last encoder's, of the prompt's first chunk; weights do not touch it.
        """
        chunked = [self.chunks(prompt) for prompt in prompts]
        hidden, pooled = zip(*(self._encode(i, chunked) for i in range(len(self.texts))), strict=True)
        return [torch.cat(of_one, dim=-1) for of_one in zip(*hidden, strict=True)], pooled[-1]

    def _encode(self, which: int, chunked: Sequence[Sequence[Chunk]]) -> tuple[list[Tensor], list[Tensor]]:
        """One encoder's weighed hidden states [chunks * length, width] and pooled vectors [p], two lists."""
        counts = [len(chunks) for chunks in chunked]
        # One empty chunk more: ComfyUI's arithmetic weighs against the empty prompt.
        frames = [self._frame(which, chunk) for chunks in [*chunked, [[]]] for chunk in chunks]
        weights = torch.tensor([framed.weights for framed in frames[:-1]])
        weighed = bool((weights != 1).any())
        z, pooled = self._hidden(which, frames if weighed else frames[:-1])
        if weighed:
            weights = weights.to(z.device)
            # Chunks without weights stay what they are to the last bit.
            plain = (weights == 1).all(dim=1)[:, None, None]
            z = torch.where(plain, z[:-1], self.style.weigh(z[:-1], weights, z[-1]))
        firsts = [sum(counts[:i]) for i in range(len(counts))]
        return [part.flatten(0, 1) for part in z.split(counts)], [pooled[first] for first in firsts]

    def _frame(self, which: int, chunk: Chunk) -> Framed:
        """A chunk with start, end and the padding that the family's encoder was trained with."""
        pad = self.rule.pads[which]
        if len(self.texts) == 1 and self.tokenizer.pad is not None:  # a folder's tokenizer knows better
            pad = self.tokenizer.pad
        end = self.tokenizer.end
        return frame(chunk, self.tokenizer.start, end, end if pad is None else pad, self.length)

    def _hidden(self, which: int, frames: Sequence[Framed]) -> tuple[Tensor, Tensor]:
        """float32 hidden states [chunks, length, width] and pooled vectors [chunks, p]."""
        text, role = self.texts[which], self.rule.roles[which]
        device = next(text.parameters()).device
        ids = [[0 if isinstance(entry, Vector) else entry for entry in framed.entries] for framed in frames]
        embeds = text.embed(torch.tensor(ids, device=device))
        for i, framed in enumerate(frames):
            for j, entry in enumerate(framed.entries):
                if isinstance(entry, Vector):
                    embeds[i, j] = entry.embedding.rows(role, text.config.width)[entry.row].to(embeds)
        eos = torch.tensor([framed.eos for framed in frames], device=device)
        z, pooled = text(embeds, eos, self.layers[which], self.rule.final_norm)
        return z.float(), pooled.float()


def _tokenizer(model: Model) -> Tokenizer:
    """The model's own tokenizer, else CLIP's; FileError where the text encoder lacks some of its tokens."""
    rows = min(text.config.vocab for text in model.texts)
    tokenizer = model.tokenizer or Tokenizer.clip(min(rows, VOCAB))
    if tokenizer.vocab_size > rows:
        raise FileError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the text encoder {rows}",
            model.source,
            "no more tokens than the text encoder knows",
            "use the tokenizer and text encoder of one model",
        )
    return tokenizer
