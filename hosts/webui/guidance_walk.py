"""The guidance kin in a walk of a web UI: what they change in the network, and how its answers become one."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...core.adapters import Acting
from ...core.patch import EvaluationPatch, StepInfo
from ...guidance import Chosen, Setting
from ...guidance.apply import Pulled
from ...guidance.spec import Again, Guidance
from ..control_config import config_of
from ..guidance import Walk as KinWalk
from ..guidance import of_network
from .control_model import patcher_of
from .guidance_ldm import combined
from .walk import Walk

Conds = tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]] | None]


@dataclass(frozen=True)
class _Seen:
    """Patches that act while `acts` says so."""

    given: Sequence[EvaluationPatch]
    acts: Callable[[], bool]

    def active(self, info: StepInfo) -> bool:
        return self.acts()

    def patches(self) -> Sequence[EvaluationPatch]:
        return self.given


class Guide:
    """The kin of one walk.

    Attributes:
        now: those that act in the evaluation under way.
    """

    def __init__(self, walk: Walk, chosen: Sequence[Chosen]) -> None:
        self.walk, self.now = walk, list[Guidance]()
        self._network, self._again = of_network(chosen), False
        config = config_of(walk.unet) if self._network else None
        self.kin = KinWalk.begin(chosen, walk.sigmas, Setting(config, walk.levels.flow))
        if self._network:
            walk.run.add(lambda host: self._acting())

    def _acting(self) -> list[Acting]:
        found: list[Acting] = []
        for guidance in [kin.guidance for kin in self.kin.kin]:
            on = partial(self._on, guidance)
            found += [_Seen(guidance.patches(), on)]
            found += [_Seen(guidance.watching(), lambda on=on: on() and not self._again)]
        return found

    def _on(self, guidance: Guidance) -> bool:
        return guidance in self.now

    def begin(self, sigma: float) -> bool:
        """An evaluation begins; whether any act in it."""
        self.now = self.kin.acting(sigma)
        return bool(self.now)

    @contextmanager
    def again(self, patches: Sequence[EvaluationPatch]) -> Iterator[None]:
        """One more evaluation, with patches, that nothing watches."""
        if not self._network:
            yield
            return
        self._again = True
        try:
            with self.walk.run.more(patches):
                yield
        finally:
            self._again = False

    def guided(
        self,
        x: Tensor,
        sigma: float,
        answers: tuple[Tensor, Tensor | None],
        weight: float,
        again: Again,
        other: Pulled | None,
    ) -> Tensor:
        """The guided denoised of denoised answers to the prompt and the negative one."""
        return self.kin.denoised(x, sigma, *answers, weight, again, other)


def begin(chosen: Sequence[Chosen], walk: Walk) -> None:
    """Has the kin act in the walk that begins. OptionError where one does not fit the model."""
    guide = Guide(walk, chosen)
    walk.stack.enter_context(_on_options(guide) if walk.patched else combined(guide))


@contextmanager
def _on_options(guide: Guide) -> Iterator[None]:
    """In the Forges: a clone of their patcher for this walk, whose evaluations we are asked about last."""
    objects, before = guide.walk.p.sd_model.forge_objects, patcher_of(guide.walk.p)
    assert before is not None
    clone = before.clone()
    clone.add_conditioning_modifier(partial(_modified, guide))
    objects.unet = clone
    try:
        yield
    finally:
        if objects.unet is clone:
            objects.unet = before


def _modified(
    guide: Guide, model: Any, x: Any, sigma: Any, uncond: Any, cond: Any, scale: Any, options: Any, seed: Any
) -> tuple[Any, ...]:
    """One evaluation as the host is about to do it, with a cfg function of its own; another's acts within ours."""
    if guide.begin(float(sigma.flatten()[0])):
        function = partial(_subtracted, guide, (cond, uncond), options.get("sampler_cfg_function"))
        options = {**options, "sampler_cfg_function": function}
    return model, x, sigma, uncond, cond, scale, options, seed


def _subtracted(guide: Guide, conds: Conds, theirs: Any, args: dict[str, Any]) -> Tensor:
    """What the host subtracts from x."""
    x, weight = args["input"], float(args["cond_scale"])
    skipped = math.isclose(weight, 1.0) and not args["model_options"].get("disable_cfg1_optimization")
    alone = skipped or conds[1] is None or args["uncond_denoised"] is None
    strength = sum(one.get("strength", 1.0) for one in conds[0])
    uncond = None if alone else args["uncond_denoised"]
    answers = _composed(args["cond_denoised"], uncond, strength)

    def again(x: Tensor, *, negative: bool = False, patches: Sequence[EvaluationPatch] = ()) -> Tensor:
        both = not alone and strength != 1.0
        with guide.again(patches):
            found = _evaluated(args, [] if negative else conds[0], conds[1] if negative or both else None, x)
        return found[1] if negative else _composed(found[0], found[1] if both else None, strength)[0]

    def other(cond: Tensor, uncond: Tensor) -> Tensor:
        told = {"cond": x - cond, "uncond": x - uncond, "cond_denoised": cond, "uncond_denoised": uncond}
        return x - theirs({**args, **told})

    sigma = float(args["sigma"].flatten()[0])
    return x - guide.guided(x, sigma, answers, weight, again, other if theirs else None)


def _composed(cond: Tensor, uncond: Tensor | None, strength: float) -> tuple[Tensor, Tensor | None]:
    """What the host makes of prompts joined by AND: their mean, pulling by the sum of their weights."""
    return cond if uncond is None or strength == 1.0 else torch.lerp(uncond, cond, strength), uncond


def _evaluated(args: Mapping[str, Any], cond: Any, uncond: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The model's denoised once more, by the host's own function."""
    names = ("backend.sampling.sampling_function", "ldm_patched.modules.samplers")
    module: Any = next(sys.modules[name] for name in names if name in sys.modules)
    options = args["model_options"]
    return module.calc_cond_uncond_batch(args["model"], cond, uncond, x, args["sigma"], options)
