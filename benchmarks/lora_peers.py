"""The two peers of benchmarks.lora, alike from outside."""

from __future__ import annotations

import warnings
import zlib
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sigmagraft.core.keymap import translate
from sigmagraft.standalone.unet import UNet

from .lora_setup import TABLE, Setup, fill, model_file, our_sizes, our_unet
from .pipeline_peers import DTYPES, SDXL


class Peer(ABC):
    """One side: its network on construction; adapters are named by number, the last is what is swapped to."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        generator = torch.Generator().manual_seed(0)
        sizes = ((2, 4, setup.side, setup.side), (2, 77, setup.context), (2, 1280))
        place = torch.device(setup.device), DTYPES[setup.dtype]
        self.x, self.context, self.pooled = (torch.randn(s, generator=generator).to(*place) for s in sizes)
        self.ids = torch.tensor([[512.0, 512, 0, 0, 512, 512]] * 2, device=setup.device)
        self.chosen = [str(number) for number in range(setup.count)]
        self.build()

    unet: nn.Module

    @abstractmethod
    def build(self) -> None: ...
    @abstractmethod
    def load(self, name: str) -> None: ...
    @abstractmethod
    def activate(self, names: list[str]) -> None: ...
    @abstractmethod
    def fuse(self) -> None: ...
    @abstractmethod
    def unfuse(self) -> None: ...
    @abstractmethod
    def fuse_checked(self) -> None:
        """Merges and refuses what is not finite."""

    @abstractmethod
    def step(self) -> Tensor: ...

    def weights(self) -> dict[str, int]:
        """A checksum of each weight's bytes, adapters apart."""
        named = {
            name.replace(".base_layer", ""): value
            for name, value in self.unet.named_parameters()
            if "lora_" not in name
        }
        return {name: zlib.crc32(value.cpu().view(torch.uint8).numpy()) for name, value in named.items()}

    def load_all(self) -> None:
        for name in self.chosen:
            self.load(name)
        self.activate(self.chosen)

    def swap(self, names: list[str]) -> None:
        self.unfuse()
        self.activate(names)
        self.fuse()

    def merge_for_prompt(self, names: list[str]) -> None:
        """What the next prompt names in place of what the last one named, merged."""
        self.swap(names)


class Ours(Peer):
    def build(self) -> None:
        from sigmagraft.standalone.lora_stack import Loras

        if self.setup.mapped:
            self.unet = self._mapped()
        else:
            self.unet = our_unet(self.setup)
            fill(self.unet, self.setup, lambda name: name)
        self.loras = Loras(lambda: {"unet": self.unet})
        self.y = torch.cat([self.pooled, sizes_embedded(self.ids).to(self.pooled)], dim=1)
        _ = self.loras.targets, self.loras.wiring  # once for a model, as PEFT's import is

    def _mapped(self) -> nn.Module:
        from sigmagraft.core.checkpoint import open_weights
        from sigmagraft.core.fill import Filler

        entries = open_weights(model_file(self.setup)).entries
        with Filler(DTYPES[self.setup.dtype], torch.device(self.setup.device)) as filler:
            return filler.build(lambda: UNet(our_sizes(self.setup)), entries, "UNet")

    def load(self, name: str) -> None:
        self.loras.load(self.setup.file(int(name)), name)

    def activate(self, names: list[str]) -> None:
        from sigmagraft.loras import Strength

        self.loras.set(dict.fromkeys(names, Strength()))

    def fuse(self) -> None:
        self.loras.fuse()

    def fuse_checked(self) -> None:
        self.loras.fuse()

    def unfuse(self) -> None:
        self.loras.unfuse()

    def merge_for_prompt(self, names: list[str]) -> None:
        from sigmagraft.loras import Strength

        if self.loras.fused:
            self.loras.unfuse()
            self.activate([])
        self.loras.for_run([(self.loras.loaded[name], Strength()) for name in names])

    def step(self) -> Tensor:
        return self.unet(self.x, torch.full((2,), 500.0, device=self.x.device), self.context, self.y)


class Theirs(Peer):
    def build(self) -> None:
        import peft  # noqa: F401  # seconds, which are not the loading's

        warnings.simplefilter("ignore")
        from diffusers import UNet2DConditionModel
        from diffusers.utils import logging

        logging.set_verbosity_error()
        c = self.setup.channels
        sizes = {"block_out_channels": (c, 2 * c, 4 * c), "cross_attention_dim": self.setup.context}
        sizes["transformer_layers_per_block"] = self.setup.depth
        heads = tuple(c * level // 64 for level in (1, 2, 4))
        with torch.device("meta"):
            self.unet = UNet2DConditionModel(**(SDXL | sizes | {"attention_head_dim": heads})).eval()
        if self.setup.mapped:
            self._map()
        else:
            fill(self.unet, self.setup, _ldm)

    def _map(self) -> None:
        """As from_pretrained does where nothing is converted."""
        from safetensors.torch import load_file

        stored = load_file(model_file(self.setup), self.setup.device)
        self.unet.load_state_dict({name: stored[_ldm(name)] for name in self.unet.state_dict()}, assign=True)
        self.unet.requires_grad_(False)

    def load(self, name: str) -> None:
        path = self.setup.file(int(name))
        self.unet.load_lora_adapter(
            str(path.parent), prefix="unet", weight_name=path.name, adapter_name=f"a{name}"
        )

    def activate(self, names: list[str]) -> None:
        self.unet.set_adapters([f"a{name}" for name in names], [1.0] * len(names))

    def fuse(self) -> None:
        self.unet.fuse_lora()

    def fuse_checked(self) -> None:
        self.unet.fuse_lora(safe_fusing=True)

    def unfuse(self) -> None:
        self.unet.unfuse_lora()

    def step(self) -> Tensor:
        more = {"text_embeds": self.pooled, "time_ids": self.ids}
        return self.unet(self.x, 500.0, self.context, added_cond_kwargs=more).sample


def _ldm(name: str) -> str:
    return translate(TABLE, name) or name


def sizes_embedded(ids: Tensor) -> Tensor:
    """SDXL's six numbers as it embeds them: 256 sines and cosines each."""
    from sigmagraft.core.blocks import timestep_embedding

    return timestep_embedding(ids.flatten(), 256).reshape(len(ids), -1)


PEERS: dict[str, type[Peer]] = {"ours": Ours, "diffusers+PEFT": Theirs}
