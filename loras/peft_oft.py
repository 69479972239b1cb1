"""OFT and BOFT as PEFT stores them: they turn a layer's input, W' = W R^T, where kohya and LyCORIS turn its output."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from .delta import Delta, Shape, f32
from .group import Format, Group
from .oft import rescaled
from .peft_config import PeftConfig


@dataclass(frozen=True, eq=False)
class InputOFT(Delta):
    """OFTv2 (arXiv:2506.19847): R = (I - Q)(I + Q)^-1 of each block, Q skew with ``upper`` [n, size (size-1) / 2].

    With ``terms`` R is its Neumann series of that many terms. Columns are inputs times kernel; blocks repeat where one
    is shared.
    """

    upper: Tensor
    size: int
    terms: int = 0  # 0: the exact inverse
    limit: float = 0.0  # COFT: the norm that each Q may have; 0 is any

    family = "OFT"

    def change(self, weight: Tensor) -> Tensor:
        turns = self._turns(weight)
        columns = weight.flatten(1).unflatten(1, (-1, self.size))
        turned = torch.einsum("okc,krc->okr", columns, turns.expand(columns.shape[1], -1, -1))
        return turned.reshape(weight.shape) - weight

    def _turns(self, like: Tensor) -> Tensor:
        upper = f32(self.upper, like)
        rows, columns = torch.triu_indices(self.size, self.size, 1, device=upper.device)
        q = torch.zeros(len(upper), self.size, self.size, device=upper.device)
        q[:, rows, columns] = upper
        q = q - q.transpose(-1, -2)
        if self.limit > 0:
            norm = q.norm(dim=(1, 2), keepdim=True)
            q = torch.where(norm <= self.limit, q, q * (self.limit / norm))
        eye = torch.eye(self.size, device=q.device)
        return _neumann(q, self.terms) if self.terms else torch.linalg.solve(eye + q, eye - q, left=False)

    @property
    def rank(self) -> int:
        return self.upper.shape[0]

    def misfit(self, shape: Shape) -> str | None:
        inputs, blocks = prod(shape[1:]), len(self.upper)
        if inputs == blocks * self.size or (blocks == 1 and inputs % self.size == 0):
            return None
        return f"made for {blocks * self.size} inputs, this weight has {inputs}"


def _neumann(q: Tensor, terms: int) -> Tensor:
    """I + 2 (Q + ... + Q^(terms-2)) + Q^(terms-1): how PEFT cuts the series of (I + Q)(I - Q)^-1."""
    eye = torch.eye(q.shape[-1], device=q.device)
    powers = [eye.expand_as(q)]
    for _ in range(1, terms):
        powers.append(powers[-1] @ q)
    if terms <= 2:
        return powers[0] + sum(2 * power for power in powers[1:])
    return powers[0] + sum(2 * power for power in powers[1:-1]) + powers[-1]


@dataclass(frozen=True, eq=False)
class InputBOFT(Delta):
    """W' = rescale * W (M_m ... M_1)^T, M_i = P_i diag(R_i) P_i^T, R = (I - S)(I + S)^-1, S = (B - B^T) / 2."""

    blocks: Tensor  # [m, n, b, b]
    rescale: Tensor | None = None

    family = "BOFT"

    def change(self, weight: Tensor) -> Tensor:
        blocks = f32(self.blocks, weight)
        skew = (blocks - blocks.transpose(-1, -2)) / 2
        eye = torch.eye(blocks.shape[-1], device=blocks.device)
        turns = torch.linalg.solve(eye + skew, eye - skew, left=False)
        columns = weight.flatten(1).T  # M W^T, factor by factor
        for i, factor in enumerate(turns):
            order = self._order(i).to(columns.device)
            turned = columns[torch.argsort(order)].unflatten(0, factor.shape[:2])
            columns = torch.einsum("nij,njc->nic", factor, turned).flatten(0, 1)[order]
        return rescaled(columns.T.reshape(weight.shape), self.rescale) - weight

    def _order(self, factor: int) -> Tensor:
        """PEFT's butterfly permutation: in each of n / 2^i spans, half blocks with even numbers first."""
        count, number, size, _ = self.blocks.shape
        inputs, half = number * size, size // 2
        if count == 1:
            return torch.arange(inputs)
        spans = torch.arange(inputs).reshape(number // 2**factor, -1, half)
        return torch.cat([spans[:, 0::2], spans[:, 1::2]], dim=1).flatten()

    @property
    def rank(self) -> int:
        return self.blocks.shape[-1]

    def misfit(self, shape: Shape) -> str | None:
        made, inputs = self.blocks.shape[1] * self.blocks.shape[2], prod(shape[1:])
        return None if made == inputs else f"made for {made} inputs, this weight has {inputs}"


def _build(group: Group) -> dict[str, Delta]:
    upper = group.take("oft_R")
    if upper.ndim != 2:
        group.refuse(f"oft_R {tuple(upper.shape)} is of PEFT before 0.16", "[blocks, size (size - 1) / 2]")
    size = (1 + round((1 + 8 * upper.shape[1]) ** 0.5)) // 2
    said = (group.config or PeftConfig({})).get
    series = said("use_cayley_neumann", group.stem, True)
    terms = int(said("num_cayley_neumann_terms", group.stem, 5)) if series else 0
    limit = float(said("eps", group.stem, 6e-5)) / len(upper) ** 0.5 if said("coft", group.stem) else 0.0
    return {"weight": InputOFT(upper, size, terms, limit)}


def _build_boft(group: Group) -> dict[str, Delta]:
    return {"weight": InputBOFT(group.take("boft_R"), group.pop("boft_s"))}


OFT = Format("OFT", ("oft_R",), _build)
BOFT = Format("BOFT", ("boft_R",), _build_boft)
