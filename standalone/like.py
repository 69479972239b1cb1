"""Drawing as another system does: all that decides a picture besides the model, one row of a table a system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import OptionError, nearest

Options = Mapping[str, Any]
TWICE = frozenset({"dpmpp_sde", "dpmpp_2s_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "restart"})
BY_TIMESTEPS = frozenset({"ddim", "plms", "uni_pc", "uni_pc_bh2"})
SDE = frozenset({"dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"})  # k-diffusion's, on a Brownian tree
WEBUI_SCHEDULES = {
    **dict.fromkeys(("dpmpp_2m", "dpmpp_sde", "dpmpp_2s_ancestral", "dpm_2", "dpm_2_ancestral"), "karras"),
    **dict.fromkeys(("dpmpp_2m_sde", "dpmpp_3m_sde"), "exponential"),
    "restart": "karras",
}
WEBUI_OPTIONS: Mapping[str, Options] = {
    "dpm_fast": {"eta": 1.0},
    "dpm_adaptive": {"eta": 1.0},
    "uni_pc": {"lower_order_final": "always"},
    "uni_pc_bh2": {"lower_order_final": "always"},
    "ipndm_v": {"weights": "published"},
}


@dataclass(frozen=True)
class Like:
    """One system.

    Attributes:
        text: what it is, for lists.
        settings: a request's settings where nobody says otherwise (emphasis, noise).
        course: how it lays out a walk: "kept" as ours, "webui", "comfyui" or "diffusers" (course.py).
        host: a schedule NAME means NAME@host where there is one.
        rules: schedules that are by another system's rule: NAME means NAME@SYSTEM.
        schedule, schedules: where no schedule is named, for any sampler and for some.
        options: of samplers, where nobody says otherwise.
        discards: samplers whose last sigma above 0 is left out of one step more.
        ends: samplers that walk to a level above 0 instead of to it.
        by_timesteps: samplers that a web UI walks over whole timesteps, with a latent of unit variance.
        few: samplers whose schedule knows only the 50 timesteps that latent consistency models were distilled on.
        ratio: in single precision its sigmas are ((1 - a) / a)^0.5 of the rounded a; else rounded themselves.
        tree: samplers whose noise is torchsde's Brownian tree; that of all others is Gaussian.
        whole: the network is told the nearest whole timestep of training, not the one between two.
        together: one generator draws the noise of a whole batch; else each image has its own.
        step_seed: seed of the generator of the steps on the CPU, less that of the start; None: the same goes on.
        full: at the model's largest sigma noise is scaled to sqrt(1 + sigma^2), not to sigma.
        negative_at_0: cfg 0 draws the negative prompt; else the prompt.
        guided_above: cfg up to this draws the prompt alone.
        skips_negative: clip skip is for the negative prompt too.
        by_evaluations: `[a:b:0.5]` counts evaluations, not steps, and a single prompt may end in a weight.
        twice: samplers of which such a count expects two evaluations a step.
    """

    name: str
    text: str
    settings: Options
    course: str
    host: str
    rules: Options = field(default_factory=dict)
    schedule: str | None = None
    schedules: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Options] = field(default_factory=dict)
    discards: frozenset[str] = frozenset()
    ends: Mapping[str, float] = field(default_factory=dict)
    by_timesteps: frozenset[str] = frozenset()
    few: frozenset[str] = frozenset()
    ratio: bool = False
    tree: frozenset[str] = SDE
    whole: bool = False
    together: bool = False
    step_seed: int | None = None
    full: bool = False
    negative_at_0: bool = True
    guided_above: float | None = None
    skips_negative: bool = True
    by_evaluations: bool = False
    twice: frozenset[str] = TWICE

    def schedule_for(self, sampler: str, named: str | None, usual: str) -> str:
        """The schedule that this system means by a name, or takes where none is given (`usual` is ours)."""
        from ..samplers import SCHEDULES

        name = named or self.schedules.get(sampler) or self.schedule or usual
        plain = SCHEDULES[name].name
        own = f"{name}@{self.rules.get(plain, self.host)}"
        return SCHEDULES[own].name if "@" not in name and own in SCHEDULES else plain

    def options_for(self, sampler: str, given: Options | None) -> dict[str, Any]:
        """A sampler's options under this system, over them those given."""
        return {**self.options.get(sampler, {}), **(given or {})}


_COMFYUI: dict[str, Any] = {
    "settings": {"emphasis": "comfyui", "noise": "cpu"},
    "course": "comfyui",
    "host": "comfyui",
    "schedule": "normal",
    "options": {
        "lms": {"final": "denoised"},
        "er_sde": {"derivatives": "hosts"},
        "ipndm_v": {"weights": "published"},
        "uni_pc": {"lower_order_final": "always"},
        "uni_pc_bh2": {"lower_order_final": "always"},
    },
    "discards": frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"}),
    "ends": {"uni_pc": 0.001, "uni_pc_bh2": 0.001},
    "whole": True,
    "together": True,
    "full": True,
}
_WEBUI: dict[str, Any] = {
    "settings": {"emphasis": "a1111", "noise": "device"},
    "course": "webui",
    "schedule": "normal",
    "schedules": WEBUI_SCHEDULES,
    "options": WEBUI_OPTIONS,
    "discards": frozenset({"dpmpp_3m_sde", "dpm_2", "dpm_2_ancestral"}),
    "by_timesteps": BY_TIMESTEPS,
    "few": frozenset({"lcm"}),
    "by_evaluations": True,
}
_NEO = {
    **_WEBUI,
    "options": _COMFYUI["options"],
    "discards": frozenset({*_WEBUI["discards"], "uni_pc", "uni_pc_bh2"}),
    "ends": _COMFYUI["ends"],
    "by_timesteps": frozenset({"ddim", "plms"}),
    "few": frozenset(),
}
LIKE: dict[str, Like] = {
    row.name: row
    for row in (
        Like(
            "a1111",
            "Automatic1111 1.10",
            host="a1111",
            ratio=True,
            **{**_WEBUI, "options": {**WEBUI_OPTIONS, "lcm": {"timestep_scaling": 10.0}}},
        ),
        Like("forge", "Forge: A1111's, with whole timesteps", host="forge", whole=True, **_WEBUI),
        Like(
            "reforge",
            "reForge: Forge's, with ComfyUI's Beta",
            host="forge",
            whole=True,
            ratio=True,
            rules={"beta": "comfyui"},
            **_WEBUI,
        ),
        Like(
            "neo",
            "Forge Neo: Forge's, with ComfyUI's UniPC, LMS, LCM, ER-SDE and Beta",
            host="forge",
            whole=True,
            rules={"beta": "comfyui"},
            **_NEO,
        ),
        Like("comfyui", "ComfyUI from 0.7", step_seed=1, **_COMFYUI),
        Like(
            "comfyui-0.6",
            "ComfyUI before 0.7: on the CPU the steps repeat the start",
            step_seed=0,
            **_COMFYUI,
        ),
        Like(
            "diffusers",
            "diffusers' pipelines with the scheduler class of the sampler",
            settings={"emphasis": "diffusers", "noise": "cpu"},
            course="diffusers",
            host="diffusers",
            options={"tcd": {"gamma": 0.0}},  # its pipelines' eta
            tree=frozenset({"dpmpp_sde"}),
            negative_at_0=False,
            guided_above=1.0,
            skips_negative=False,
        ),
    )
}


def find_like(name: str | None) -> Like | None:
    """The system of that name. OptionError with the nearest names if there is none."""
    if name is None:
        return None
    if name not in LIKE:
        raise OptionError(f"unknown system {name!r}", "--like", todo=nearest(name, LIKE))
    return LIKE[name]


def filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` over what the system that they name sets."""
    row = find_like(settings.get("like"))
    return dict(settings) if row is None else {**row.settings, **settings}


def alone_at(cfg: float | None, like: str | None) -> str:
    """Which prompt a cfg draws alone, at half the cost: "prompt" or "negative"; "" where guidance needs both."""
    row = find_like(like)
    if row is not None and row.guided_above is not None and cfg is not None and cfg <= row.guided_above:
        return "prompt"
    if cfg == 0.0 and row is not None and row.negative_at_0:
        return "negative"
    return "prompt" if cfg in (0.0, 1.0) else ""
