"""Pipelines of Stable Diffusion: prompts and a start -> latents -> pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..controlnet.settings import Control
from ..core.errors import OptionError
from ..guidance import Guidance, Setting, open_kin, read_guidance
from ..guidance.apply import Always
from ..standalone.conditioning import Conditioning
from ..standalone.configs import unet_config, vae_config
from ..standalone.ip_adapter import IPAdapters
from ..standalone.ip_adapter_verbs import IPAdapterVerbs
from ..standalone.load import load_model
from ..standalone.lora_networks import networks_of
from ..standalone.lora_stack import Loras
from ..standalone.lora_verbs import LoraVerbs
from ..standalone.model import Model, ModelInfo
from ..standalone.text import TextEncoder
from ..standalone.textual_inversion import Embeddings
from . import arguments
from .adapting import hooks_for, levels_of_scheduler, lora_scale, sigmas_of
from .base import DiffusionPipeline, Found, load_scheduler
from .component import folder_config, refuse_unknown
from .crop import cropped, pasted
from .guide import Guide, prediction_of, rescaling
from .loop import Loop, check_told, set_timesteps
from .models import AutoencoderKL, UNet2DConditionModel, refuse_attention_arguments
from .output import Output, StableDiffusionPipelineOutput
from .pixels import check_output, finished, size_of
from .prompts import Prompter, Words
from .starts import Begin, Start, cutoff_of, from_noise

Self = TypeVar("Self", bound="LatentPipeline")


class LatentPipeline(LoraVerbs, IPAdapterVerbs, DiffusionPipeline):
    """One call: encode the prompts, start, walk the scheduler's timesteps, decode.

    A subclass is its table of arguments and where its latents start.
    """

    parts = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    takes: ClassVar[Mapping[str, Any]] = {}
    start: ClassVar[Callable[[Begin], Start]] = staticmethod(from_noise)

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: nn.Module | None,
        tokenizer: Any,
        unet: UNet2DConditionModel,
        scheduler: Any,
        force_zeros_for_empty_prompt: bool = False,
        **more: Any,
    ) -> None:
        super().__init__()
        self.vae, self.unet, self.scheduler = vae, unet, scheduler
        self.text_encoder, self.tokenizer = text_encoder, tokenizer
        for name in self.parts[len(LatentPipeline.parts) :]:
            setattr(self, name, more.get(name))
        self.embeddings = Embeddings()
        if unet.loras is None:
            unet.loras = Loras(lambda: networks_of(self.model), unet.identity.family.label)
        self.loras = unet.loras
        self.ip_adapters = IPAdapters(self.model)
        self.zero_negative = force_zeros_for_empty_prompt
        self.freeu: list[Always] = []

    def __init_subclass__(
        cls,
        start: Callable[[Begin], Start] | None = None,
        takes: Mapping[str, Any] | None = None,
        more: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        """What is not given is the bases': the first start, and all of their arguments and components."""
        super().__init_subclass__(**kwargs)
        bases = [base for base in cls.__bases__ if issubclass(base, LatentPipeline)]
        if start is not None:
            cls.start = staticmethod(start)
        cls.takes = takes or {name: value for base in bases for name, value in base.takes.items()}
        inherited = (name for base in cls.__bases__ for name in getattr(base, "parts", ()))
        cls.parts = tuple(dict.fromkeys((*inherited, *more)))
        arguments.calls(cls, cls.takes, LatentPipeline.run)

    @classmethod
    def build(cls: type[Self], found: Found, components: dict[str, Any]) -> Self:
        model = load_model(found.path, dtype=found.dtype, variant=found.variant)
        configs = {name: folder_config(found.path / name) for name in ("unet", "vae")}
        loaded = cls.wrapped(model, configs)
        if "scheduler" not in components:
            loaded["scheduler"] = load_scheduler(found.path)
        if "safety_checker" in cls.parts and "safety_checker" not in components:
            loaded["safety_checker"] = cls.checker(found.path)
        zero = {"force_zeros_for_empty_prompt": bool(found.index.get("force_zeros_for_empty_prompt", False))}
        own = {name: found.index[name] for name in cls.options if name in found.index}
        return cls(**{**loaded, **zero, **own, **components})

    @staticmethod
    def checker(path: Path) -> Any:
        """The folder's safety checker, None where it ships none."""
        folder = path / "safety_checker"
        if not folder.is_dir():
            return None
        from .safety import StableDiffusionSafetyChecker

        return StableDiffusionSafetyChecker.from_pretrained(folder)

    @classmethod
    def from_single_file(
        cls: type[Self],
        pretrained_model_link_or_path: str | os.PathLike[str],
        torch_dtype: torch.dtype | None = None,
        scheduler: Any = None,
        **components: Any,
    ) -> Self:
        """From one .safetensors or .ckpt file; the scheduler is DDIM with what the file says of its prediction.

        FileError, MissingPartError; OptionError for an unknown component.
        """
        from ..standalone.single_file import scheduler_of

        refuse_unknown(cls, {name: None for name in components if name not in cls.parts})
        model = load_model(os.fspath(pretrained_model_link_or_path), dtype=torch_dtype or torch.float32)
        pipe = cls(
            **{**cls.wrapped(model, {}), "scheduler": scheduler or scheduler_of(model.info), **components},
            force_zeros_for_empty_prompt=model.info.family == "sdxl",
        )
        pipe.source = os.fspath(pretrained_model_link_or_path)
        return pipe

    @classmethod
    def wrapped(cls, model: Model, configs: Mapping[str, Any]) -> dict[str, Any]:
        """A loaded model's networks as components."""
        sample = model.info.native_size // model.vae.factor
        unet = configs.get("unet") or unet_config(model.unet.config, sample)
        vae = configs.get("vae") or vae_config(model.vae.config, model.scale_factor, model.shift_factor)
        texts = {"text_encoder": model.texts[0] if model.texts else None}
        if len(model.texts) > 1:
            texts["text_encoder_2"] = model.texts[1]
        return {
            "unet": UNet2DConditionModel(model.unet, unet),
            "vae": AutoencoderKL(model.vae, vae),
            "tokenizer": model.tokenizer,
            **texts,
        }

    @property
    def settings(self) -> dict[str, Any]:
        return {"force_zeros_for_empty_prompt": self.zero_negative}

    @property
    def texts(self) -> list[TextEncoder]:
        """The text encoders there are, the first one first."""
        found = [self.text_encoder, getattr(self, "text_encoder_2", None)]
        return [text for text in found if text is not None]  # type: ignore[misc]

    @property
    def model(self) -> Model:
        """The components as the runner's parts take them."""
        unet, vae = self.unet.network, self.vae.network
        identity = self.unet.identity
        native = int(self.unet.config.get("sample_size", 64)) * vae.factor
        info = ModelInfo(
            identity.family.name, identity.task, latent_channels=vae.config.z_channels, native_size=native
        )
        scale, shift = _latent_scale(self.vae.config, self.device)
        return Model(
            unet,
            vae,
            self.texts,
            info,
            self.source,
            self.dtype,
            self.device,
            scale,
            shift,
            self.tokenizer,
            offload=self.offload,
        )

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def load_textual_inversion(self, path: str | os.PathLike[str]) -> None:
        """Let prompts name an embedding by its file's name. FileError where there is none."""
        self.embeddings.add(Path(path))

    def enable_freeu(self, s1: float, s2: float, b1: float, b2: float) -> None:
        """FreeU (arXiv:2309.11497) with these scales of skips and backbone. OptionError outside 0 to 10."""
        scales = f"s1={s1!r},s2={s2!r},b1={b1!r},b2={b2!r}"
        chosen = read_guidance(f"freeu:{scales},version=1,places=levels")
        (kin,) = open_kin([chosen], self.setting)
        self.freeu = [Always(kin.guidance)]

    def disable_freeu(self) -> None:
        """The network as it is."""
        self.freeu = []

    def sized(self, call: SimpleNamespace) -> tuple[int, int]:
        """(height, width) of the pictures. OptionError for a size that is no multiple of the autoencoder's factor."""
        model = self.model
        image = getattr(call, "image", None)
        if image is not None and not (
            isinstance(image, Tensor) and image.shape[-3] == model.info.latent_channels
        ):
            first = size_of(image, model.vae.factor)
        elif image is not None:
            first = tuple(side * model.vae.factor for side in image.shape[-2:])
        else:
            first = (model.info.native_size,) * 2
        size = (getattr(call, "height", None) or first[0], getattr(call, "width", None) or first[1])
        for name, side in zip(("height", "width"), size, strict=True):
            if side % model.vae.factor or side <= 0:
                raise OptionError(f"{name} {side}", expected=f"a multiple of {model.vae.factor}")
        return size

    def words(self, call: SimpleNamespace, size: tuple[int, int]) -> tuple[Words, Words]:
        """The two sides of guidance."""
        negative = Words(call.negative_prompt, embeds=call.negative_prompt_embeds)
        if call.negative_prompt is None and negative.embeds is None:
            negative = Words("")
        return Words(call.prompt, embeds=call.prompt_embeds), negative

    @torch.no_grad()
    def run(self, call: SimpleNamespace) -> Output | tuple[Any, ...]:
        """Draw; the arguments are those people know from diffusers.

        Raises OptionError for arguments that cannot work, before anything runs.
        """
        check_output(call.output_type)
        refuse_attention_arguments(call.cross_attention_kwargs)
        check_told(call.callback_on_step_end_tensor_inputs)
        with self.offloaded(), lora_scale(self, call.cross_attention_kwargs):
            size = self.sized(call)
            region = None if getattr(call, "padding_mask_crop", None) is None else cropped(call, size)
            output = self.finish(call, self.drawn(call, size))
            return output if region is None else pasted(output, region)

    def drawn(self, call: SimpleNamespace, size: tuple[int, int]) -> Tensor:
        """The finished latents."""
        prompter = Prompter(self.model, self.embeddings, (size[1], size[0]), call.clip_skip)
        prompt, negative = self.words(call, size)
        batch = prompter.batch(prompt) * call.num_images_per_prompt
        cond, uncond = prompter.both(prompt, negative, call.num_images_per_prompt, call.guidance_scale > 1)
        timesteps = set_timesteps(
            self.scheduler, call.num_inference_steps, self.device, call.timesteps, call.sigmas
        )
        start = type(self).start(Begin(self, call, batch, size, timesteps))
        timesteps, levels = self.until(call, start.timesteps), levels_of_scheduler(self.scheduler)
        hooks = hooks_for(
            self, call, self.controls(call), levels, sigmas_of(levels, timesteps), start.latents
        )
        loop = Loop(
            self,
            self.guide(call, cond, uncond),
            call.generator,
            call.eta,
            start.channels,
            start.after,
            hooks,
            call.callback_on_step_end,
            call.callback_on_step_end_tensor_inputs,
        )
        return loop.run(start.latents, timesteps)

    def guide(self, call: SimpleNamespace, cond: Conditioning, uncond: Conditioning | None) -> Guide:
        """The guidance of a call."""
        kin = [*self.kin(call), *rescaling(getattr(call, "guidance_rescale", 0.0), self.setting)]
        levels, prediction = levels_of_scheduler(self.scheduler), prediction_of(self.scheduler)
        return Guide(cond, uncond, call.guidance_scale, levels, prediction, kin)

    def kin(self, call: SimpleNamespace) -> list[Guidance]:
        """What else changes how the prompt pulls; some pipelines have it."""
        return []

    @property
    def setting(self) -> Setting:
        """What a guidance may know of the network."""
        return Setting(self.unet.network.config)

    def controls(self, call: SimpleNamespace) -> list[Control]:
        """The controls of a call; pipelines with ControlNets have some."""
        return []

    def until(self, call: SimpleNamespace, timesteps: Tensor) -> Tensor:
        """Those before `denoising_end`, where another model goes on."""
        end = getattr(call, "denoising_end", None)
        if end is None or end >= 1:
            return timesteps
        return timesteps[timesteps >= cutoff_of(self.scheduler, end)]

    def finish(self, call: SimpleNamespace, latents: Tensor) -> Output | tuple[Any, ...]:
        """Decode, and let the safety checker look."""
        images = finished(self.model, latents, call.output_type)
        unsafe = None
        checker = getattr(self, "safety_checker", None)
        if checker is not None and call.output_type != "latent":
            images, unsafe = checker.checked(images)
        return StableDiffusionPipelineOutput(images, unsafe) if call.return_dict else (images, unsafe)


def _latent_scale(config: Mapping[str, Any], device: torch.device) -> tuple[Any, Any]:
    """(scale, shift) of the VAE's config: the UNet sees (latent - shift) * scale."""
    scale = float(config.get("scaling_factor") or 1.0)
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return scale, float(config.get("shift_factor") or 0.0)
    columns = [torch.tensor(values, device=device).float().reshape(1, -1, 1, 1) for values in (std, mean)]
    return scale / columns[0], columns[1]
