"""A batch walked image by image, for samplers that choose their own steps: each image gets the steps it gets alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import OptionError
from .control_text import alone as control_alone
from .ip_adapter import alone
from .request import Request
from .run import Result

if TYPE_CHECKING:
    from .pipeline import Pipeline


def singly(pipe: Pipeline, request: Request, callback: Callable[[Any], None] | None, **more: Any) -> Result:
    """The result of a resolved request whose batch is above 1, made of results of one image.

    Raises OptionError where the run is to be recorded.
    """
    if more.pop("recording") is not None:
        raise OptionError(
            f"sampler {request.sampler} chooses its steps for each image, and a run of several is to be stopped",
            todo="stop and resume with a batch of 1",
        )
    decoded = more.pop("decoded")
    results = []
    for index, single in enumerate(_singles(pipe, request)):
        results.append(pipe.drawn(single, callback))
        if decoded is not None:
            decoded(index + 1)
    images = [image for result in results for image in result.images]
    settings = {**request.settings(), "model": results[0].settings["model"]}
    return Result(images, request.seeds, settings, torch.cat([result.latents for result in results]))


def _singles(pipe: Pipeline, request: Request) -> list[Request]:
    rows = zip(request.prompts(), request.negatives(), request.seeds, strict=True)
    singles = [
        replace(
            request,
            prompt=prompt,
            negative=negative,
            seed=seed,
            batch=1,
            ip_adapter=alone(request.ip_adapter, k),
            control=control_alone(request.controls, k),
        )
        for k, (prompt, negative, seed) in enumerate(rows)
    ]
    for single in singles:
        single.resolve(pipe.info, pipe.model.vae.factor)
    return singles
