"""Text encoders' configs and tokenizers as the folders of diffusers' layout have them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .model import Family
from .text import TextConfig
from .textrules import RULES
from .tokens import END, START, VOCAB, Tokenizer

LENGTH = 77
LAYOUT = "0.30.0"  # of diffusers, whose inpainting class asks model_index.json for a version


def text_config(c: TextConfig, kind: str) -> dict[str, Any]:
    """A text encoder's config.json."""
    return {
        "architectures": [kind],
        "model_type": "clip_text_model",
        "vocab_size": c.vocab,
        "hidden_size": c.width,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "intermediate_size": c.intermediate,
        "max_position_embeddings": c.max_length,
        "hidden_act": c.act,
        "projection_dim": c.projection or 512,
        # what the published folders say: the pooled vector is taken at the largest id, which is the end's
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def save_tokenizer(
    tokenizer: Tokenizer | None, texts: Sequence[TextConfig], family: Family, which: int, folder: Path
) -> None:
    """vocab.json, merges.txt and the special tokens of encoder `which`; CLIP's own where the model came without."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer or Tokenizer.clip(min(min(text.vocab for text in texts), VOCAB))
    words.save(folder)
    pad = words.pad if words.pad is not None and len(texts) == 1 else RULES[family].pads[which]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": words.word(pad)}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
