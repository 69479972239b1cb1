"""Stopping a walk and going on later, bit for bit: what the model answered is kept, the rest is computed again.

A method's history, its adaptive steps and the state of its generators follow from the start, the answers and the
seeds. So a walk goes on by running the method from the start with the kept answers, which costs no evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .drive import Denoise, drive, find_sampler
from .levels import NoiseLevels
from .replay_facts import Facts, agree, facts_of, noise_of
from .replay_file import read_state, write_state
from .sampler_files import of_file
from .spec import Method, Noise, Run, SamplerSpec


class Recording:
    """A walk as far as it went: its start, every answer of the model (a tensor like x each), and what it walks.

        recording = Recording()
        drive(recorded("dpmpp_2m_sde", recording, stop=8), denoise, x, sigmas, levels=levels, noise=noise)
        recording.save("half.safetensors")
        ...
        end = resume(Recording.load("half.safetensors"), denoise, levels=levels)

    Attributes:
        facts: sampler, options, sigmas, levels and noise, in JSON's types; `settings` is the caller's to fill.
        x: the latent at the first sigma; None before the walk.
        at: where it was stopped, the latent whose evaluation is due; None where it went to its end.
        answers: the model's, in the order it was asked.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.facts: Facts = {"evaluated": [], "settings": dict(settings or {})}
        self.x: Tensor | None = None
        self.at: Tensor | None = None
        self.answers: list[Tensor] = []

    def save(self, path: str | Path) -> None:
        """Write a stopped walk. FileError where that fails, OptionError for one that was not stopped."""
        if self.x is None or self.at is None:
            raise OptionError("this walk has not been stopped", todo="give `recorded` a stop")
        write_state(
            Path(path), {"x": self.x, "at": self.at, "answers": torch.stack(self.answers)}, self.facts
        )

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read one; nothing in the file is run. FileError where it is cut, edited or something else."""
        tensors, facts = read_state(Path(path))
        made = cls()
        made.facts, made.x, made.at = facts, tensors["x"], tensors["at"]
        made.answers = list(tensors["answers"])
        return made

    def begin(self, facts: Facts, x: Tensor) -> None:
        """Note what is walked, or see that it is what was. OptionError where it is not."""
        if self.x is None:
            self.x = x.clone()
            self.facts |= facts
            return
        agree(self.facts, facts)
        alike(x, self.x, "the latent that the walk starts at is not the recorded one")

    def answer(self, number: int, x: Tensor, sigma: float) -> Tensor:
        """The kept answer. OptionError where evaluation `number` (from 0) was at another sigma."""
        expected = self.facts["evaluated"][number]
        if sigma != expected:
            what = f"evaluation {number + 1} is due at sigma {sigma:g}"
            raise OptionError(what, expected=f"sigma {expected:g}, as recorded")
        return self.answers[number].to(x)

    def keep(self, answer: Tensor, sigma: float) -> None:
        """Note one more answer."""
        self.answers.append(answer.clone())
        self.facts["evaluated"].append(sigma)
        self.at = None


def recorded(sampler: str | SamplerSpec, recording: Recording, stop: int | None = None) -> SamplerSpec:
    """`sampler`, made to keep the model's answers in `recording`, where it has some to go on from them.

    Args:
        sampler: a spec, a registered name or the path of a file that is one (statistics, a calibration).
        stop: the walk ends before the first evaluation of this step (from 0), with the latent it is due for.

    Raises:
        FileError: a file that holds no sampler.
        OptionError: when driven: a stop out of range; a walk, a start or a noise that is not the recorded one.
    """
    spec = (of_file(sampler) if isinstance(sampler, str) else None) or find_sampler(sampler)

    def method(run: Run, x: Tensor) -> Method:
        _check_stop(stop, len(run.sigmas) - 1)
        recording.begin(facts_of(spec, run), x)
        return _walk(spec.method(run, x), run, recording, stop)

    return replace(spec, method=method)


def _walk(method: Method, run: Run, recording: Recording, stop: int | None) -> Method:
    number = 0
    try:
        x, sigma = next(method)
        while True:
            if number < len(recording.answers):
                denoised = recording.answer(number, x, sigma)
            else:
                if recording.at is not None:
                    alike(x, recording.at, "the walk does not lead to where it was stopped")
                if stop is not None and run.index >= stop:
                    recording.at = x.clone()
                    return x
                denoised = yield x, sigma
                recording.keep(denoised, sigma)
            number += 1
            x, sigma = method.send(denoised)
    except StopIteration as end:
        return end.value


def _check_stop(stop: int | None, steps: int) -> None:
    if stop is not None and not 0 < stop < steps:
        raise OptionError(f"stop at step {stop}", expected=f"1 to {steps - 1} of {steps} steps")


def alike(x: Tensor, kept: Tensor, what: str) -> None:
    """Raises OptionError unless x is the kept tensor but for what another machine rounds differently."""
    if x.shape != kept.shape or x.dtype != kept.dtype:
        given, expected = (f"{tuple(t.shape)}, {t.dtype}" for t in (x, kept))
        raise OptionError(f"a latent of {given}", expected=f"{expected}, as recorded")
    kept = kept.to(x)
    if not x.is_meta and not torch.allclose(x, kept, rtol=1e-3, atol=1e-3 * kept.abs().max().item()):
        raise OptionError(what, todo="give the seed, noise, image and sampler of the recording")


def resume(
    recording: Recording,
    denoise: Denoise,
    *,
    levels: NoiseLevels,
    sampler: SamplerSpec | None = None,
    noise: Noise | None = None,
    device: torch.device | str | None = None,
    stop: int | None = None,
    **more: Any,
) -> Tensor:
    """`drive` on from where the walk was stopped, with everything from the recording.

    Args:
        sampler, noise: needed where they are not of SAMPLERS and NOISE_TYPES; the noise as it was at the start.
        device: where to go on; None is where the recording lies.

    Raises:
        OptionError: nothing is recorded; as `recorded` and `drive` do.
    """
    if recording.x is None:
        raise OptionError("nothing is recorded", todo="load a recording, or drive `recorded` first")
    x, facts = recording.x.to(device or recording.x.device), recording.facts
    spec = recorded(sampler or facts["sampler"], recording, stop)
    noise = noise or noise_of(facts, x, levels)
    return drive(
        spec, denoise, x, facts["sigmas"], levels=levels, noise=noise, options=facts["options"], **more
    )
