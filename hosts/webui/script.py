"""The accordion: its fields, what a generation takes from them, and what a picture gives back to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from modules import scripts, sd_samplers

from ...samplers.noise_types import NOISE_TYPES
from ..log import guarded
from .choice import AUTOMATIC, KEY, Choice, Fields, choice_of, choose, field_of, set_current
from .describe import described
from .lists import offer_of, schedule_of
from .lora import graft

TITLE = "SigmaGraft"
LISTS = ("sampling", "scheduler")  # the host's two dropdowns, by the end of their elem_id


class SigmaGraft(scripts.Script):
    """Options of our samplers and schedules, kept out of the host's own fields, which mean something else."""

    companions: tuple[type, ...] = ()  # scripts that go with it

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """The fields, in the order of the API's args. Called four times and more by a host: nothing is kept or read."""
        name = self.elem_id
        with gr.Accordion(TITLE, open=False, elem_id=name("sigmagraft")):
            options = gr.Textbox(
                label="Sampler options",
                value="",
                placeholder="eta=0.5, s_noise=1.02",
                elem_id=name("sg_options"),
            )
            schedule_options = gr.Textbox(
                label="Schedule options",
                value="",
                placeholder="alpha=0.5",
                elem_id=name("sg_schedule_options"),
            )
            noise_type = gr.Dropdown(
                label="Step noise",
                choices=[AUTOMATIC, *NOISE_TYPES.names()],
                value=AUTOMATIC,
                elem_id=name("sg_noise_type"),
                allow_custom_value=True,
            )
            restarts = gr.Textbox(
                label="Restarts",
                value="",
                placeholder="steps, times, t_min, t_max; ...",
                elem_id=name("sg_restarts"),
            )
            hires_options = gr.Textbox(
                label="Hires sampler options",
                value="",
                elem_id=name("sg_hires_options"),
                visible=not is_img2img,
            )
            self.help = gr.HTML(value="", elem_id=name("sg_help"))
        fields = [options, schedule_options, noise_type, restarts, hires_options]
        self.infotext_fields = list(zip(fields, _PASTED, strict=True))
        self.paste_field_names = [KEY]
        self._tell()
        return fields

    def after_component(self, component: Any, **kwargs: Any) -> None:
        """Remember the host's dropdowns as they are made, so that the help can follow them."""
        for which in LISTS:
            if kwargs.get("elem_id") == f"{'img2img' if self.is_img2img else 'txt2img'}_{which}":
                self.__dict__.setdefault("lists", {})[which] = component
                self._tell()

    def _tell(self) -> None:
        """Show what the chosen sampler and schedule take, as soon as both dropdowns and the help are there."""
        lists: Mapping[str, Any] = getattr(self, "lists", {})
        shown = getattr(self, "help", None)
        if shown is None or set(lists) != set(LISTS):
            return
        inputs = [lists[which] for which in LISTS]
        for dropdown in inputs:
            dropdown.change(fn=_help, inputs=inputs, outputs=[shown], show_progress=False)
        self.lists = {}

    def process(self, p: Any, *args: Any) -> None:
        """Check the fields and write into the picture what will be used."""
        with guarded("putting LoRAs in front of the web UI's own"):
            graft()
        hires_name = getattr(p, "hr_sampler_name", None) if getattr(p, "enable_hr", False) else None
        sampler, schedule = offer_of(p.sampler_name), schedule_of(_schedule_name(p))
        hires = offer_of(hires_name or p.sampler_name) if getattr(p, "enable_hr", False) else None
        fields = Fields.of(args, getattr(p, "sigmagraft_axes", {}))
        p.sigmagraft_choice = choice = choose(fields, sampler, schedule, hires)
        set_current(choice)
        text = choice.text()
        if text:
            p.extra_generation_params[KEY] = text

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """Another script may have generated something in between."""
        set_current(choice_of(p))

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        """The schedules go without options again."""
        set_current(Choice())


def _help(sampler: str | None, schedule: str | None) -> str:
    return described(offer_of(sampler), schedule_of(schedule))


def _schedule_name(p: Any) -> str | None:
    """The schedule by its name, where Automatic is the sampler's own."""
    if p.scheduler and p.scheduler.lower() != AUTOMATIC.lower():
        return p.scheduler
    entry = sd_samplers.all_samplers_map.get(p.sampler_name)
    return entry.options.get("scheduler") if entry else None


def _pasted(field: str) -> Callable[[Mapping[str, Any]], str]:
    """What a pasted picture's parameters set this field to: an empty text where they say nothing of it."""

    def value(params: Mapping[str, Any]) -> str:
        offer = offer_of(params.get("Sampler")) if field == "options" else None
        told = field_of(params, field, offer.spec if offer else None)
        return told or (AUTOMATIC if field == "noise_type" else "")

    return value


_PASTED = [
    _pasted(field) for field in ("options", "schedule_options", "noise_type", "restarts", "hires_options")
]
