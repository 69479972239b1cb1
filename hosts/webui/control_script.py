"""The panel of controls and image prompts: its units, what a generation takes from them, what a picture gives back.

It stands beside the host's own ControlNet panel and does not register in it: the Forges' registry hands a file to
whoever recognises it first and knows one picture, one weight and no image prompts by layer; Automatic1111 has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from modules import scripts

from ...controlnet.preprocess import PREPROCESSORS
from ...core.errors import SigmaGraftError
from . import control_files
from .control_units import KEY, Unit, control_of, prompt_of, read_back, units_of, written

UNITS = 3
_HELP = (
    "NAME=VALUE; NAME=VALUE: mode=control; resize=fill; keyframes=0@1,0.5@0.3; low=50; weight_type=style ..."
)


class SigmaGraftControl(scripts.Script):
    """Units of one file, one picture and their settings each."""

    def title(self) -> str:
        return KEY

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """The fields of every unit, in the order of the API's args."""
        self.infotext_fields: list[Any] = []
        self.paste_field_names = [KEY]
        with gr.Accordion(KEY, open=False, elem_id=self.elem_id("sigmagraft_control")):
            return [field for number in range(UNITS) for field in self._unit(number)]

    def _unit(self, number: int) -> list[Any]:
        def name(field: str) -> str:
            return self.elem_id(f"sg_control{number}_{field}")

        with gr.Accordion(f"Unit {number + 1}", open=number == 0, elem_id=name("unit")):
            with gr.Row():
                image = gr.Image(label="Picture", type="pil", elem_id=name("image"))
                mask = gr.Image(label="Where it acts (white)", type="pil", elem_id=name("mask"))
            with gr.Row():
                file = gr.Dropdown(
                    label="Control or IP-Adapter",
                    choices=control_files.names(),
                    value=control_files.NONE,
                    elem_id=name("file"),
                )
                method = gr.Dropdown(
                    label="Preprocessor",
                    choices=PREPROCESSORS.names(),
                    value="none",
                    elem_id=name("method"),
                    allow_custom_value=True,
                )
            with gr.Row():
                weight = gr.Slider(
                    label="Weight", minimum=0.0, maximum=3.0, step=0.05, value=1.0, elem_id=name("weight")
                )
                start = gr.Slider(
                    label="Start", minimum=0.0, maximum=1.0, step=0.01, value=0.0, elem_id=name("start")
                )
                end = gr.Slider(
                    label="End", minimum=0.0, maximum=1.0, step=0.01, value=1.0, elem_id=name("end")
                )
            settings = gr.Textbox(label="Settings", value="", placeholder=_HELP, elem_id=name("settings"))
        shown = {"file": file, "preprocessor": method, "weight": weight, "start": start, "end": end}
        for field, component in (shown | {"settings": settings}).items():
            self.infotext_fields.append((component, _pasted(number, field)))
        return [image, mask, *shown.values(), settings]

    def process(self, p: Any, *args: Any) -> None:
        """Check the fields and write into the picture what will act."""
        p.sigmagraft_units = p.sigmagraft_refusal = None
        try:
            units = [unit for unit in units_of(args) if unit.wanted]
            for unit in units:
                _check(unit)
        except SigmaGraftError as error:
            p.sigmagraft_refusal = error
            return
        p.sigmagraft_units = units
        if units:
            from .control_plan import SHELF  # what a start does not need is loaded when it is asked for

            SHELF.begin()
            p.extra_generation_params[KEY] = written(units)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """A pass begins: what acts in it is made, or what is wrong is said where the walk would begin."""
        refusal, units = getattr(p, "sigmagraft_refusal", None), getattr(p, "sigmagraft_units", None)
        if refusal is None and not units:
            return
        from .control_plan import part_of
        from .walk_pass import pass_of, refuse

        try:
            if refusal is not None:
                raise refusal
            part = part_of(p, units or [], bool(getattr(p, "is_hr_pass", False)))
            if part is not None:
                pass_of(p).put(KEY, part, kwargs["noise"])
        except SigmaGraftError as error:
            refuse(p, error)


def _check(unit: Unit) -> None:
    """What can be told without the model. SigmaGraftError."""
    if unit.file in control_files.REFERENCE:
        control_of(unit, unit.file, ())
        return
    file = control_files.opened(unit.file)
    if hasattr(file, "kind"):
        control_of(unit, unit.file, (), file.kind == "controlnet-union")  # type: ignore[union-attr]
    elif "face" not in unit.words():
        prompt_of(unit)


def _pasted(number: int, field: str) -> Callable[[Mapping[str, Any]], Any]:
    """What a pasted picture's parameters set a field to: its default where they say nothing of it."""

    def value(params: Mapping[str, Any]) -> Any:
        units = read_back(params.get(KEY))
        unit = units[number] if number < len(units) else {}
        return unit.get(field, getattr(Unit(), field))

    return value
