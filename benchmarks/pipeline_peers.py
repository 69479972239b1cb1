"""The two peers of benchmarks.pipeline, alike from outside, and the random weights both load."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CONTEXT = {"sd15": 768, "sdxl": 2048}
SDXL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}


@dataclass(frozen=True)
class Setup:
    """What both peers are asked for."""

    folder: str
    family: str
    device: str
    dtype: str
    compile: bool
    size: int


class Peer(ABC):
    """One side: loads on construction, then steps, decodes and draws."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.device, self.dtype = torch.device(setup.device), DTYPES[setup.dtype]
        generator = torch.Generator().manual_seed(0)
        side = setup.size // 8
        self.x = torch.randn(2, 4, side, side, generator=generator).to(self.device, self.dtype)
        self.context = torch.randn(2, 77, CONTEXT[setup.family], generator=generator).to(
            self.device, self.dtype
        )
        self.y = torch.randn(2, 2816, generator=generator).to(self.device, self.dtype)
        self.load()

    @abstractmethod
    def load(self) -> None: ...
    @abstractmethod
    def step(self) -> Any: ...
    @abstractmethod
    def decode(self) -> Any: ...
    @abstractmethod
    def picture(self, steps: int) -> Any: ...

    def time(self, work: Callable[[], Any]) -> float:
        """Seconds that ``work`` takes, the device included."""
        self.wait()
        began = time.perf_counter()
        with torch.inference_mode():
            work()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Ours(Peer):
    def load(self) -> None:
        from sigmagraft.standalone.pipeline import Pipeline

        s = self.setup
        self.pipe = Pipeline.load(s.folder, device=s.device, dtype=s.dtype, compile=s.compile)

    def step(self) -> Any:
        from sigmagraft.standalone.memory import memory_format

        model = self.pipe.model
        t = torch.full((2,), 500.0, device=self.device)
        y = self.y if self.setup.family == "sdxl" else None
        x = self.x.contiguous(memory_format=memory_format(model.unet))
        return model.unet(x, t, self.context, y)

    def decode(self) -> Any:
        from sigmagraft.standalone import latents

        return latents.decode(self.pipe.model, self.x[:1].float())

    def picture(self, steps: int) -> Any:
        size = (self.setup.size, self.setup.size)
        return self.pipe("a cat", steps=steps, cfg=7.0, sampler="euler", schedule="normal", seed=0, size=size)


class Theirs(Peer):
    def load(self) -> None:
        from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

        kind = StableDiffusionPipeline if self.setup.family == "sd15" else StableDiffusionXLPipeline
        extra: dict[str, Any] = {"safety_checker": None} if self.setup.family == "sd15" else {}
        self.pipe = kind.from_pretrained(self.setup.folder, torch_dtype=self.dtype, **extra).to(self.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.scheduler = EulerDiscreteScheduler.from_config(self.pipe.scheduler.config)
        if self.setup.compile:
            self.pipe.unet.to(memory_format=torch.channels_last)
            self.pipe.unet = torch.compile(self.pipe.unet)

    def step(self) -> Any:
        added = None
        if self.setup.family == "sdxl":
            ids = torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]] * 2, device=self.device)
            added = {"text_embeds": self.y[:, :1280], "time_ids": ids}
        return self.pipe.unet(self.x, 500, self.context, added_cond_kwargs=added).sample

    def decode(self) -> Any:
        vae = self.pipe.vae
        image = vae.decode(self.x[:1].to(vae.dtype) / vae.config.scaling_factor).sample
        return self.pipe.image_processor.postprocess(image)

    def picture(self, steps: int) -> Any:
        size = self.setup.size
        generator = torch.Generator().manual_seed(0)
        return self.pipe("a cat", num_inference_steps=steps, width=size, height=size, generator=generator)


PEERS: dict[str, type[Peer]] = {"ours": Ours, "theirs": Theirs}


def make_weights(folder: Path, family: str, dtype: str) -> None:
    """Random weights in the published layout, as a diffusers folder; SDXL's text encoders are left small."""
    import diffusers

    with _default_dtype(DTYPES[dtype]):
        unet = diffusers.UNet2DConditionModel(
            **({"cross_attention_dim": 768, "attention_head_dim": 8} if family == "sd15" else SDXL)
        )
        vae = diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            sample_size=512,
        )
        scheduler = diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        )
        texts = _texts(family, folder)
        if family == "sd15":
            pipe = diffusers.StableDiffusionPipeline(
                vae, texts[0], texts[1], unet, scheduler, None, None, requires_safety_checker=False
            )
        else:
            pipe = diffusers.StableDiffusionXLPipeline(vae, *texts, unet, scheduler)
    pipe.save_pretrained(folder)


def _texts(family: str, folder: Path) -> tuple[Any, ...]:
    """Text encoders, then tokenizers, in the order the pipelines take them."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from sigmagraft.standalone.tokens import Tokenizer

    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    Tokenizer.clip().save(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), model_max_length=77)
    config = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12
    )
    if family == "sd15":
        return CLIPTextModel(config), tokenizer
    bigg = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_attention_heads=20, num_hidden_layers=32, projection_dim=1280,
        hidden_act="gelu",
    )  # fmt: skip
    return CLIPTextModel(config), CLIPTextModelWithProjection(bigg), tokenizer, tokenizer


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype):  # type: ignore[no-untyped-def]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
