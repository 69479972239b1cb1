"""What a denoiser is told besides noise and time: encoded prompts, SDXL's vector of pooled text and sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.errors import FileError, OptionError
from ..core.patch import Branch

MAX_REPEATED = 128  # chunks' worth of tokens that repeating may reach


@dataclass(frozen=True)
class Conditioning:
    """`context` [b, n, width] for cross-attention; `vector` [b, adm] for models with label_emb, else None.

    `branches` says what each equal part of the batch is: the prompt (cond) or the negative prompt (uncond).
    """

    context: Tensor
    vector: Tensor | None = None
    branches: tuple[Branch, ...] = ("cond",)

    def __len__(self) -> int:
        return len(self.context)

    def __getitem__(self, images: slice) -> Conditioning:
        """The same for some images of the batch."""
        vector = None if self.vector is None else self.vector[images]
        return replace(self, context=self.context[images], vector=vector)


def repeat_to(context: Tensor, tokens: int) -> Tensor:
    """A context [..., n, width] repeated to `tokens` tokens, a multiple of n.

    Cross-attention over a context repeated k times is exactly that over it once (softmax divides by k what
    it sums k times), so contexts of different lengths share a batch and no picture depends on the prompts
    beside it. Padding with empty chunks would change the shorter one.
    """
    times = tokens // context.shape[-2]
    return context if times == 1 else torch.cat([context] * times, dim=-2)


def common_length(lengths: Sequence[int], chunk: int = 77) -> int:
    """The least common multiple of context lengths; OptionError where it is beyond reason."""
    length = math.lcm(*lengths)
    if length > max(MAX_REPEATED * chunk, max(lengths)):
        counts = ", ".join(str(n // chunk) for n in sorted(set(lengths)))
        raise OptionError(
            f"prompts of {counts} chunks have no common length below {MAX_REPEATED} chunks",
            todo="shorten them, or run them one by one",
        )
    return length


def stacked(contexts: Sequence[Tensor], chunk: int = 77) -> Tensor:
    """Contexts [n_i, width] of one or several lengths as one [b, n, width]."""
    length = common_length([len(context) for context in contexts], chunk)
    return torch.stack([repeat_to(context, length) for context in contexts])


def aligned(*conditionings: Conditioning) -> list[Conditioning]:
    """The same with contexts of one length, so that prompt and negative prompt share one evaluation."""
    length = common_length([c.context.shape[1] for c in conditionings])
    return [replace(c, context=repeat_to(c.context, length)) for c in conditionings]


def sinusoids(values: Sequence[float], width: int = 256) -> Tensor:
    """[len(values) * width]: for each value v, cos(v f_i) then sin(v f_i), f_i = 10000^(-2 i / width).

    The encoding SDXL has for its sizes and score (arXiv:2307.01952, section 2.2).
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / half))
    angles = torch.tensor(list(values), dtype=torch.float32)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1).flatten()


def size_vector(pooled: Tensor, values: Sequence[float], width: int) -> Tensor:
    """Pooled text [p] and the sinusoids of `values`, `width` numbers in all; FileError if they do not fit."""
    each, left = divmod(width - len(pooled), len(values))
    if each <= 0 or left or each % 2:
        raise FileError(
            f"the UNet takes a vector of {width}, this text encoder gives {len(pooled)}",
            expected=f"{width - 256 * len(values)} and 256 for each of {len(values)} numbers",
            todo="give the model's own text encoder with --text-encoder",
        )
    return torch.cat([pooled, sinusoids(values, each).to(pooled)])


def join(first: Conditioning, second: Conditioning) -> Conditioning:
    """Both conditionings in one batch, first's images before second's, which are the negative prompt's."""
    vectors = [c.vector for c in (first, second) if c.vector is not None]
    context = torch.cat([first.context, second.context])
    return Conditioning(context, torch.cat(vectors) if vectors else None, (*first.branches, "uncond"))
