"""Guidance in Automatic1111, whose denoiser knows no functions of others: on its object, for one walk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.errors import OptionError
from ...core.patch import EvaluationPatch
from ..picking import picked

if TYPE_CHECKING:
    from .guidance_walk import Guide

Parts = Sequence[Sequence[tuple[int, float]]]  # for each image, (row, weight) of each part of its prompt


@dataclass(frozen=True)
class _Call:
    """One call of the host's network: rows, sigmas, what it is told by name; where in all rows it begins."""

    x: Tensor
    sigma: Tensor
    named: Mapping[str, Any]
    first: int


@contextmanager
def combined(guide: Guide) -> Iterator[None]:
    """Within, the denoiser combines answers by the kin; another's way to combine acts within ours."""
    denoiser = guide.walk.model
    if getattr(guide.walk.p.sd_model, "cond_stage_key", None) == "edit":
        raise OptionError("guidance of SigmaGraft on an InstructPix2Pix model", todo="leave it out")
    one = _Denoiser(guide)
    before = denoiser.__dict__.get("combine_denoised")
    theirs = denoiser.combine_denoised
    handles = [
        denoiser.register_forward_pre_hook(one.begin, with_kwargs=True),
        denoiser.inner_model.register_forward_hook(one.called, with_kwargs=True),
    ]
    denoiser.combine_denoised = partial(one.combine, theirs)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        del denoiser.combine_denoised
        if before is not None:
            denoiser.combine_denoised = before


class _Denoiser:
    """One walk of the host's denoiser. Samplers of timesteps walk x / sqrt(1 + sigma^2) and get noise as answers."""

    def __init__(self, guide: Guide) -> None:
        self.guide, self.network = guide, guide.walk.model.inner_model
        self.times = hasattr(guide.walk.p.sampler, "get_timesteps")
        self.sigma, self.calls, self.listening = 0.0, list[_Call](), False

    def begin(self, module: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        told = args[1] if len(args) > 1 else named["sigma"]
        level = float(told.flatten()[0])
        self.sigma = self.guide.walk.levels.sigma(level) if self.times else level
        self.calls.clear()
        self.listening = self.guide.begin(self.sigma)

    def called(self, module: Any, args: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> None:
        if self.listening:
            first = self.calls[-1].first + len(self.calls[-1].x) if self.calls else 0
            self.calls.append(_Call(args[0], args[1], named, first))

    def combine(self, theirs: Any, out: Tensor, parts: Parts, uncond: Any, scale: float) -> Tensor:
        """In place of the host's: all rows' answers, the parts of each image's prompt, the weight."""
        if not self.guide.now or not self.calls:
            return theirs(out, parts, uncond, scale)
        self.listening = False
        self._check()
        images, prompts = len(parts), sum(map(len, parts))
        given = torch.cat([call.x for call in self.calls])
        x = given[[rows[0][0] for rows in parts]]
        alone = scale == 1.0 or len(given) == prompts  # or the host left the negative prompt out
        wide = x * self._wider

        def denoised(answers: Tensor) -> tuple[Tensor, Tensor]:
            negative = answers[-images:]
            found = _composed(answers, parts, negative)
            return self._denoised(found, wide), self._denoised(negative, wide)

        def again(x: Tensor, *, negative: bool = False, patches: Sequence[EvaluationPatch] = ()) -> Tensor:
            with self.guide.again(patches):
                if negative:
                    rows = self._evaluated(x / self._wider, range(prompts, prompts + images), range(images))
                    return self._denoised(rows, x)
                of = [image for image, rows in enumerate(parts) for _ in rows]
                found = self._evaluated(x / self._wider, range(prompts), of)
                if not _plain(parts):
                    rest = self._evaluated(x / self._wider, range(prompts, prompts + images), range(images))
                    found = _composed(torch.cat([found, rest]), parts, rest)
                return self._denoised(found, x)

        def other(cond: Tensor, uncond_: Tensor) -> Tensor:
            rows = torch.cat([self._answer(cond, wide), self._answer(uncond_, wide)])
            single = [[(image, 1.0)] for image in range(images)]
            return self._denoised(theirs(rows, single, uncond, scale), wide)

        cond, negative = denoised(out)
        found = self.guide.guided(wide, self.sigma, (cond, None if alone else negative), scale, again, other)
        return self._answer(found, wide)

    def _check(self) -> None:
        """Where images' prompts of several parts stand side by side, what is watched has no order by image."""
        if self.guide.walk.rows.mixed and any(one.watching() for one in self.guide.now):
            raise OptionError(
                "guidance sag with AND in the prompts of a batch", todo="draw one image at a time"
            )

    @property
    def _wider(self) -> float:
        return (1 + self.sigma**2) ** 0.5 if self.times else 1.0

    def _denoised(self, answer: Tensor, wide: Tensor) -> Tensor:
        return wide - self.sigma * answer if self.times else answer

    def _answer(self, denoised: Tensor, wide: Tensor) -> Tensor:
        return (wide - denoised) / self.sigma if self.times else denoised

    def _evaluated(self, x: Tensor, wanted: range, of: Sequence[int]) -> Tensor:
        """The network's answers for these of all rows at another x; `of` says which image each is of."""
        found: list[Tensor] = []
        for call in self.calls:
            rows = [row for row in wanted if call.first <= row < call.first + len(call.x)]
            if rows:
                own = [row - call.first for row in rows]
                seen = x[[of[row - wanted.start] for row in rows]].to(call.x)
                self.guide.walk.rows.seen = rows[0]
                found.append(self.network(seen, call.sigma[own], **picked(call.named, own, len(call.x))))
        return torch.cat(found)


def _plain(parts: Parts) -> bool:
    return all(len(rows) == 1 and rows[0][1] == 1.0 for rows in parts)


def _composed(answers: Tensor, parts: Parts, negative: Tensor) -> Tensor:
    """For each image uncond + sum of weight (cond - uncond) over the parts of its prompt."""
    if _plain(parts):
        return answers[[rows[0][0] for rows in parts]]
    images = [
        negative[image] + sum((answers[row] - negative[image]) * weight for row, weight in rows)
        for image, rows in enumerate(parts)
    ]
    return torch.stack(images)
