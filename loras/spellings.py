"""How the trainers end a tensor's name: ending -> role, by rows, the longest ending first.

PEFT may write an adapter's own name into the ending (`lora_A.default.weight`); such rows are looked up without it.
"""

from __future__ import annotations

from typing import NamedTuple

from ..core.keymap import rows

ENDINGS = rows("""
    lora_up.weight                lora_up
    lora_down.weight              lora_down
    lora_mid.weight               lora_mid
    lora.up.weight                lora_up
    lora.down.weight              lora_down
    lora_linear_layer.up.weight   lora_up
    lora_linear_layer.down.weight lora_down
    up.weight                     lora_up
    down.weight                   lora_down
    lora_B.weight                 lora_up
    lora_A.weight                 lora_down
    lora_B                        lora_up
    lora_A                        lora_down
    lora_B.bias                   up_bias
    lora_embedding_A              embedding_a
    lora_embedding_B              embedding_b
    lora_magnitude_vector.weight  magnitude
    lora_magnitude_vector         magnitude
    dora_scale                    dora_scale
    alpha                         alpha
    scalar                        scalar
    rescale                       rescale
    hada_w1_a                     hada_w1_a
    hada_w1_b                     hada_w1_b
    hada_w2_a                     hada_w2_a
    hada_w2_b                     hada_w2_b
    hada_t1                       hada_t1
    hada_t2                       hada_t2
    lokr_w1                       lokr_w1
    lokr_w1_a                     lokr_w1_a
    lokr_w1_b                     lokr_w1_b
    lokr_w2                       lokr_w2
    lokr_w2_a                     lokr_w2_a
    lokr_w2_b                     lokr_w2_b
    lokr_t1                       lokr_t1
    lokr_t2                       lokr_t2
    a1.weight                     a1
    a2.weight                     a2
    b1.weight                     b1
    b2.weight                     b2
    bm.weight                     bm
    oft_blocks                    oft_blocks
    oft_diag                      oft_diag
    oft_R.weight                  oft_R
    oft_R                         oft_R
    boft_R                        boft_R
    boft_s                        boft_s
    ia3_l                         ia3_l
    on_input                      on_input
    weight                        weight
    bias                          bias
    base_layer.bias               bias
    diff                          diff
    diff_b                        diff_b
    w_norm                        w_norm
    b_norm                        b_norm
    set_weight                    set_weight
    set_bias                      set_bias
""")
NAMED = {
    ending
    for ending, role in ENDINGS.items()
    if ending.startswith(("lora_A", "lora_B", "lora_embedding", "lora_magnitude", "hada_", "lokr_"))
    or role in ("oft_R", "boft_R", "boft_s", "ia3_l")
}
"""Endings between whose parts PEFT may write the adapter's name."""

UNSUPPORTED = {
    "reshape_weight": "it changes a layer's size, which no adapter for this family of models does",
    "oft_r": "OFT of PEFT before 0.16; save it again with a newer PEFT",
    "bias_indices": "a sparse bias of the first LyCORIS versions",
    "bias_values": "a sparse bias of the first LyCORIS versions",
    "bias_size": "a sparse bias of the first LyCORIS versions",
}
"""Endings that are known and not supported, and why."""


class Split(NamedTuple):
    """A key taken apart: the module's name, the role of the tensor, PEFT's adapter name where there is one."""

    stem: str
    role: str
    adapter: str = ""


def split(key: str) -> Split | None:
    """A tensor's name taken apart; None where no ending is known."""
    parts = key.split(".")
    for i in range(1, len(parts)):
        ending = ".".join(parts[i:])
        if ending in ENDINGS:
            return Split(".".join(parts[:i]), ENDINGS[ending])
        unnamed = ".".join([parts[i], *parts[i + 2 :]])
        if len(parts) - i >= 2 and unnamed in NAMED:
            return Split(".".join(parts[:i]), ENDINGS[unnamed], parts[i + 1])
    return None


def why_unsupported(key: str) -> str | None:
    """The reason why a known ending is not used; None for one that nobody knows."""
    return next((why for ending, why in UNSUPPORTED.items() if key.endswith(f".{ending}")), None)
