"""The weights of an IP-Adapter (arXiv:2308.06721): features of images -> tokens -> keys and values for each layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.entry import Pages
from ..core.errors import OptionError
from ..core.fill import Filler
from ..core.patch import WeightPatch
from ..core.unet_config import UNetConfig
from .ip_features import Features, combined
from .ip_file import IPAdapterFile, read_ip_adapter
from .ip_places import check_layers, modules, places
from .ip_projection import FacePlusProjection, Projection


class IPAdapter:
    """One file on a device; it may serve any number of image prompts and runs."""

    def __init__(self, file: IPAdapterFile, projection: Projection, layers: nn.ModuleDict) -> None:
        self.file, self.projection, self.layers = file, projection, layers

    @classmethod
    def load(
        cls,
        source: str | Path | IPAdapterFile,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        version: int | None = None,
    ) -> IPAdapter:
        """From a weights file. `version` 2 says that a FaceID plus is the second. FileError for what is none."""
        file = source if isinstance(source, IPAdapterFile) else read_ip_adapter(source, version)
        shapes = {name: entry.shape for name, entry in file.projection.items()}
        pairs = [(n, which, entry) for n, pair in file.layers.items() for which, entry in pair.items()]
        matrices = {f"{n}.to_{which}_ip.weight": entry for n, which, entry in pairs}
        label = file.variant.label
        with Filler(dtype, torch.device(device)) as filler:
            projection = filler.build(lambda: file.variant.network.of(shapes), file.projection, label)
            layers = filler.build(lambda: _matrices(file), matrices, label)
        if isinstance(projection, FacePlusProjection):
            projection.version = file.version
        return cls(file, projection, layers)

    def check(self, config: UNetConfig) -> None:
        """OptionError where it was made for another family."""
        check_layers(
            places(config), {n: pair["k"].shape for n, pair in self.file.layers.items()}, self.file.source
        )

    def matrices(self, number: int) -> tuple[Tensor, Tensor]:
        """to_k_ip and to_v_ip [channels, width] of the cross-attention with this number."""
        layer = self.layers[str(number)]
        k, v = (layer.get_parameter(f"to_{which}_ip.weight") for which in "kv")
        return k, v

    @torch.no_grad()
    def tokens(
        self, features: Features, combine: str = "concat", each: bool = False, face_strength: float = 1.0
    ) -> Tensor:
        """[1, tokens, width] of all images together, or [n, tokens, width] with one row `each`."""
        self._check_features(features)
        features = features if each else combined(features, combine)
        if isinstance(self.projection, FacePlusProjection):
            self.projection.strength = face_strength
        like = next(self.projection.parameters())
        found = self.projection(*(getattr(features, name).to(like) for name in self.file.inputs))
        return found if each else found.flatten(0, 1)[None]

    def _check_features(self, features: Features) -> None:
        given = dict(features.given())
        if any(name not in given for name in self.file.inputs):
            raise OptionError(
                f"{' and '.join(given) or 'no'} features for {self.file.variant.label}",
                self.file.source,
                " and ".join(self.file.inputs),
            )
        for name, channels in self.file.channels.items():
            if given[name].shape[-1] != channels:
                encoder, where = self.file.encoder
                who = "ArcFace (insightface)" if name == "face" else f"{encoder} ({where})"
                raise OptionError(
                    f"{name} features of {given[name].shape[-1]} channels",
                    self.file.source,
                    f"{channels}, as {who} gives",
                )

    def weight_patches(self, config: UNetConfig, strength: float = 1.0) -> list[WeightPatch]:
        """The low-rank changes of the base's attentions that FaceID was trained with; empty for other variants.

        weight + strength * up @ down, keys under LDM names without a prefix.
        """
        names, pages = modules(config), Pages()
        return [
            WeightPatch(
                f"{names[number]}.to_{'out.0' if name == 'out' else name}.weight",
                LowRank(pages.tensor(down), pages.tensor(up)),
                strength,
            )
            for number, name, down, up in self.file.lora()
        ]


@dataclass(frozen=True)
class LowRank:
    """The change up @ down, in a weight's shape."""

    down: Tensor
    up: Tensor

    def delta(self, weight: Tensor) -> Tensor:
        return (self.up.float() @ self.down.float()).to(weight).reshape(weight.shape)


def _matrices(file: IPAdapterFile) -> nn.ModuleDict:
    """to_k_ip and to_v_ip of every layer, under the file's names."""

    def linear(number: int, which: str) -> nn.Linear:
        out, width = file.layers[number][which].shape
        return nn.Linear(width, out, bias=False)

    return nn.ModuleDict(
        {
            str(number): nn.ModuleDict({f"to_{which}_ip": linear(number, which) for which in "kv"})
            for number in file.layers
        }
    )
