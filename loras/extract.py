"""What one model has that another has not, as an adapter: LoRA, LoCon or the difference whole, one weight at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..core.errors import OptionError
from .delta import Delta, Shape
from .full import Later
from .lora_file import Part
from .resize import Keep, low_rank
from .save import Placed
from .targets import Module, Targets

Weights = Callable[[str], Tensor]
KINDS = ("lora", "locon", "full")


@dataclass(frozen=True)
class Models:
    """Two models of one kind: the modules of both, and their weights by patch key, as the files store them."""

    targets: Targets
    base: Weights
    tuned: Weights

    def change(self, key: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """tuned - base in fp32, exact where the two are near each other, as a tuned model's weights are."""
        return (self.tuned(key).float() - self.base(key).float()).to(dtype)

    def differ(self, key: str) -> bool:
        """Whether they differ once both are rounded to the coarser of their dtypes."""
        base, tuned = self.base(key), self.tuned(key)
        coarser = max(base.dtype, tuned.dtype, key=lambda dtype: torch.finfo(dtype).eps)
        return not torch.equal(base.to(coarser).float(), tuned.to(coarser).float())


def common(base: Targets, tuned: Targets) -> Targets:
    """The modules that both models have. OptionError where their sizes differ, or nothing is common."""
    both = [module for module in tuned.modules if (module.network, module.path) in base.by_path]
    for module in both:
        other = base.by_path[module.network, module.path]
        if other.shapes != module.shapes:
            name = next(n for n in module.shapes if other.shapes.get(n) != module.shapes[n])
            sizes = " and ".join(_size(own.shapes.get(name)) for own in (other, module))
            raise OptionError(
                f"{module.key(name)} is {sizes}",
                "the two models",
                "two models of one kind, such as both SDXL",
            )
    if not both:
        raise OptionError("no layer is in both", "the two models", "two models of one kind")
    return Targets(both, tuned.label)


@dataclass
class Extract:
    """``kind`` says which changes are kept: of linear layers and 1x1 convolutions (lora), of all convolutions too
    (locon), or all of them whole (full); ``keep`` and ``keep_conv`` how much of one, where it is factored.

    ``left`` counts what differs and is not kept, by reason.
    """

    kind: str
    keep: Keep = field(default_factory=Keep)
    keep_conv: Keep | None = None
    dtype: torch.dtype = torch.float32
    left: dict[str, int] = field(default_factory=dict)

    def parts(self, models: Models, progress: Callable[[int, int], None] | None = None) -> Iterator[Placed]:
        """One part for each layer that differs. A whole difference is `Later`, worked out when it is written."""
        modules = models.targets.modules
        for done, module in enumerate(modules, start=1):
            deltas = list(self._deltas(models, module))
            if deltas:
                rank = deltas[0][1].rank
                yield Placed(module, Part(module.path, deltas, [], None if rank is None else float(rank)))
            if progress is not None:
                progress(done, len(modules))

    def _deltas(self, models: Models, module: Module) -> Iterator[tuple[str, Delta]]:
        for name, shape in module.shapes.items():
            key = module.key(name)
            if not models.differ(key):
                continue
            if self.kind == "full":
                planned = torch.empty(shape, dtype=self.dtype, device="meta")
                yield name, Later(planned, make=partial(models.change, key, self.dtype))
            elif (keep := self._kept(module, name, shape)) is not None:
                yield name, low_rank(models.change(key), keep, self.dtype)

    def _kept(self, module: Module, name: str, shape: Shape) -> Keep | None:
        """How much of a change is kept as factors; None, and counted, where nothing is."""
        reason = _unheld(module, shape, self.kind)
        if reason is None:
            return self.keep_conv or self.keep if _spatial(shape) else self.keep
        self.left[reason] = self.left.get(reason, 0) + 1
        return None


def _unheld(module: Module, shape: Shape, kind: str) -> str | None:
    """Why factors do not hold the change of a parameter; None where they do."""
    if len(shape) < 2:
        return "biases and norms"
    if "embedding" in module.path.rpartition(".")[2]:
        return "tables of tokens and positions"
    return "convolutions" if _spatial(shape) and kind == "lora" else None


def _spatial(shape: Shape) -> bool:
    """Whether it is the weight of a convolution that sees more than one place."""
    return len(shape) > 2 and max(shape[2:]) > 1


def _size(shape: Shape | None) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape))
