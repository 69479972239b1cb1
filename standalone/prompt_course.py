"""What the network is told at each evaluation of a run: prompts that change, in parts that add up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..loras.curve import place_of
from .conditioning import Conditioning, aligned, join
from .prompt_editing import Count
from .prompt_parts import Part

_ROUNDING = 1e-4  # of a step: a sigma read off a tensor is a rounding of it
Encode = Callable[[list[str]], Conditioning]
Texts = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Moment:
    """What one evaluation is told.

    Attributes:
        cond: the prompt; of prompts in parts every image's first part, then every image's second ...
        uncond: what guidance leads away from; None where nothing does.
        weights: [parts, images, 1, 1, 1] of the parts; None for one part of weight 1.
    """

    cond: Conditioning
    uncond: Conditioning | None = None
    weights: Tensor | None = None

    @cached_property
    def both(self) -> Conditioning:
        """cond and uncond in one batch."""
        assert self.uncond is not None
        return join(self.cond, self.uncond)

    @property
    def parts(self) -> int:
        """How many times the batch goes through the network for the prompt."""
        return 1 if self.weights is None else len(self.weights)

    def composed(self, cond: Tensor, uncond: Tensor) -> Tensor:
        """uncond + sum of w_i (cond_i - uncond) (arXiv:2206.01714, equation 11), from the parts' outputs."""
        if self.weights is None:
            return cond
        pulls = cond.unflatten(0, (self.parts, -1)) - uncond
        return uncond + (pulls * self.weights.to(pulls)).sum(0)


Told = Callable[[float], Moment]


def always(cond: Conditioning, uncond: Conditioning | None) -> Told:
    """The same at every sigma."""
    moment = Moment(cond, uncond)
    return lambda sigma: moment


def by_step(sigmas: Sequence[float]) -> Callable[[float], int]:
    """sigma -> the number of the step, from 1, that it lies in; where one ends the next begins."""
    steps = len(sigmas) - 1
    return lambda sigma: min(int(place_of(sigma, sigmas).step + _ROUNDING) + 1, steps)


class ByEvaluation:
    """The number of the step as the A1111 family counts: evaluations, the first of which counts as none.

    So the words of the first step hold for two evaluations; those beyond `steps` get the first step's again.
    """

    def __init__(self, steps: int, done: int) -> None:
        self.steps, self.done = steps, done

    def __call__(self, sigma: float) -> int:
        step, self.done = self.done, self.done + 1
        return step if 1 <= step <= self.steps else 1


def told_by(
    prompts: Sequence[Sequence[Part]],
    negatives: Sequence[Part] | None,
    encode: tuple[Encode, Encode],
    count: Count,
    step: Callable[[float], int],
) -> Told:
    """All that the run will say, encoded; `encode` are the prompts' and the negative prompts'."""
    said = [_texts(prompts, negatives, number, count) for number in _steps(prompts, negatives, count)]
    weights = _weights(prompts)
    moments = {texts: _moment(texts, encode, len(prompts), weights) for texts in dict.fromkeys(said)}
    if len(moments) == 1:
        only = moments[said[0]]
        return lambda sigma: only
    return lambda sigma: moments[said[step(sigma) - 1]]


def _steps(
    prompts: Iterable[Sequence[Part]], negatives: Sequence[Part] | None, count: Count
) -> Sequence[int]:
    parts = [*(part for parts in prompts for part in parts), *(negatives or ())]
    return range(1, count.steps + 1) if any(part.words.changes for part in parts) else [1]


def _texts(
    prompts: Sequence[Sequence[Part]], negatives: Sequence[Part] | None, step: int, count: Count
) -> Texts:
    """The words of a step: of each part in turn those of all images, then the negative prompts'."""
    most = max(map(len, prompts))
    parts = [of_one[n] if n < len(of_one) else of_one[0] for n in range(most) for of_one in prompts]
    return tuple(p.at(step, count) for p in parts), tuple(p.at(step, count) for p in negatives or ())


def _weights(prompts: Sequence[Sequence[Part]]) -> Tensor | None:
    """[parts, images, 1, 1, 1], 0 where an image has fewer parts; None where every image has one of weight 1."""
    most = max(map(len, prompts))
    if most == 1 and all(parts[0].weight == 1.0 for parts in prompts):
        return None
    rows = [[parts[n].weight if n < len(parts) else 0.0 for parts in prompts] for n in range(most)]
    return torch.tensor(rows)[..., None, None, None]


def _moment(texts: Texts, encode: tuple[Encode, Encode], images: int, weights: Tensor | None) -> Moment:
    cond = encode[0](list(texts[0]))
    cond = replace(cond, branches=("cond",) * (len(texts[0]) // images))
    if not texts[1]:
        return Moment(cond)
    cond, uncond = aligned(cond, encode[1](list(texts[1])))
    return Moment(cond, uncond, None if weights is None else weights.to(cond.context.device))
