"""What txt2img, img2img and inpaint share: checks first, then pictures, each saved as soon as it is done."""

from __future__ import annotations

import json
import secrets
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import OptionError, SigmaGraftError
from .. import metadata, naming, output
from ..images import grid
from ..progress import Progress
from . import inputs, lora_options, recipe, state
from .options import DRAWING, LOADING, PAINTING, STARTING

if TYPE_CHECKING:
    from PIL import Image

    from ...samplers import Recording
    from ..pipeline import Pipeline, Result, StepState

PREVIEW = "sigmagraft-preview.png"


def load_pipeline(**options: Any) -> Pipeline:
    """The pipeline; looked up when it is needed, so that `--help` and mistakes cost no import of torch."""
    from ..pipeline import Pipeline

    return Pipeline.load(**options)


@dataclass(frozen=True)
class Saved:
    """A finished picture on disk."""

    path: Path
    image: Image.Image | None  # kept only for the sheet of --grid
    settings: dict[str, Any]


@dataclass
class Job:
    """One run of a command: what to make, where to, and what is done."""

    settings: dict[str, Any]
    prompts: list[str]
    target: naming.Target
    progress: Progress
    seed: int
    count: int
    batch: int
    model: dict[str, Any] = field(default_factory=dict)
    image: Image.Image | None = None
    mask: Image.Image | None = None
    recording: Recording | None = None
    saved: list[Saved] = field(default_factory=list)
    previewed: bool = False

    def batches(self) -> Iterator[range]:
        """The numbers of the pictures made at once, counted from 0 over the run."""
        for first in range(0, self.count, self.batch):
            yield range(first, min(first + self.batch, self.count))

    def path(self, number: int, settings: dict[str, Any]) -> Path:
        """The file name of picture `number` (from 0)."""
        width, height = settings.get("size") or (0, 0)
        values = settings | {
            "index": number + 1,
            "width": width,
            "height": height,
            "model": self.model.get("model_name"),
            "schedule": settings.get("schedule") or "own",  # a list of sigmas or timesteps
        }
        return self.target.path(values)

    @property
    def preview_path(self) -> Path:
        """One stable name in the folder of the pictures, so that a viewer can stay open on it."""
        return self.target.folder / PREVIEW


def run(args: Namespace, required: Sequence[str] = ()) -> int:
    """Make the pictures `args` ask for. `required`: the settings this command cannot do without."""
    settings, notes = recipe.settings_of(args)
    with Progress(quiet=settings.get("quiet", False)) as progress:
        for note in notes:
            progress.note(note)
        job = prepare(settings, progress, required)
        job.image, job.mask = inputs.load(settings)
        recipe.check_names(settings)
        output.check_folder(job.target.folder)
        job.recording = state.recording(settings)
        pipe, digest = _load(job)
        _say_choice(job, pipe)
        code = _draw_all(job, pipe, digest)
        _report(job, _sheet(job))
    return code


def _say_choice(job: Job, pipe: Pipeline) -> None:
    """What --sampler auto stands for, and why."""
    from ..auto import choice_for
    from ..request import Request

    names = ("sampler", "steps", "guidance", "cfg", "cfg_interval", "schedule", "sigmas", "timesteps")
    choice = choice_for(Request.of("", {n: job.settings[n] for n in names if n in job.settings}), pipe.info)
    if choice is not None:
        job.progress.note(f"sampler auto: {choice.reason}")


def _draw_all(job: Job, pipe: Pipeline, digest: recipe.FileHash) -> int:
    """Every batch; stopped with Ctrl-C, what is finished stays. The exit code."""
    try:
        for numbers in job.batches():
            _draw(job, pipe, numbers, digest)
    except KeyboardInterrupt:
        job.progress.note(f"stopped; kept {len(job.saved)} of {job.count} pictures")
        return 130
    except Exception:
        if job.saved:
            job.progress.note(f"kept {len(job.saved)} of {job.count} pictures")
            _report(job, None)
        raise
    finally:
        if job.previewed:
            with suppress(OSError):
                job.preview_path.unlink(missing_ok=True)
    return 0


def prepare(settings: dict[str, Any], progress: Progress, required: Sequence[str] = ()) -> Job:
    """Everything that can be decided, and refused, before anything heavy is imported."""
    if "mask" in required and "image" in settings:
        settings.setdefault("mask", settings["image"])
    for name in required:
        if name not in settings:
            raise OptionError(f"no {name}", expected=f"--{name} {'PX' if name == 'expand' else 'FILE'}")
    prompts = recipe.prompts_of(settings)
    batch = settings.get("batch", 1)
    count = settings.get("count", max(batch, len(prompts)))
    state.check(settings, count, batch)
    seed = settings.get("seed", secrets.randbelow(2**32))
    target = naming.target(settings.get("out"), settings.get("format"), settings.get("quality"))
    output.check_text(
        target, metadata.to_text({"prompt": max(prompts, key=len), "negative": settings["negative"]}) * 2
    )
    job = Job(settings, prompts, target, progress, seed, count, batch)
    name = settings["model"]
    job.model = {"model": name, "model_name": "scenes" if name == "bundled" else Path(name).stem}
    return job


def _load(job: Job) -> tuple[Pipeline, recipe.FileHash]:
    settings = job.settings
    options = {name: settings[name] for name in LOADING if name in settings}
    options |= {name: settings[name] for name in STARTING if name in settings}
    pipe = load_pipeline(source=settings["model"], progress=job.progress.loading, **options)
    job.progress.close()
    if "refiner" in settings:
        pipe.refiner(settings["refiner"])
    lora_options.use(pipe, settings, job.progress.note)
    return pipe, recipe.FileHash(pipe.model.source)


def _draw(job: Job, pipe: Pipeline, numbers: range, digest: recipe.FileHash) -> None:
    """One batch: draw it and save each picture."""
    prompts = [job.prompts[number % len(job.prompts)] for number in numbers]
    seeds = [job.seed + number for number in numbers]
    options = {name: job.settings[name] for name in DRAWING if name in job.settings}
    if job.image is not None:
        options |= {name: job.settings[name] for name in PAINTING if name in job.settings}
        options |= {"image": job.image, "mask": job.mask}
    if job.recording is not None:
        options |= {"recording": job.recording, "stop_at": job.settings.get("stop_at")}
    job.progress.pictures = len(numbers)
    if job.count > len(numbers):
        job.progress.title = f" {numbers[0] + 1}-{numbers[-1] + 1} of {job.count}"
    result = pipe(
        prompts,
        seed=seeds,
        batch=len(numbers),
        callback=Watcher(job, pipe),
        decoded=job.progress.decoded,
        **options,
    )
    job.progress.close()
    _model_hash(job, digest)
    for text in lora_options.changed(job.settings, result.settings) if not job.saved else ():
        job.progress.note(text)
    if job.recording is not None and job.recording.at is not None:
        drawn = {"prompts": prompts, "seed": result.seeds[0], "batch": len(numbers)}
        return _stopped(job, recipe.recorded(result.settings, job.settings, job.model) | drawn)
    for number, prompt, picture, seed in zip(numbers, prompts, result.images, result.seeds, strict=True):
        _save(job, number, picture, result, {"prompt": prompt, "seed": seed})


def _stopped(job: Job, settings: dict[str, Any]) -> None:
    assert job.recording is not None
    path = state.save(job.recording, job.settings["save_state"], settings)
    if not job.settings.get("quiet") and not job.settings.get("json"):
        print(path, flush=True)


def _model_hash(job: Job, digest: recipe.FileHash) -> None:
    found, expected = digest.digits(), job.settings.get("model_hash")
    if "model_hash" not in job.model and found and expected and found != expected:
        job.progress.note(
            f"the picture was made with a model of hash {expected}, this one's is {found}: it will differ"
        )
    job.model["model_hash"] = found


def _save(job: Job, number: int, picture: Image.Image, result: Result, own: dict[str, Any]) -> None:
    settings = recipe.recorded(result.settings, job.settings, job.model) | own
    path = output.save(picture, job.path(number, settings), job.target, metadata.to_text(settings))
    job.saved.append(Saved(path, picture if job.settings.get("grid") else None, settings))
    if not job.settings.get("quiet") and not job.settings.get("json"):
        print(path, flush=True)


class Watcher:
    """The pipeline's callback: moves the bar, and every n-th step writes the preview."""

    def __init__(self, job: Job, pipe: Pipeline) -> None:
        self.job, self.pipe = job, pipe
        self.every = job.settings.get("preview", 0)

    def __call__(self, state: StepState) -> None:
        self.job.progress.step(state)
        if self.every and (state.index + 1) % self.every == 0:
            self.job.previewed = True
            try:
                output.replace(grid(self.pipe.preview(state.denoised)), self.job.preview_path)
            except SigmaGraftError as error:  # a picture in the making is worth more than its preview
                self.every = 0
                self.job.progress.note(f"no more previews: {error}")


def _sheet(job: Job) -> Path | None:
    """All finished pictures on one sheet, with the settings of the first."""
    if not job.settings.get("grid") or len(job.saved) < 2:
        return None
    first = job.saved[0]
    path = first.path.with_name(f"{first.path.stem}-grid{first.path.suffix}")
    sheet = grid([saved.image for saved in job.saved if saved.image])
    path = output.save(sheet, path, job.target, metadata.to_text(first.settings))
    if not job.settings.get("quiet") and not job.settings.get("json"):
        print(path, flush=True)
    return path


def _report(job: Job, sheet: Path | None) -> None:
    if not job.settings.get("json"):
        return
    pictures = [{"path": str(saved.path), **saved.settings} for saved in job.saved]
    report: dict[str, Any] = {"images": pictures, "grid": str(sheet) if sheet else None}
    if job.recording is not None and job.recording.at is not None:
        report["state"] = job.settings["save_state"]
    print(json.dumps(report, indent=2, ensure_ascii=False))
