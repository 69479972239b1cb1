"""What a scheduler class is: a sampler, the coordinates of its sample, its config and how that is translated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..samplers.spec import SamplerSpec
from .grid import Grid, Rule
from .space import Space

Config = Any  # a FrozenDict: entries are attributes
Options = dict[str, Any]


def nothing(config: Config, grid: Grid, space: Space) -> Options:
    return {}


def by_config(config: Config) -> str:
    return config.get("prediction_type", "epsilon")


def unit(config: Config, largest: Callable[[], float]) -> float:
    return 1.0


def spaced(config: Config, largest: Callable[[], float]) -> float:
    """The largest sigma; the norm of x there where spacing is leading, which does not begin at it."""
    return math.hypot(largest(), 1.0) if config.timestep_spacing == "leading" else largest()


@dataclass(frozen=True)
class Row:
    """One class of the table.

    Attributes:
        sampler: the name of the method, or config -> its name or spec.
        defaults: the config's entries in the order of the constructor's arguments.
        grid: (config, training, steps, **given) -> the places of a run.
        space: (config, training) -> the coordinates of the sample.
        options: (config, grid, space) -> the sampler's options.
        step: what `step` takes after the sample, with defaults.
        passed: names in `step` -> the sampler's options.
        refused: names in `step` that only their default is taken for -> why; others change nothing.
        arguments: what `set_timesteps` takes beyond the number of steps and the device.
        order: evaluations of a step, as diffusers counts them.
        alone: no step needs to know of another, so any may be taken at any time.
        whole: timesteps are integers.
        inner: evaluations inside a step are told the timestep of their level, not that of the step's end.
        floor: stands for alphas_cumprod 0 of zero terminal SNR; None leaves the 0.
        kin: whether it lists the classes that are compatible with one another as its own.
        listed: whether it is one of those; None is as `kin` says.
        start: (config, () -> largest ratio) -> what unit noise is multiplied by to begin with.
        initial: (config, training) -> the places of a run without `set_timesteps`; None where it has to be called.
        pair: whether `return_dict=False` gives the prediction of x0 too.
        choices: entries of the config -> the values they may have.
        renamed: entries of the config -> values of other classes, and what stands for them here.
        limits: which of `thresholding`, `clip_sample` and `clip_denoised` the class heeds, the first that is on.
        loose: a limit leaves the noise of the prediction as it was, unless use_clipped_model_output is given.
        predictions: prediction_type -> the name the levels have for it, where that is not the usual one.
        prediction: config -> the prediction_type of a class whose config has none.
        learned: heeds a variance that the network predicts.
        table: `add_noise` goes by the timesteps of training, not by those of the run.
        float_noise: noise is drawn in float32 whatever the model's dtype.
        eager: a step's noise is drawn whether it is used or not.
        brownian: noise comes from a Brownian path over sigma, seeded by the config's noise_sampler_seed.
        resume: (sampler, options) of a run that begins after the first step; None is the same as from the first.
    """

    sampler: str | Callable[[Config], str | SamplerSpec]
    defaults: Mapping[str, Any]
    grid: Rule
    space: Callable[[Config, Any], Space]
    options: Callable[[Config, Grid, Space], Options] = nothing
    step: Mapping[str, Any] = field(default_factory=dict)
    passed: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    order: int = 1
    alone: bool = False
    whole: bool = True
    inner: bool = False
    floor: float | None = None
    kin: bool = True
    listed: bool | None = None
    start: Callable[[Config, Callable[[], float]], float] = unit
    initial: Callable[[Config, Any], Grid] | None = None
    pair: bool = True
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    renamed: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    loose: bool = False
    predictions: Mapping[str, str] = field(default_factory=dict)
    prediction: Callable[[Config], str] = by_config
    learned: bool = False
    table: bool = False
    float_noise: bool = False
    eager: bool = False
    brownian: bool = False
    resume: tuple[str, Options] | None = None
