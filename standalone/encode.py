"""Prompts -> what the UNet takes, for a whole batch: contexts of one length and SDXL's vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..core.errors import OptionError
from .conditioning import Conditioning, size_vector, stacked
from .lora_prompt import without_tags
from .model import Model
from .reader import COMMA_BACKTRACK, Reader
from .textrules import Sizes
from .textual_inversion import Embeddings


@torch.no_grad()
def encode_prompts(
    model: Model,
    prompts: Sequence[str],
    *,
    size: tuple[int, int] = (512, 512),
    negative: bool = False,
    clip_skip: int | None = None,
    emphasis: str = "a1111",
    embeddings: Embeddings | None = None,
    comma_backtrack: int = COMMA_BACKTRACK,
    zero_empty: bool | None = None,
    sizes: Sizes | None = None,
) -> Conditioning:
    """One row of conditioning for each prompt, on the model's device in its dtype.

    `<lora:...>` in a prompt is no word of it. `size`: the picture's (width, height), `sizes`: more about it for
    SDXL; `negative`: these are negative prompts; `clip_skip`: 1 the last layer, 2 the one before it, None what
    the family was trained with;
    `comma_backtrack`: how many tokens a full chunk may give up to end at a comma; `zero_empty`: an empty
    prompt is zeros (None: a negative one of SDXL base, where `emphasis` says so). Contexts of several
    lengths are repeated to a common one, which leaves each picture as it is alone. Raises OptionError,
    MissingPartError, and FileError for embeddings that do not fit.
    """
    if not prompts:
        raise OptionError("no prompt was given", expected="at least one, which may be empty")
    reader = Reader.of(
        model, clip_skip=clip_skip, emphasis=emphasis, embeddings=embeddings, comma_backtrack=comma_backtrack
    )
    prompts = prompts if negative else [without_tags(prompt) for prompt in prompts]
    unique = list(dict.fromkeys(prompts))
    contexts, pooled = reader.read(unique)
    if zero_empty is None:
        zero_empty = negative and reader.style.zero_negative and model.info.family == "sdxl"
    for i, prompt in enumerate(unique):
        if zero_empty and not prompt.strip():
            contexts[i], pooled[i] = torch.zeros_like(contexts[i]), torch.zeros_like(pooled[i])
    order = [unique.index(prompt) for prompt in prompts]
    context = stacked([contexts[i] for i in order], reader.length).to(model.device, model.dtype)
    if not reader.rule.sizes:
        return Conditioning(context)
    values = (sizes or Sizes()).values(reader.rule.sizes, size, negative)
    width = model.unet.config.adm_in_channels or 0
    vector = torch.stack([size_vector(pooled[i], values, width) for i in order])
    return Conditioning(context, vector.to(model.device, model.dtype))
