"""A walk of a real web UI beside the runner's: the same network, noise and prompts. For tests that start a host."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.animate.acting import MotionActing
from sigmagraft.animate.files import MotionFile
from sigmagraft.animate.norms import over_frames
from sigmagraft.animate.windows import Plan
from sigmagraft.core.adapters import hooks_of
from sigmagraft.core.checkpoint import open_weights
from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.guidance import Kin
from sigmagraft.samplers import SAMPLERS, drive, schedule
from sigmagraft.samplers.levels import NoiseLevels
from sigmagraft.standalone.animate_run import ClipDenoiser
from sigmagraft.standalone.conditioning import Conditioning
from sigmagraft.standalone.denoiser import Denoiser
from sigmagraft.standalone.guidance import guiding
from sigmagraft.standalone.levels import levels_of
from sigmagraft.standalone.model import ModelInfo
from sigmagraft.standalone.prompt_course import always
from sigmagraft.standalone.unet import UNet

from ...controlnet.peers import host_of
from .real import RealWebUI, installed

EXTENSION = Path(__file__).with_name("latents_extension")
CHECKPOINT = os.environ.get("SIGMAGRAFT_CHECKPOINT")
PREFIX = "model.diffusion_model."
STEPS, CFG = 3, 4.0
WALK = {
    "steps": STEPS,
    "cfg_scale": CFG,
    "sampler_name": "Euler",
    "scheduler": "Simple",
    "negative_prompt": "dog",
}
LEVELS = levels_of(ModelInfo(family="sd1"))
SAME = 1e-4
MARKS = [pytest.mark.slow, pytest.mark.skipif(not CHECKPOINT, reason="no checkpoint named")]


@contextlib.contextmanager
def served(name: str, scratch: Any, models: Mapping[str, Sequence[Path]]) -> Iterator[RealWebUI]:
    """A host with the checkpoint, an extension that keeps latents, and files in folders of its models/."""
    folder = folder_of(name)
    flags = ["--nowebui"]
    if name != "neo":  # which goes by its settings alone
        flags += ["--ckpt", str(CHECKPOINT), "--no-download-sd-model"]
    with contextlib.ExitStack() as stack:
        for place, files in models.items():
            stack.enter_context(brought(folder / "models", place, files))
        extension = folder / "extensions" / "latents_under_test"
        extension.unlink(missing_ok=True)  # of a run that was killed
        extension.symlink_to(EXTENSION, target_is_directory=True)
        stack.callback(extension.unlink)
        stack.enter_context(installed(folder))
        host = RealWebUI(name, folder, scratch.mktemp(name), *flags)
        stack.callback(host.stop)
        host.wait_until_up()
        yield host


def folder_of(name: str) -> Path:
    """A host's checkout; skips where none is named."""
    variable = f"SIGMAGRAFT_{name.upper()}"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no checkout of this web UI")
    return Path(os.environ[variable])


@contextlib.contextmanager
def brought(models: Path, place: str, files: Sequence[Path]) -> Iterator[None]:
    """Files in a folder that goes again, with those above it that were not there."""
    target = models / place
    new = next((one for one in reversed([target, *target.parents]) if not one.exists()), target)
    target.mkdir(parents=True, exist_ok=True)
    try:
        for path in files:
            shutil.copy(path, target)
        yield
    finally:
        shutil.rmtree(new)


def checkpoint_unet() -> UNet:
    """The checkpoint's, in this package."""
    entries = open_weights(Path(str(CHECKPOINT)))
    tensors = {
        n.removeprefix(PREFIX): t.float() for n, t in entries.tensors().items() if n.startswith(PREFIX)
    }
    made = UNet(UNetConfig.from_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}))
    made.load_state_dict(tensors, assign=True)
    return made.eval().requires_grad_(False)


def kept_of(
    web: RealWebUI, path: Path, scripts: Mapping[str, Sequence[Any]], **more: Any
) -> tuple[dict[str, Any], str]:
    """What the host did under these panels, and the picture's text."""
    given: dict[str, Any] = {"latents under test": {"args": [str(path)]}}
    given |= {name: {"args": list(args)} for name, args in scripts.items()}
    _, text = web.txt2img(**WALK | more, alwayson_scripts=given)
    return torch.load(path, weights_only=True), text


def ended(
    unet: UNet,
    kept: Mapping[str, Any],
    asks: Sequence[Any] = (),
    kin: Sequence[Kin] = (),
    levels: NoiseLevels = LEVELS,
) -> Tensor:
    """Where the runner ends, from the same noise and prompts."""
    walk = schedule("simple", STEPS, levels)
    denoiser = Denoiser(unet, levels, "eps", torch.float32)
    denoiser.hooks = hooks_of([one for ask in asks for one in ask(host_of(unet, tuple(walk)))])
    return _walked(denoiser, kept, kin, walk)


def clip_end(
    unet: UNet, kept: Mapping[str, Any], file: MotionFile, plan: Plan | None, kin: Sequence[Kin] = ()
) -> Tensor:
    """Where the runner's clip ends, from the same noise and prompts, on the levels of the modules."""
    levels = NoiseLevels.discrete(**(file.betas or {}))
    walk = schedule("simple", STEPS, levels)
    denoiser = ClipDenoiser(unet, levels, "eps", torch.float32)
    denoiser.plan, denoiser.sigmas = plan, walk
    denoiser.hooks = hooks_of([MotionActing(file.build(torch.device("cpu"), torch.float32), unet.config)])
    volume = file.config.version == "v1"
    with over_frames(unet, lambda: denoiser.sequences) if volume else contextlib.nullcontext():
        return _walked(denoiser, kept, kin, walk)


def _walked(denoiser: Denoiser, kept: Mapping[str, Any], kin: Sequence[Kin], walk: Sequence[float]) -> Tensor:
    levels = denoiser.levels
    sides: Any = [
        Conditioning(kept[name], None, branches=(branch,))
        for name, branch in (("c", "cond"), ("uc", "uncond"))
    ]
    denoise = guiding(denoiser, always(*sides), CFG, kin, walk)
    with torch.no_grad():
        return drive(SAMPLERS["euler"], denoise, kept["noise"] * walk[0], walk, levels=levels, options={})


def apart(x: Tensor, y: Tensor) -> float:
    return float((x - y).abs().max() / y.abs().max())
