"""A small SD1-like UNet and text encoder, adapters written to files, and the layers they change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sigmagraft.loras import Bound, Fused, Targets, bind, read_lora
from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.unet import UNet, UNetConfig

UNET = UNetConfig(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=(1, 1), transformer_depth=(1, 1), context_dim=64
)
TEXT = TextConfig(vocab=514, width=64, layers=2, heads=1, intermediate=128)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.named_parameters()}


class Small:
    """Both networks, their targets and what `Fused` changes."""

    def __init__(self, dtype: torch.dtype = torch.float32, texts: int = 1) -> None:
        torch.manual_seed(0)
        self.networks: dict[str, nn.Module] = {"unet": UNet(UNET)}
        for name in ("text_encoder", "text_encoder_2")[:texts]:
            self.networks[name] = TextEncoder(TEXT)
        for network in self.networks.values():
            network.eval().requires_grad_(False).to(dtype)
        self.targets = targets(texts)
        self.parameters = {
            f"{name}.{key}": parameter
            for name, network in self.networks.items()
            for key, parameter in network.named_parameters()
        }
        self.fused = Fused(self.parameters)

    def layer(self, path: str) -> nn.Module:
        network, _, inner = path.partition(".")
        return self.networks[network].get_submodule(inner)

    def hashes(self) -> dict[str, int]:
        """Every byte of every weight, each weight by its own number."""
        return {name: hash(bytes_of(value)) for name, value in self.parameters.items()}

    def load(self, path: Path, **options: bool) -> Bound:
        return bind(read_lora(path), self.targets, **options)

    def fuse(self, bound: Bound, strength: float = 1.0) -> None:
        self.fused.apply({key: [(d, strength) for d in own] for key, own in bound.deltas.items()})


def bytes_of(value: Tensor) -> bytes:
    return value.detach().contiguous().view(torch.uint8).numpy().tobytes()


@lru_cache
def targets(texts: int = 1) -> Targets:
    text = shapes(TextEncoder(TEXT))
    return Targets.of(shapes(UNet(UNET)), [text] * texts)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """A .safetensors file; tensors are cloned, since trainers give views."""
    kept = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    save_file(kept, path, metadata=metadata)
    return path


def sample(layer: nn.Module, seed: int = 1) -> Tensor:
    """An input that the layer takes."""
    torch.manual_seed(seed)
    if isinstance(layer, nn.Conv2d):
        return torch.randn(2, layer.in_channels, 9, 7)
    if isinstance(layer, nn.GroupNorm):
        return torch.randn(2, layer.num_channels, 5, 5)
    width = layer.normalized_shape[0] if isinstance(layer, nn.LayerNorm) else layer.in_features  # type: ignore[union-attr]
    return torch.randn(2, 5, width)  # type: ignore[arg-type]
