"""What PEFT and diffusers need beside the tensors: rank, alpha and target modules, one configuration a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import FileError
from .dora import DoRA
from .lowrank import LowRank
from .save import Placed
from .targets import Module


def config_of(parts: Sequence[Placed], path: Path) -> dict[str, Any]:
    """The fields of PEFT's LoraConfig that say what the parts of one network are.

    FileError where DoRA stands beside plain LoRA, which one configuration cannot say.
    """
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    normalised: set[bool] = set()
    for module, part in parts:
        for _, delta in part.deltas:
            inner = delta.inner if isinstance(delta, DoRA) else delta
            if isinstance(inner, LowRank):
                name = module_name(module)
                ranks[name] = inner.rank
                alphas[name] = _alpha(part.alpha, inner)
                normalised.add(inner is not delta)
    if len(normalised) > 1:
        raise FileError("DoRA stands beside LoRA in it", path, "one of them for diffusers and PEFT")
    rank, alpha = _usual(ranks.values()), _usual(alphas.values())
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": list(ranks),
        "use_dora": True in normalised,
        "bias": "none",
    }


def module_name(module: Module) -> str:
    """A module's name inside its network, as diffusers and transformers have it.

    Without `text_model.`, which transformers 5 has no more: PEFT looks for the end of a name.
    """
    return module.names["diffusers"][0].removeprefix(f"{module.network}.").removeprefix("text_model.")


def _alpha(said: float | None, delta: LowRank) -> float:
    """The file's alpha where it is what scales the change, else the alpha that does."""
    same = said is not None and delta.scale == said / delta.rank
    return said if same and said is not None else delta.scale * delta.rank


def _usual(values: Any) -> Any:
    return Counter(values).most_common(1)[0][0]
