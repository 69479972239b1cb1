"""(IA)^3 (arXiv:2205.05638): outputs or inputs of a layer multiplied by learned factors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .delta import Delta, Shape, f32
from .group import Format, Group


@dataclass(frozen=True, eq=False)
class IA3(Delta):
    """W * (1 + factors) along the output rows (axis 0) or the input columns (axis 1); factors [n]."""

    factors: Tensor
    axis: int = 0

    family = "(IA)3"

    def change(self, weight: Tensor) -> Tensor:
        shape = [1] * weight.ndim
        shape[self.axis] = -1
        return weight * f32(self.factors, weight).reshape(shape)

    def misfit(self, shape: Shape) -> str | None:
        made, there = self.factors.numel(), shape[self.axis] if self.axis < len(shape) else 0
        side = ("output", "input")[self.axis]
        return None if made == there else f"made for {made} {side} channels, this weight has {there}"


class IA3Bias(IA3):
    """The factors of a layer's outputs on its bias, where it has one."""

    optional = True


def _build(group: Group) -> dict[str, Delta]:
    """LyCORIS: factors around 0 with a mark for the side; the bias stays."""
    return {"weight": IA3(group.take("ia3"), int(group.number("on_input") or 0))}


def _build_peft(group: Group) -> dict[str, Delta]:
    """PEFT: factors around 1, [out, 1] or [1, in]; of a convolution [1, n, 1, 1], where its configuration tells.

    Factors of the output multiply the bias too.
    """
    factors = group.take("ia3_l")
    if factors.ndim == 4:
        names = (group.config.get("feedforward_modules", group.stem) if group.config else None) or ()
        given = [names] if isinstance(names, str) else names
        on_input = any(group.stem == name or group.stem.endswith(f".{name}") for name in given)
    else:
        on_input = factors.shape[0] == 1
    change = factors.flatten().float() - 1
    return {"weight": IA3(change, 1)} if on_input else {"weight": IA3(change), "bias": IA3Bias(change)}


FORMAT = Format("(IA)3", ("ia3", "on_input"), _build)
PEFT = Format("(IA)3", ("ia3_l",), _build_peft)
