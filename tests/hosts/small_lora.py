"""The runner's small networks under a host's names, and adapters for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigmagraft.loras import Targets
from sigmagraft.loras.curve import place_of
from sigmagraft.standalone.lora_prompt import wanted
from sigmagraft.standalone.lora_stack import Loras

from ..loras.files import kohya_name, lora, matrices, mixed
from ..loras.small import Small, write

SIGMAS = (14.0, 9.0, 5.0, 2.0, 0.7, 0.0)


class Held(nn.Module):
    """A network as an attribute of another, as hosts hold them."""

    def __init__(self, **networks: nn.Module) -> None:
        super().__init__()
        for name, network in networks.items():
            setattr(self, name, network)


def write_files(folder: Path, targets: Targets) -> None:
    """ink: LoRA on all; many: seven families; ia3; peft: its names; other: made for a wider model, but two layers."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in _files(targets).items():
        write(folder / f"{name}.safetensors", tensors)


@lru_cache(maxsize=4)
def _files(targets: Targets) -> dict[str, dict[str, Tensor]]:
    modules = matrices(targets)
    unet = [m for m in modules if m.network == "unet"]
    wide = [m for m in unet if min(m.shapes["weight"][:2]) >= 32]
    wrong = {
        key: torch.zeros(999, 4) if key.endswith("up.weight") else v for key, v in lora(unet[:4]).items()
    }
    return {
        "ink": lora(modules),
        "many": mixed(wide),
        "ia3": _ia3([m for m in unet if m.path.endswith(("to_k", "to_v"))]),
        "peft": _peft(unet[::2]),
        "other": wrong | lora(unet[4:6]),
    }


def _ia3(modules: list[Any]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    found: dict[str, Tensor] = {}
    for module in modules:
        found[f"{kohya_name(module)}.weight"] = torch.randn(module.shapes["weight"][0]) * 0.2
        found[f"{kohya_name(module)}.on_input"] = torch.tensor(0)
    return found


def _peft(modules: list[Any]) -> dict[str, Tensor]:
    torch.manual_seed(4)
    found: dict[str, Tensor] = {}
    for module in modules:
        name = f"base_model.model.{module.names['diffusers'][0].removeprefix('unet.')}"
        out, *rest = module.shapes["weight"]
        found[f"{name}.lora_A.weight"] = torch.randn(4, *rest) * 0.1
        found[f"{name}.lora_B.weight"] = torch.randn(out, 4, *(1,) * (len(rest) - 1)) * 0.1
    return found


def inputs(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """x, timesteps and context of an evaluation of the small UNet."""
    torch.manual_seed(seed)
    return torch.randn(2, 4, 8, 8), torch.tensor([400.0, 400.0]), torch.randn(2, 7, 64)


@torch.inference_mode()
def by_runner(small: Small, folder: Path, text: str, sigma: float, call: Callable[[], Tensor]) -> Tensor:
    """What the networks answer under the runner's own adapters at a sigma of SIGMAS."""
    loras = Loras(lambda: small.networks, "Stable Diffusion 1.x")
    acting = []
    for one in wanted(text.split()):
        acting.append((loras.kept(folder / f"{one.source}.safetensors"), one.strength))
    loras.for_run(acting)
    loras.at(place_of(sigma, SIGMAS))
    try:
        return call()
    finally:
        loras.clear()
