"""Adapters with random values, for any set of modules, in kohya's layout."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from sigmagraft.loras import Module, Targets


def kohya_name(module: Module) -> str:
    """lora_unet_ with LDM names, lora_te_ or lora_te1_ and lora_te2_, underscores for dots."""
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
    return prefix[module.network] + module.path.replace(".", "_")


def matrices(targets: Targets) -> list[Module]:
    """Every linear layer and convolution."""
    return [m for m in targets.modules if len(m.shapes.get("weight", ())) > 1 and "embedding" not in m.path]


def lora(modules: list[Module], rank: int = 4, seed: int = 0, size: float = 0.1) -> dict[str, Tensor]:
    """A LoRA on all of these, alpha half its rank."""
    torch.manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for module in modules:
        out, *rest = module.shapes["weight"]
        name = kohya_name(module)
        tensors[f"{name}.lora_up.weight"] = torch.randn(out, rank, *(1,) * (len(rest) - 1)) * size
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, *rest) * size
        tensors[f"{name}.alpha"] = torch.tensor(rank / 2)
    return tensors


def mixed(modules: list[Module], seed: int = 0) -> dict[str, Tensor]:
    """Module by module another family: LoRA, DoRA, LoHa, LoKr, OFT, (IA)3, a full difference."""
    torch.manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for i, module in enumerate(modules):
        shape, name = module.shapes["weight"], kohya_name(module)
        own = FAMILIES[i % len(FAMILIES)](shape[0], prod(shape[1:]), shape)
        tensors |= {f"{name}.{key}": value for key, value in own.items()}
    return tensors


def _r(*shape: int) -> Tensor:
    return torch.randn(shape) * 0.2


FAMILIES = (
    lambda o, i, s: {"lora_up.weight": _r(o, 2), "lora_down.weight": _r(2, i)},
    lambda o, i, s: {
        "lora_up.weight": _r(o, 2),
        "lora_down.weight": _r(2, i),
        "dora_scale": _r(o, 1).abs() + 1,
    },
    lambda o, i, s: {
        "hada_w1_a": _r(o, 2),
        "hada_w1_b": _r(2, i),
        "hada_w2_a": _r(o, 2),
        "hada_w2_b": _r(2, i),
    },
    lambda o, i, s: {"lokr_w1": _r(4, 4), "lokr_w2": _r(o // 4, s[1] // 4, *s[2:])},
    lambda o, i, s: {"oft_blocks": _r(o // 4, 4, 4), "alpha": torch.tensor(0.0)},
    lambda o, i, s: {"weight": _r(o), "on_input": torch.tensor(0)},
    lambda o, i, s: {"diff": _r(*s)},
)
