"""What a LoRA can be trained as. The product's own algebras make the weights, so what is trained is what is loaded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sigmagraft.loras.delta import Delta
from sigmagraft.loras.dora import DoRA
from sigmagraft.loras.lokr import Factor, LoKr
from sigmagraft.loras.lowrank import LowRank
from sigmagraft.loras.targets import Targets
from sigmagraft.standalone.unet import UNet

FACTOR = 8  # sides of a Kronecker product's first factor, where the weight's sides allow it
KOHYA = "kohya (diffusers names)"
Roles = dict[str, Tensor]


def low_rank(weight: Tensor, rank: int) -> Roles:
    """up = 0, down with rows of length about 1 (arXiv:2106.09685)."""
    rank = min(rank, *weight.shape[:2])
    down = torch.randn(rank, *weight.shape[1:]) * weight[0].numel() ** -0.5
    return {
        "lora_up.weight": torch.zeros(len(weight), rank, *(1,) * (weight.ndim - 2)),
        "lora_down.weight": down,
    }


def weight_decomposed(weight: Tensor, rank: int) -> Roles:
    """A low rank change, and the lengths of the weight's rows (arXiv:2402.09353)."""
    rows = torch.linalg.vector_norm(weight.flatten(1), dim=1).reshape(-1, *(1,) * (weight.ndim - 1))
    return low_rank(weight, rank) | {"dora_scale": rows}


def kronecker(weight: Tensor, rank: int) -> Roles:
    """w1 = 0 of at most FACTOR^2 numbers, w2 whole (arXiv:2309.14859); `rank` is not used."""
    sides = [next(n for n in (FACTOR, 4, 2, 1) if side % n == 0) for side in weight.shape[:2]]
    rest = [side // n for side, n in zip(weight.shape[:2], sides, strict=True)]
    second = torch.randn(*rest, *weight.shape[2:]) * weight[0].numel() ** -0.5
    return {"lokr_w1": torch.zeros(*sides), "lokr_w2": second}


def delta_of(roles: Roles) -> Delta:
    """The change that these tensors make."""
    if "lokr_w1" in roles:
        return LoKr(Factor(roles["lokr_w1"]), Factor(roles["lokr_w2"]))
    inner = LowRank(roles["lora_up.weight"], roles["lora_down.weight"])
    return DoRA(inner, roles["dora_scale"]) if "dora_scale" in roles else inner


FORMS: dict[str, Callable[[Tensor, int], Roles]] = {
    "lora": low_rank,
    "dora": weight_decomposed,
    "lokr": kronecker,
}


class LoraForm(nn.Module):
    """A change to every matrix and convolution of a UNet, under the names of kohya's files."""

    def __init__(self, unet: UNet, form: str = "lora", rank: int = 8, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        state = unet.state_dict()
        modules = Targets.of({name: tuple(value.shape) for name, value in state.items()}).modules
        changed = [m for m in modules if len(m.shapes["weight"]) > 1]
        self.stems = {f"{m.path}.weight": m.names[KOHYA][0] for m in changed}
        started = {stem: FORMS[form](state[path], rank) for path, stem in self.stems.items()}
        self.tensors = nn.ParameterDict(
            {_key(stem, role): value for stem, roles in started.items() for role, value in roles.items()}
        )
        self.roles = {stem: tuple(roles) for stem, roles in started.items()}
        self.unet = [unet]  # in a list: no part of what is trained

    def deltas(self) -> dict[str, Delta]:
        """The change of each of the UNet's weights."""
        return {
            path: delta_of({role: self.tensors[_key(stem, role)] for role in self.roles[stem]})
            for path, stem in self.stems.items()
        }

    def weights(self) -> dict[str, Tensor]:
        """The UNet's weights with the changes on them, differentiable in what is trained."""
        base = self.unet[0].state_dict()
        return {path: base[path] + delta.change(base[path]) for path, delta in self.deltas().items()}

    def predict(self, weights: dict[str, Tensor], x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """What the UNet answers with these weights."""
        return functional_call(self.unet[0], weights, (x, t, context))

    def published(self) -> dict[str, Tensor]:
        """The file's tensors; alpha is the rank."""
        found = {f"{stem}.{role}": self.tensors[_key(stem, role)] for stem, role in self._places()}
        ranks = {
            stem: self.tensors[_key(stem, role)].shape[0] for stem, role in self._places() if "down" in role
        }
        return found | {f"{stem}.alpha": torch.tensor(float(rank)) for stem, rank in ranks.items()}

    def _places(self) -> list[tuple[str, str]]:
        return [(stem, role) for stem, roles in self.roles.items() for role in roles]


def _key(stem: str, role: str) -> str:
    """A name without dots, which a ParameterDict's may not hold."""
    return f"{stem}/{role}".replace(".", "/")
