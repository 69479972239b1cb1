"""The guidance kin on what every host gives: x and the denoised answers of its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..guidance import Chosen, Evaluation, Kin, Setting, combine, open_kin
from ..guidance.apply import Pulled, acting
from ..guidance.spec import Again, Guidance
from ..loras.curve import Place, place_of

__all__ = ["Walk", "of_network"]
_NETWORK = ("pag", "sag", "freeu")


def of_network(chosen: Sequence[Chosen]) -> bool:
    """Whether any of them needs to know the network: the others go with models of every kind."""
    return any(one.spec.name in _NETWORK for one in chosen)


@dataclass(frozen=True)
class Walk:
    """The kin of one walk over these sigmas.

    The network's answer is taken for the direction of the noise, (x - x0) / sigma: the noise itself where a model
    predicts noise, the velocity on rectified flow.
    """

    kin: Sequence[Kin]
    sigmas: Sequence[float]
    setting: Setting

    @classmethod
    def begin(cls, chosen: Sequence[Chosen], sigmas: Sequence[float], setting: Setting) -> Walk:
        """OptionError where one does not fit the model."""
        return cls(open_kin(chosen, setting), sigmas, setting)

    def place(self, sigma: float) -> Place:
        return place_of(sigma, self.sigmas)

    def acting(self, sigma: float) -> list[Guidance]:
        """Those that act at a sigma."""
        place = self.place(sigma)
        return acting(self.kin, place.step, place.steps)

    def denoised(
        self,
        x: Tensor,
        sigma: float,
        cond: Tensor,
        uncond: Tensor | None,
        weight: float,
        again: Again,
        other: Pulled | None = None,
    ) -> Tensor:
        """The guided denoised; `again` gives denoised too, and `other` weighs denoised answers."""

        def answer(x0: Tensor, x: Tensor) -> Tensor:
            return (x - x0) / sigma

        def evaluate(x: Tensor, **more: object) -> Tensor:
            return answer(again(x, **more), x)  # type: ignore[arg-type]

        def weighed(cond: Tensor, uncond: Tensor) -> Tensor:
            assert other is not None
            return answer(other(x - sigma * cond, x - sigma * uncond), x)

        place = self.place(sigma)
        at = Evaluation(
            x,
            sigma,
            answer(cond, x),
            None if uncond is None else answer(uncond, x),
            weight,
            place.step,
            place.steps,
            1.0 - sigma if self.setting.flow else 1.0,
            lambda out, x: x - sigma * out,
            answer,
            evaluate,
        )
        return at.x0(combine(self.acting(sigma), at, weighed if other else None))
