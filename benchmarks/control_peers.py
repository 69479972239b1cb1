"""The two peers of benchmarks.control, alike from outside: the UNet, and a run of a case on it."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .control_files import CONTEXT, IMAGE, POOLED, UNET, Case, Setup, picture, random
from .pipeline_peers import DTYPES

CFG = 5.0


class Peer(ABC):
    """One side. `encoded` counts the hints that were encoded, `projected` the image tokens that were made."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.encoded = self.projected = 0
        self.place = torch.device(setup.device), DTYPES[setup.dtype]
        side = setup.side // 8
        self.x = random(1, 4, side, side, seed=1).to(*self.place)
        self.cond, self.uncond = (random(1, 77, CONTEXT, seed=s).to(*self.place) for s in (2, 3))
        self.pooled = random(1, POOLED, seed=4).to(*self.place)
        self.nets: list[Any] = []
        self.build()

    @abstractmethod
    def build(self) -> None: ...
    @abstractmethod
    def open(self, number: int) -> Any: ...
    @abstractmethod
    def turn_to(self, case: Case) -> None: ...
    @abstractmethod
    def run(self, case: Case) -> Tensor: ...

    def begin(self, case: Case) -> None:
        """Opens what the case needs and lets go of the rest."""
        self.nets = self.nets[: case.nets]
        self.nets += [self.open(number) for number in range(len(self.nets), case.nets)]

    def count(self, module: nn.Module, name: str) -> None:
        """Counts this module's calls in `name`."""
        module.register_forward_hook(lambda *_: setattr(self, name, getattr(self, name) + 1))


class Ours(Peer):
    def build(self) -> None:
        from safetensors.torch import load_file

        from sigmagraft.controlnet.ip_adapter import IPAdapter
        from sigmagraft.core.keymap import rename, unet_table_for
        from sigmagraft.standalone.levels import levels_of
        from sigmagraft.standalone.memory import prefer_layout
        from sigmagraft.standalone.model import ModelInfo
        from sigmagraft.standalone.unet import UNet, UNetConfig

        folder = Path(self.setup.folder)
        state = load_file(folder / UNET)
        tensors, _ = rename(state, unet_table_for(state))
        with torch.device("meta"):
            unet = UNet(UNetConfig.from_shapes({name: tuple(value.shape) for name, value in tensors.items()}))
        unet.load_state_dict(tensors, assign=True)
        unet = unet.to(*self.place).eval().requires_grad_(False)
        prefer_layout(unet, self.place[0])
        info = ModelInfo(family="sd1")
        self.levels, self.prediction = levels_of(info), info.prediction
        self.model: Any = SimpleNamespace(
            unet=unet, info=info, vae=SimpleNamespace(factor=8), device=self.place[0], dtype=self.place[1]
        )
        self.image = IPAdapter.load(folder / IMAGE, *self.place)
        self.count(self.image.projection, "projected")
        self.sigmas = [self.levels.sigmas[t] for t in timesteps(self.setup.steps)] + [0.0]

    def open(self, number: int) -> Any:
        from sigmagraft.standalone.control import Controls

        net = Controls(self.model).open(self.setup.net(number))
        assert net.own is not None
        self.count(net.own.get_submodule("input_hint_block"), "encoded")
        return net

    def turn_to(self, case: Case) -> None:
        """Nothing: what a run does not ask for is not in it."""

    def run(self, case: Case) -> Tensor:
        from sigmagraft.core.adapters import hooks_of
        from sigmagraft.samplers import SAMPLERS, drive
        from sigmagraft.standalone.conditioning import Conditioning
        from sigmagraft.standalone.denoiser import Denoiser
        from sigmagraft.standalone.guidance import guided

        denoiser = Denoiser(self.model.unet, self.levels, self.prediction, self.place[1])
        denoiser.hooks = hooks_of(self._adapters(case))
        denoise = guided(denoiser, Conditioning(self.cond), Conditioning(self.uncond), CFG)
        x = self.x.float() * math.hypot(1.0, self.sigmas[0])
        return drive(SAMPLERS["ddim"], denoise, x, self.sigmas, levels=self.levels, options={"eta": 0.0})

    def _adapters(self, case: Case) -> list[Any]:
        from sigmagraft.controlnet.ip_apply import image_adapters
        from sigmagraft.controlnet.ip_features import Features
        from sigmagraft.controlnet.ip_settings import ImagePrompt
        from sigmagraft.controlnet.settings import Control
        from sigmagraft.controlnet.strength import Timeline
        from sigmagraft.standalone.control import host_of

        if case.image:
            prompt = ImagePrompt(features=Features(pooled=self.pooled), weight=case.strength)
            config = self.model.unet.config
            return list(image_adapters(self.image, config, Timeline(self.sigmas), prompt, self._no_encoder))
        host = host_of(self.model, self.levels, self.sigmas, self.x)
        asked = [
            Control(model=net, image=picture(self.setup, k), strength=case.strength, start=case.start)
            for k, net in enumerate(self.nets[: case.nets])
        ]
        return [net.acting(control, host) for net, control in zip(self.nets, asked, strict=False)]

    def _no_encoder(self, *_: Any) -> Any:
        raise AssertionError("features are given")


class Theirs(Peer):
    def build(self) -> None:
        warnings.simplefilter("ignore")
        import transformers

        transformers.logging.set_verbosity_error()
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from diffusers.utils import logging

        logging.set_verbosity_error()
        self.unet = self._loaded(UNet2DConditionModel, Path(self.setup.folder) / UNET)
        sides = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        self.vae = AutoencoderKL(block_out_channels=(32,) * 4, **sides).eval().to(*self.place)
        self.with_image = False

    def _loaded(self, kind: Any, file: Path) -> Any:
        from safetensors.torch import load_file

        with torch.device("meta"):
            network = kind(**self.setup.sizes)
        network.load_state_dict(load_file(file), assign=True)
        return network.to(*self.place).eval().requires_grad_(False)

    def open(self, number: int) -> Any:
        from diffusers import ControlNetModel

        net = self._loaded(ControlNetModel, self.setup.net(number))
        self.count(net.controlnet_cond_embedding, "encoded")
        return net

    def turn_to(self, case: Case) -> None:
        """The pipeline for a case; an IP-Adapter is put into the UNet, and taken out for a run without."""
        if self.with_image and not case.image:
            self.pipe.unload_ip_adapter()
            self.with_image = False
        if not self.with_image:
            self.pipe = self._pipeline(case)
        if case.image and not self.with_image:
            folder = self.setup.folder
            self.pipe.load_ip_adapter(folder, subfolder="", weight_name=IMAGE, image_encoder_folder=None)
            self.count(self.unet.encoder_hid_proj, "projected")
            self.with_image = True

    def _pipeline(self, case: Case) -> Any:
        from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline, StableDiffusionPipeline

        scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=True,
            steps_offset=1,
        )
        none = dict.fromkeys(
            ("text_encoder", "tokenizer", "safety_checker", "feature_extractor", "image_encoder")
        )
        parts = {"unet": self.unet, "vae": self.vae, "scheduler": scheduler, **none}
        nets = {"controlnet": self.nets[: case.nets]} if case.nets else {}
        kind = StableDiffusionControlNetPipeline if case.nets else StableDiffusionPipeline
        pipe = kind(**parts, **nets, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def run(self, case: Case) -> Tensor:
        more: dict[str, Any] = {}
        if case.nets:
            more["image"] = [picture(self.setup, k) for k in range(case.nets)]
            more["controlnet_conditioning_scale"] = [case.strength] * case.nets
            more["control_guidance_start"] = [case.start] * case.nets
        if case.image:
            self.pipe.set_ip_adapter_scale(case.strength)
            zeros = torch.zeros_like(self.pooled)
            more["ip_adapter_image_embeds"] = [torch.stack([zeros, self.pooled])]
        side = self.setup.side
        return self.pipe(
            prompt_embeds=self.cond,
            negative_prompt_embeds=self.uncond,
            latents=self.x,
            num_inference_steps=self.setup.steps,
            guidance_scale=CFG,
            height=side,
            width=side,
            output_type="latent",
            **more,
        ).images


def timesteps(steps: int) -> list[int]:
    """DDIM's in diffusers, falling: 1000 // steps apart, from 1 on."""
    return [k * (1000 // steps) + 1 for k in range(steps)][::-1]


PEERS: dict[str, type[Peer]] = {"ours": Ours, "diffusers": Theirs}
