"""ControlNets and T2I-Adapters in a run: residuals for one evaluation from features that are kept between steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..core.errors import FileError, OptionError
from ..core.patch import Block, EvaluationPatch, Inputs, ResidualPatch, StepInfo
from .acting import Acting
from .host import Host
from .network import ControlNet
from .settings import Control
from .share import Share, forget_windows
from .sparse import Clip, SparseControlNet
from .strength import output_weights, t2i_weights
from .t2i import T2IAdapter, placement
from .union import UnionControlNet, UnionHint, type_index

Residuals = dict[Block, Tensor]


class Residual(Acting):
    """A control that adds tensors at blocks."""

    def patches(self) -> Iterable[EvaluationPatch]:
        return [ResidualPatch(self.residuals)]

    @torch.no_grad()
    def residuals(self, info: StepInfo) -> Residuals:
        """What is added in this evaluation; nothing, for nothing, at strength 0."""
        strength, share = self.strength(info), self.share(info)
        if not strength or not any(share.acts) or info.inputs is None:
            return {}
        masks = self.masks(self.size(info))
        found = self.outputs(info, share)
        return {place: share.spread(_times(masks(x), strength * weight)) for place, weight, x in found}

    def outputs(self, info: StepInfo, share: Share) -> list[tuple[Block, float, Tensor]]:
        """(where, factor, what) for the rows that it acts on."""
        raise NotImplementedError


class ControlNetActing(Residual):
    """A ControlNet, Control-LoRA, Union or SparseCtrl."""

    def __init__(self, control: Control, host: Host, network: ControlNet) -> None:
        super().__init__(control, host)
        self.network = network
        check_family(network, host, control)
        count = len(network.zero_convs)
        self.places: list[Block] = [("output", count - 1 - n) for n in range(count)]
        self.places.append(("middle", 0))
        self.weights = output_weights(control, len(self.places))
        self._features: dict[Any, Any] = {}

    def outputs(self, info: StepInfo, share: Share) -> list[tuple[Block, float, Tensor]]:
        assert info.inputs is not None
        inputs = share.inputs(info.inputs)
        found = self.network(inputs, self.condition(info, share, inputs))
        if self.control.pool:
            found = [x.mean(dim=(2, 3), keepdim=True).expand_as(x) for x in found]
        return list(zip(self.places, self.weights, found, strict=True))

    def condition(self, info: StepInfo, share: Share, inputs: Inputs) -> Any:
        """What the network is told, encoded once for a size and a batch."""
        key = (self.size(info), share)
        if key not in self._features:
            forget_windows(self._features, share)
            self._features[key] = self.encoded(key[0], share, inputs.x)
        return self._features[key]

    def encoded(self, size: tuple[int, int], share: Share, like: Tensor) -> Any:
        """The features for the rows that it acts on."""
        hints = self.network.features(self.hints(size, like))
        return share.repeated(share.of_images(hints.split(1)))


class UnionActing(ControlNetActing):
    """A picture for each type, all in one pass; with several types the strength acts on each before they meet."""

    network: UnionControlNet

    def __init__(self, control: Control, host: Host, network: UnionControlNet) -> None:
        super().__init__(control, host, network)
        self.types = [type_index(name, network.types) for name in control.types or ("tile",)]
        if not control.types or len(control.types) != len(control.images):
            raise OptionError(
                f"{len(control.types)} types for {len(control.images)} pictures of a ControlNet-Union",
                where=control.model,
                expected="a type for each picture",
            )

    def strength(self, info: StepInfo) -> float:
        found = super().strength(info)
        self.scale = found
        return found if len(self.types) == 1 else float(found != 0)

    def encoded(self, size: tuple[int, int], share: Share, like: Tensor) -> list[Tensor]:
        hints = self.network.features(self.hints(size, like))
        rows = sum(share.acts) * share.images
        return [hint.expand(rows, -1, -1, -1) for hint in hints.split(1)]

    def condition(self, info: StepInfo, share: Share, inputs: Inputs) -> UnionHint:
        features = super().condition(info, share, inputs)
        scale = 1.0 if len(self.types) == 1 else self.scale
        return UnionHint(features, self.types, [scale] * len(self.types))


class SparseActing(ControlNetActing):
    """The images of a batch are the frames of one clip; `frames` says which of them the pictures belong to."""

    network: SparseControlNet
    foreign = ("fidelity", "vision")

    def encoded(self, size: tuple[int, int], share: Share, like: Tensor) -> Clip:
        frames = share.images
        if frames > self.network.longest:
            raise OptionError(f"{frames} frames", self.control.model, f"at most {self.network.longest}")
        hints = self._hints_or_latents(size, like)
        at = list(range(len(hints)) if self.control.frames is None else self.control.frames)
        rows = share.rows or range(frames)
        last = max(at, default=0) if share.rows else frames - 1
        if len(at) != len(hints) or any(not 0 <= frame <= last for frame in at) or len(set(at)) != len(at):
            raise OptionError(
                f"frames {at} for {len(hints)} pictures and {frames} images",
                self.control.model,
                "a frame of its own for each picture",
            )
        whole = hints.new_zeros(frames, hints.shape[1] + 1, *hints.shape[2:])
        marked = torch.cat([hints, torch.ones_like(hints[:, :1])], dim=1)
        for frame, hint in zip(at, marked, strict=True):
            if frame in rows:
                whole[rows.index(frame)] = hint
        return Clip(share.repeated(self.network.features(whole)), frames, self.control.joint_norm)

    def _hints_or_latents(self, size: tuple[int, int], like: Tensor) -> Tensor:
        hints = self.hints(size, like)
        if self.network.hint_factor > 1:
            return hints
        return torch.cat([self.host.encode(hint * 2 - 1) for hint in hints.split(1)]).to(like)


class T2IActing(Residual):
    """A T2I-Adapter: features of the picture alone, encoded once a run."""

    foreign = (*Residual.foreign, "pool")
    modes = ("balanced", "prompt", "control")

    def __init__(self, control: Control, host: Host, network: T2IAdapter) -> None:
        super().__init__(control, host)
        self.network = network
        self.places = placement(network.config, host.config)
        self.weights = t2i_weights(control, len(self.places))
        self._features: dict[Any, list[Tensor]] = {}

    def outputs(self, info: StepInfo, share: Share) -> list[tuple[Block, float, Tensor]]:
        assert info.inputs is not None
        size = self.size(info)
        key = (size, share)
        if key not in self._features:
            hints = self.hints(size, info.inputs.x, self.network.config.unshuffle)
            encoded = self.network(share.of_images(hints.split(1)))
            forget_windows(self._features, share)
            self._features[key] = [share.repeated(x) for x in encoded]
        return list(zip(self.places, self.weights, self._features[key], strict=True))


def _times(x: Tensor, factor: float) -> Tensor:
    """x itself at 1, the usual strength: a copy of every output in every step is saved."""
    return x if factor == 1.0 else x * factor


def check_family(network: ControlNet, host: Host, control: Control) -> None:
    """FileError where a ControlNet was made for another family of models."""
    ours, theirs = network.config, host.config
    for what, a, b in (
        ("context", ours.context_dim or theirs.context_dim, theirs.context_dim),
        ("vector", ours.adm_in_channels, theirs.adm_in_channels),
        ("channels", ours.skips(), theirs.skips()),
    ):
        if a != b:
            raise FileError(
                f"this ControlNet was made for another family: {what} {a}",
                control.model,
                f"{b}, as the model has",
                "give one for the model's family (SD1, SD2 or SDXL)",
            )
    factor = network.hint_factor
    if factor != host.factor and not isinstance(network, SparseControlNet):
        raise FileError(f"its hint has {factor} pixels a latent's", control.model, f"{host.factor}")
