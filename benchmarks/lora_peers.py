"""The two peers of benchmarks.lora, alike from outside; run as a module, one of them in this process."""

from __future__ import annotations

import json
import sys
import time
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigmagraft.core.keymap import inverse, translate, unet_table
from sigmagraft.standalone.lora_targets import PUBLISHED
from sigmagraft.standalone.unet import UNet

from .pipeline_peers import DTYPES, SDXL
from .pipeline_worker import peak_kib

TIMES = 3
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
TABLE = unet_table((2, 2, 2), (False, True, True))
PATTERN = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Setup:
    """What both peers are asked for."""

    folder: str
    channels: int
    rank: int
    count: int
    device: str
    dtype: str
    busy: bool = False

    @property
    def context(self) -> int:
        """Width of the prompt's tokens: 2048 where there are 320 channels."""
        return self.channels * 32 // 5

    def file(self, number: int) -> Path:
        return Path(self.folder) / f"{self.rank}-{number}.safetensors"


def our_unet(setup: Setup) -> UNet:
    """Without weights."""
    sizes, _ = PUBLISHED["Stable Diffusion XL"]
    narrow = {"model_channels": setup.channels, "context_dim": setup.context}
    with torch.device("meta"):
        return UNet(replace(sizes, **narrow, num_heads=None)).eval()


def fill(network: nn.Module, setup: Setup, name_of: Callable[[str], str]) -> None:
    """The same values under the same LDM name in both networks, small enough to stay finite."""
    network.to_empty(device=setup.device).to(DTYPES[setup.dtype]).requires_grad_(False)
    for name, value in network.named_parameters():
        start = zlib.crc32(name_of(name).encode()) % (1 << 19)
        some = PATTERN[start:].repeat(value.numel() // (1 << 19) + 1)[: value.numel()].reshape(value.shape)
        if value.ndim > 1:
            value.copy_(some * 0.7 * value[0].numel() ** -0.5)
        else:
            value.copy_(1.0 + 0.1 * some if name.endswith("weight") else 0.01 * some)


def adapter_file(setup: Setup, number: int) -> None:
    """A LoRA on every layer that trainers take for SDXL, in diffusers' names."""
    from safetensors.torch import save_file

    path = setup.file(number)
    if path.exists():
        return
    tensors: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(number)
    table = inverse(TABLE)
    for name, value in our_unet(setup).named_parameters():
        stem = translate(table, name.removesuffix(".weight")) or ""
        if stem.endswith(LAYERS) and name.endswith("weight"):
            out, width = value.shape
            up, down = (torch.randn(s, generator=generator) for s in ((out, setup.rank), (setup.rank, width)))
            tensors[f"unet.{stem}.lora_A.weight"] = (down * width**-0.5).half()
            tensors[f"unet.{stem}.lora_B.weight"] = (up * 0.1 * setup.rank**-0.5).half()
    save_file(tensors, path)


def answers_agree(ours: list[float], theirs: list[float]) -> None:
    """RuntimeError where the means of what both answer (plain, apart, fused, exchanged) differ by a hundredth."""
    for one, other in zip(ours, theirs, strict=True):
        if abs(one - other) > 0.01 * abs(other):
            raise RuntimeError(f"the peers answer differently: {ours} and {theirs}")


class Peer(ABC):
    """One side: its network on construction; adapters are named by number, the last is what is swapped to."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        generator = torch.Generator().manual_seed(0)
        side = 64 if setup.channels >= 320 else 16
        sizes = ((2, 4, side, side), (2, 77, setup.context), (2, 1280))
        place = torch.device(setup.device), DTYPES[setup.dtype]
        self.x, self.context, self.pooled = (torch.randn(s, generator=generator).to(*place) for s in sizes)
        self.ids = torch.tensor([[512.0, 512, 0, 0, 512, 512]] * 2, device=setup.device)
        self.chosen = [str(number) for number in range(setup.count)]
        self.build()

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
    def step(self) -> Tensor: ...

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

        self.unet = our_unet(self.setup)
        fill(self.unet, self.setup, lambda name: name)
        self.loras = Loras(lambda: {"unet": self.unet})
        self.y = torch.cat([self.pooled, sizes_embedded(self.ids).to(self.pooled)], dim=1)
        _ = self.loras.targets, self.loras.wiring  # once for a model, as PEFT's import is

    def load(self, name: str) -> None:
        self.loras.load(self.setup.file(int(name)), name)

    def activate(self, names: list[str]) -> None:
        from sigmagraft.loras import Strength

        self.loras.set(dict.fromkeys(names, Strength()))

    def fuse(self) -> None:
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
        heads = tuple(c * level // 64 for level in (1, 2, 4))
        with torch.device("meta"):
            self.unet = UNet2DConditionModel(**(SDXL | sizes | {"attention_head_dim": heads})).eval()
        fill(self.unet, self.setup, lambda name: translate(TABLE, name) or name)

    def load(self, name: str) -> None:
        path = self.setup.file(int(name))
        self.unet.load_lora_adapter(
            str(path.parent), prefix="unet", weight_name=path.name, adapter_name=f"a{name}"
        )

    def activate(self, names: list[str]) -> None:
        self.unet.set_adapters([f"a{name}" for name in names], [1.0] * len(names))

    def fuse(self) -> None:
        self.unet.fuse_lora()

    def unfuse(self) -> None:
        self.unet.unfuse_lora()

    def step(self) -> Tensor:
        more = {"text_embeds": self.pooled, "time_ids": self.ids}
        return self.unet(self.x, 500.0, self.context, added_cond_kwargs=more).sample


def sizes_embedded(ids: Tensor) -> Tensor:
    """SDXL's six numbers as it embeds them: 256 sines and cosines each."""
    from sigmagraft.core.blocks import timestep_embedding

    return timestep_embedding(ids.flatten(), 256).reshape(len(ids), -1)


PEERS: dict[str, type[Peer]] = {"ours": Ours, "diffusers+PEFT": Theirs}


class Clock:
    """Seconds that things take on a device, and the memory held at most since it was made.

    On a busy machine the seconds are those of the processor, not the wall's.
    """

    def __init__(self, setup: Setup) -> None:
        self.cuda = setup.device != "cpu"
        self.now = time.process_time if setup.busy else time.perf_counter
        self.before = self._held()

    def time(self, work: Callable[[], Any]) -> float:
        self._wait()
        began = self.now()
        work()
        self._wait()
        return self.now() - began

    def memory(self) -> float:
        """MiB."""
        return (self._held() - self.before) / 2**20

    def _held(self) -> float:
        return torch.cuda.max_memory_allocated() if self.cuda else peak_kib() * 1024

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


@torch.inference_mode()
def figures(peer: Peer) -> dict[str, Any]:
    """Everything measured of one peer, and the mean size of its answers."""
    answers: list[float] = []

    def step() -> float:
        answers.append(float(peer.step().float().abs().mean()))
        return min(clock.time(peer.step) for _ in range(TIMES))

    clock = Clock(peer.setup)
    found = {"step plain": step()}
    clock = Clock(peer.setup)
    found["load"] = clock.time(peer.load_all)
    found["step apart"] = step()
    found["fuse"] = clock.time(peer.fuse)
    found["step fused"] = step()
    found["unfuse"], found["fuse again"] = clock.time(peer.unfuse), clock.time(peer.fuse)
    for _ in range(TIMES - 1):
        found["unfuse"] = min(found["unfuse"], clock.time(peer.unfuse))
        found["fuse again"] = min(found["fuse again"], clock.time(peer.fuse))
    other = str(peer.setup.count)
    peer.load(other)
    swaps = [[other], peer.chosen, [other]]
    found["swap"] = min(clock.time(partial(peer.swap, names)) for names in swaps)
    peer.merge_for_prompt(peer.chosen)
    found["next prompt"] = min(clock.time(partial(peer.merge_for_prompt, names)) for names in swaps)
    step()
    return found | {"memory, MiB": clock.memory(), "answers": answers}


if __name__ == "__main__":
    print(json.dumps(figures(PEERS[sys.argv[1]](Setup(**json.loads(sys.argv[2]))))))
