"""What a guidance is: a class that changes one evaluation at one or more of five places, and its entry in GUIDANCES."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor

from ..core.errors import OptionError
from ..core.option import Option
from ..core.patch import EvaluationPatch
from ..core.registry import Registry
from ..core.unet_config import UNetConfig

Class = TypeVar("Class", bound="type[Guidance]")
# Where in the run every guidance acts, as shares of its steps.
WINDOW = (
    Option("start", 0.0, 0.0, 1.0, "share of the steps after which it begins"),
    Option("stop", 1.0, 0.0, 1.0, "share of the steps after which it ends"),
)


class Again(Protocol):
    """One more evaluation by the network: its output at another x, or with patches."""

    def __call__(
        self, x: Tensor, *, negative: bool = False, patches: Sequence[EvaluationPatch] = ()
    ) -> Tensor: ...


@dataclass(frozen=True)
class Evaluation:
    """What a guidance sees of one evaluation; tensors [batch, channels, h, w].

    Attributes:
        x: noisy: x0 + sigma noise, on rectified flow (1 - sigma) x0 + sigma noise.
        cond, uncond: what the network answers to the prompt and the negative prompt (noise, velocity or x0);
            uncond is None where the prompt alone is evaluated.
        weight: what guidance multiplies cond - uncond by.
        step: how many steps of the run are done, of `steps`.
        alpha: of x, 1 or 1 - sigma.
        denoised, output: (the network's answer, x) -> x0, and (x0, x) -> the answer.
        again: evaluates once more.
    """

    x: Tensor
    sigma: float
    cond: Tensor
    uncond: Tensor | None
    weight: float
    step: float
    steps: int
    alpha: float
    denoised: Callable[[Tensor, Tensor], Tensor]
    output: Callable[[Tensor, Tensor], Tensor]
    again: Again

    def x0(self, answer: Tensor) -> Tensor:
        """What the network's answer here says that x is without noise."""
        return self.denoised(answer, self.x)

    def answer(self, x0: Tensor) -> Tensor:
        """The network's answer that says so."""
        return self.output(x0, self.x)


@dataclass(frozen=True)
class Setting:
    """What a guidance may know of its run beforehand: the UNet's sizes (None where nobody knows), whether it is
    rectified flow.
    """

    config: UNetConfig | None = None
    flow: bool = False

    def known(self, name: str) -> UNetConfig:
        """The sizes. OptionError where they are not known."""
        if self.config is None:
            raise OptionError(f"guidance {name} needs to know the UNet", todo="leave it out here")
        return self.config


class Guidance:
    """Does nothing; a kin overrides what it changes.

    In this order: the network runs with `patches`, `baseline` changes uncond, `direction` changes cond - uncond, the
    weight is applied, `term` is added, `finish` has the last word. All but `direction` are in the space of the
    network's output. One object serves one run.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def patches(self) -> Sequence[EvaluationPatch]:
        """What changes the network itself; asked once a run."""
        return ()

    def watching(self) -> Sequence[EvaluationPatch]:
        """Patches of the first evaluation alone, not of further ones that guidance asks for."""
        return ()

    def baseline(self, at: Evaluation, uncond: Tensor) -> Tensor:
        return uncond

    def direction(self, at: Evaluation, pull: Tensor) -> Tensor:
        return pull

    def term(self, at: Evaluation) -> Tensor | None:
        return None

    def finish(self, at: Evaluation, guided: Tensor) -> Tensor:
        return guided


@dataclass(frozen=True)
class GuidanceSpec:
    """A guidance and what lists say of it.

    `make(setting, **options)`; `extra` evaluations of the network beside those of guidance; `remembers`: what it does
    goes by earlier evaluations, so that a run cannot be stopped and resumed.
    """

    name: str
    make: Callable[..., Guidance]
    label: str
    paper: str = ""
    options: tuple[Option, ...] = ()
    extra: int = 0
    remembers: Callable[[dict[str, Any]], bool] = lambda options: False
    aliases: tuple[str, ...] = ()

    @property
    def doc(self) -> str:
        return self.make.__doc__ or ""


GUIDANCES: Registry[GuidanceSpec] = Registry("guidance")


def guidance(name: str, options: Sequence[Option] = (), **declared: Any) -> Callable[[Class], Class]:
    """Register a class as a guidance; `declared` are the fields of GuidanceSpec."""

    def register(made: Class) -> Class:
        GUIDANCES.add(GuidanceSpec(name=name, make=made, options=(*options, *WINDOW), **declared))
        return made

    return register
