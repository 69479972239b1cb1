"""Parts of an adapter -> tensors under kohya's, diffusers', PEFT's or OneTrainer's names; bits stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from ..core.errors import FileError
from .delta import Delta
from .dora import DoRA
from .full import Full, Set
from .loha import LoHa
from .lokr import Factor, LoKr
from .lora_file import LoraFile, Part
from .lowrank import LowRank
from .spellings import ENDINGS
from .targets import Module, Targets

_KOHYA = {role: ending for ending, role in reversed(ENDINGS.items())}  # the first row of a role is kohya's
_PEFT = {
    "lora_up": "lora_B.weight",
    "lora_down": "lora_A.weight",
    "magnitude": "lora_magnitude_vector",
}
Roles = dict[str, Tensor]


class Placed(NamedTuple):
    """A part of an adapter and the module it changes."""

    module: Module
    part: Part


@dataclass(frozen=True)
class Naming:
    """What a program calls modules and tensors; ``inline`` where alpha is a tensor, not a configuration's field."""

    unet: str
    text: str
    endings: Mapping[str, str]
    inline: bool

    def module(self, module: Module) -> str:
        """What it calls a module."""
        return module.names[self.text if module.network.startswith("text") else self.unet][0]


NAMINGS = {
    "kohya": Naming("kohya (diffusers names)", "kohya", _KOHYA, inline=True),
    "diffusers": Naming("diffusers", "diffusers", _PEFT, inline=False),
    "peft": Naming("PEFT", "PEFT", _PEFT, inline=False),
    "onetrainer": Naming("OneTrainer", "OneTrainer", _KOHYA, inline=True),
}
_KOHYA_XL = Naming("kohya (LDM names)", "kohya", _KOHYA, inline=True)


def naming_for(name: str, targets: Targets) -> Naming:
    """A naming; kohya's scripts call the modules of SDXL's UNet by LDM names, those of SD1 and SD2 by diffusers'."""
    large = any(module.path.startswith("label_emb") for module in targets.modules)
    return _KOHYA_XL if name == "kohya" and large else NAMINGS[name]


def placed(file: LoraFile, targets: Targets) -> list[Placed]:
    """A file's parts with their modules; those that mean no module are left out, as `bind` has told."""
    found = ((targets.find(part.stem), part) for part in file.parts.values())
    return [Placed(there[0], part) for there, part in found if there is not None]


def tensors_of(parts: Iterable[Placed], naming: Naming, path: Path) -> dict[str, Tensor]:
    """Every part under its name in a naming. FileError for a family that the naming cannot hold."""
    tensors: dict[str, Tensor] = {}
    for module, part in parts:
        stem = naming.module(module)
        for parameter, delta in part.deltas:
            roles = _roles(delta, module, parameter, part.alpha if naming.inline else None)
            if not naming.inline:
                roles = _peft(roles, module)
            lacking = [role for role in roles if role not in naming.endings] if roles else [delta.family]
            if lacking:
                _refuse(part, parameter, delta, naming, path)
            tensors |= {f"{stem}.{naming.endings[role]}": value for role, value in roles.items()}
    return tensors


def _refuse(part: Part, parameter: str, delta: Delta, naming: Naming, path: Path) -> NoReturn:
    family = next(name for (_, one), name in zip(part.deltas, part.families, strict=True) if one is delta)
    raise FileError(
        f"{part.stem}: the naming {naming.unet} cannot hold {family} of a {parameter}",
        path,
        "LoRA, LoCon, DoRA" + (", LoHa, LoKr or differences" if naming.inline else " of rows"),
        "make a LoRA of it: sigmagraft lora merge FILE --method svd --rank N",
    )


def _roles(delta: Delta, module: Module, parameter: str, alpha: float | None) -> Roles:
    """Role -> tensor of a change, none where no naming has a word for it."""
    ndim = len(module.shapes.get(parameter, ()))
    if isinstance(delta, DoRA):
        magnitude = delta.magnitude
        shape = magnitude.shape[:2] + (1,) * (ndim - 2)
        inner = _roles(delta.inner, module, parameter, alpha)
        return inner | {"dora_scale": magnitude.reshape(shape)} if inner else {}
    if isinstance(delta, Full):
        norm = len(module.shapes["weight"]) == 1
        role = {"weight": "w_norm" if norm else "diff", "bias": "b_norm" if norm else "diff_b"}[parameter]
        return {role: delta.value if delta.scale == 1.0 else delta.value * delta.scale}
    if isinstance(delta, Set):
        return {f"set_{parameter}": delta.value}
    if "embedding" in module.path.rpartition(".")[2]:  # PEFT alone has a word for tables of tokens
        return {}
    factors = _factors(delta, module)
    return factors | _scale(delta, next(iter(factors.values())), alpha) if factors else {}


def _factors(delta: Delta, module: Module) -> Roles:
    if isinstance(delta, LowRank):
        return _low_rank(delta, module)
    if isinstance(delta, LoHa):
        own = {"w1_a": delta.a1, "w1_b": delta.b1, "w2_a": delta.a2, "w2_b": delta.b2}
        cores = {"t1": delta.t1, "t2": delta.t2}
        return {f"hada_{role}": value for role, value in (own | cores).items() if value is not None}
    if isinstance(delta, LoKr):
        return _factor(delta.first, "1") | _factor(delta.second, "2")
    return {}


def _low_rank(delta: LowRank, module: Module) -> Roles:
    """Kernel axes as the layer has them: some trainers leave them out, some add them to linear layers."""
    out, *rest = module.shapes["weight"]
    ones = (1,) * (len(rest) - 1)
    up = delta.up.reshape(out, -1, *ones)
    if delta.mid is not None:
        return {
            "lora_up": up,
            "lora_down": delta.down.reshape(len(delta.down), -1, *ones),
            "lora_mid": delta.mid,
        }
    return {"lora_up": up, "lora_down": delta.down.reshape(-1, *rest)}


def _factor(factor: Factor, number: str) -> Roles:
    own = {"w{}": factor.whole, "w{}_a": factor.a, "w{}_b": factor.b, "t{}": factor.core}
    return {f"lokr_{role.format(number)}": value for role, value in own.items() if value is not None}


def _scale(delta: LowRank | LoHa | LoKr | Delta, like: Tensor, alpha: float | None) -> Roles:
    """alpha where the change has a rank, the file's own where it says the same; else a scalar."""
    scale: float = getattr(delta, "scale", 1.0)
    if delta.rank is None:
        return {} if scale == 1.0 else {"scalar": torch.tensor(scale)}
    if alpha is None and scale == 1.0:
        return {}
    same = alpha is not None and scale == alpha / delta.rank
    return {"alpha": _number(alpha if same and alpha is not None else scale * delta.rank, like)}


def _number(value: float, like: Tensor) -> Tensor:
    """A number in the dtype of the tensors beside it, or in fp32 where that would round it."""
    short = torch.tensor(value, dtype=like.dtype) if like.dtype.itemsize > 1 else torch.tensor(value)
    return short if float(short) == value else torch.tensor(value, dtype=torch.float32)


def _peft(roles: Roles, module: Module) -> Roles:
    """Alpha is for the configuration to say; magnitudes of rows are [out], of a convolution [1, out, 1, 1]."""
    roles = {role: value for role, value in roles.items() if role != "alpha"}
    scale = roles.get("dora_scale")
    shape = module.shapes.get("weight", ())
    if scale is not None and scale.numel() == shape[0] and scale.shape[0] == shape[0]:
        del roles["dora_scale"]
        roles["magnitude"] = scale.reshape((-1,) if len(shape) == 2 else (1, -1, 1, 1))
    return roles
