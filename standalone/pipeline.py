"""From a prompt to pictures: the Python API that the commands stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from ..core.errors import OptionError
from ..core.family import FAMILIES
from ..samplers import NoiseLevels, Recording
from ..samplers.foreign import find_method
from . import latents
from .animate import AnimateVerbs
from .control import Controls
from .hires import Hires, hires
from .ip_adapter import IPAdapters
from .ip_adapter_verbs import IPAdapterVerbs
from .levels import levels_of
from .lora_networks import networks_of
from .lora_prompt import differ
from .lora_source import Folders
from .lora_stack import Loras
from .lora_verbs import LoraVerbs
from .memory import choose_device, choose_dtype, memory_errors, prefer_layout, vae_dtype
from .model import Model, ModelInfo
from .mover import Mover
from .offload import Offload, check_mode, freeing, watch_model
from .preview import LatentPreview
from .refiner import check_refiner
from .request import Request
from .run import Result, Run, StepState
from .singly import singly
from .textual_inversion import Embeddings

__all__ = ["Pipeline", "Result", "StepState"]
_TOLD = ("model", "lora_hashes")  # what a result's settings say of files, which no call takes


class Pipeline(LoraVerbs, IPAdapterVerbs, AnimateVerbs):
    """One loaded model, ready to draw; ``preview`` makes quick pictures of a step's denoised latent.

    ``loras`` are the adapters on it: those loaded by name, and those that a prompt's `<lora:name:weight>` asks for.
    """

    def __init__(self, model: Model, embeddings: Iterable[str | Path] = ()) -> None:
        self.model = model
        self.levels: NoiseLevels = levels_of(model.info)
        self.embeddings = Embeddings(embeddings)
        self.ip_adapters = IPAdapters(model)
        self.controls = Controls(model)
        self.loras = Loras(lambda: networks_of(model), FAMILIES[model.info.family].label)
        self._refiners: dict[str, Pipeline] = {}
        self.preview = LatentPreview(lambda pixels: latents.encode(model, pixels), model.vae.factor)

    @property
    def info(self) -> ModelInfo:
        """What kind of model this is and why we think so."""
        return self.model.info

    @property
    def offload(self) -> Offload | None:
        """What brings the networks to the device as they run, where that is on."""
        return self.model.offload

    @classmethod
    def load(
        cls,
        source: str | Path = "bundled",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        compile: bool = False,
        offload: str | None = None,
        embeddings: Iterable[str | Path] = (),
        lora_dir: Iterable[str | Path] = (),
        **options: Any,
    ) -> Pipeline:
        """A checkpoint file, diffusers folder or hub id; "bundled" is the small model that ships with the package.

        ``embeddings`` are textual inversion files or folders, ``lora_dir`` folders of adapters that prompts may name;
        ``offload``: "model" or "sequential" keep the networks off the device while they do not run, see offload.py;
        ``options`` are those of ``load_model`` (vae,
        text_encoder, prediction, shift, variant, ...). FileError, MissingPartError, OptionError, OutOfMemory.
        """
        from .load import load_model

        place = choose_device(device)
        kind = choose_dtype(dtype, place)
        if offload is not None:
            check_mode(offload, compile)
        home = torch.device("cpu") if offload else place
        with memory_errors("loading the model", place):
            options.setdefault("vae_dtype", vae_dtype(kind, place))
            model = load_model(source, device=home, dtype=kind, **options)
            for network in (model.unet, model.vae):
                prefer_layout(network, place)
        if compile:
            from .compiled import compile_unet

            compile_unet(model)
        pipe = cls(model, embeddings)
        pipe.loras.folders = Folders(lora_dir)
        if offload and place.type != "cpu":  # there they are where they would wait
            pipe.offload_to(place, offload)
        return pipe

    def offload_to(self, place: torch.device, mode: str, mover: Mover | None = None) -> None:
        """The networks, which are on the CPU, come to `place` as they run. OptionError for an unknown mode."""
        self.share(Offload(place, mode, mover))

    def share(self, offload: Offload) -> None:
        """The same with an offload that may move other networks as well: of these, one's or the others' are there."""
        watch_model(offload, self.model)
        self.loras.before = offload.free

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | list[str],
        *,
        callback: Callable[[StepState], None] | None = None,
        decoded: Callable[[int], None] | None = None,
        recording: Recording | None = None,
        stop_at: int | None = None,
        **settings: Any,
    ) -> Result:
        """Pictures for ``prompt``, one for each of ``batch`` or of a list of prompts.

        ``settings`` are the fields of ``Request``: negative, size (width, height), steps, cfg (0 and 1: the prompt
        alone, one evaluation a step), guidance ("cfg" or "cfg++", and others such as "pag:scale=3"), cfg_interval
        ("0.3-5.4" in sigma, "20%-80%" of the steps), cfg_rescale, sampler (a name, or a function in k-diffusion's
        convention), options (its own), schedule with schedule_options, or sigmas or timesteps (your own falling list),
        seed (image k of a batch has seed + k), batch, image and strength, mask (white is repainted), mask_blur,
        only_masked (pixels around the mask), soft (the mask's grey says how much is repainted), hires (a scale, or a
        dictionary, see docs/command-line.md), refiner (a Pipeline, or its source) and switch (the base's share of the
        steps), clip_skip, original_size, crop, target_size and aesthetic_score (SDXL's, pixels), emphasis, noise,
        step_noise, noise_type and ensd, like ("a1111", "forge", "comfyui", "diffusers": what is not given is as that
        system has it), loras (texts as in `<lora:...>`), control and ip_adapter (texts or tables, see
        docs/controlnet.md and docs/ip-adapter.md). ``callback`` is told of every step, ``decoded`` of every picture;
        what they raise ends the run. With ``stop_at`` the run ends after as many steps in ``recording``, which can be
        saved and given to ``resume``. OptionError for a setting that cannot work, OutOfMemory with what to lower.
        """
        if stop_at is not None and recording is None:
            raise OptionError("stop_at without a recording", todo="give recording=Recording() and save it")
        for name, function in (("callback", callback), ("decoded", decoded)):
            if function is not None and not callable(function):
                raise OptionError(f"{name} {function!r:.80}", expected="a function")
        request = Request.of(prompt, self.with_image_prompts(settings))
        request.resolve(self.info, self.model.vae.factor)
        if request.hires is not None:
            Hires.read(request.hires).target((request.width, request.height), self.model.vae.factor)
        what = f"drawing {request.width}x{request.height}, batch {request.batch}"
        with freeing(self.offload), memory_errors(what, self.model.device):
            alone = find_method(request.sampler).adaptive or differ(request.prompts())
            if request.batch > 1 and alone:
                return singly(self, request, callback, decoded=decoded, recording=recording)
            return self.drawn(request, callback, decoded, recording, stop_at)

    def drawn(
        self,
        request: Request,
        callback: Callable[[StepState], None] | None = None,
        decoded: Callable[[int], None] | None = None,
        recording: Recording | None = None,
        stop_at: int | None = None,
    ) -> Result:
        """A resolved request in one pass, or with hires fix in two."""
        if request.hires is None:
            return Run(self, request, recording, stop_at).result(callback, decoded)
        if recording is not None:
            raise OptionError("a run with hires is not to be stopped", todo="leave out one of the two")
        return hires(self, request, callback, decoded)

    def refiner(self, source: Pipeline | str | Path) -> Pipeline:
        """The model that takes over at the end of a run, kept until another is asked for."""
        if not isinstance(source, Pipeline | str | Path):
            raise OptionError(f"refiner {source!r:.80}", expected="a Pipeline, a file, folder or hub id")
        if isinstance(source, Pipeline):
            made = source
        elif (made := self._refiners.get(str(source))) is None:
            mode = None if self.offload is None else self.offload.mode
            made = Pipeline.load(source, device=self.model.device, dtype=self.model.dtype, offload=mode)
            self._refiners = {str(source): made}
        check_refiner(self, made)
        if self.offload is not None and (
            made.offload is not None or next(made.model.unet.parameters()).is_cpu
        ):
            made.share(self.offload)
        return made

    def resume(self, recording: Recording, **more: Any) -> Result:
        """Goes on with a run that was stopped: the same pixels as if it had not been.

        ``more`` is what ``__call__`` takes besides the recorded settings: callback, decoded, stop_at, and the image
        and mask where the run had them. FileError, OptionError as there, and where it is not the run recorded.
        """
        settings = {name: value for name, value in recording.facts["settings"].items() if name not in _TOLD}
        if "prompt" not in settings:
            raise OptionError("this recording is of no pipeline's run", todo="use samplers.resume")
        return self(**{"recording": recording, **settings, **more})
