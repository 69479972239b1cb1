"""The panel of guidance: a switch and options for each kind of GUIDANCES, which registering one adds to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr
from modules import scripts

from ...core.errors import SigmaGraftError
from ...guidance import GUIDANCES, Chosen, GuidanceSpec
from ..settings import format_options
from .choice import KEY
from .describe import table
from .guidance_texts import NAME, chosen_of, read_back, write

TITLE = "SigmaGraft Guidance"


class SigmaGraftGuidance(scripts.Script):
    """How the prompt pulls; the web UI's own kinds of it stay its own and act besides."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """A switch and options of each kind, in the order of the API's args, which may be texts instead."""
        self.infotext_fields: list[Any] = []
        self.paste_field_names = [KEY]
        with gr.Accordion(TITLE, open=False, elem_id=self.elem_id("sigmagraft_guidance")):
            fields = [field for spec in GUIDANCES for field in self._row(spec)]
            with gr.Accordion("What each takes", open=False, elem_id=self.elem_id("sg_guidance_help")):
                gr.HTML(value="".join(table(one.label, one.name, one.options) for one in GUIDANCES))
        return fields

    def _row(self, spec: GuidanceSpec) -> list[Any]:
        def name(field: str) -> str:
            return self.elem_id(f"sg_guidance_{spec.name}_{field}")

        usual = format_options({option.name: option.default for option in spec.options})
        with gr.Row():
            on = gr.Checkbox(label=spec.label, value=False, scale=2, elem_id=name("on"))
            # one line: what does not fit is cut at its end, not within a second line
            options = gr.Textbox(
                label=f"{spec.name} options",
                value="",
                placeholder=usual,
                max_lines=1,
                scale=3,
                elem_id=name("options"),
            )
        self.infotext_fields += [(on, _on(spec.name)), (options, _options(spec.name))]
        return [on, options]

    def process(self, p: Any, *args: Any) -> None:
        """Check the fields and write into the picture what will act."""
        p.sigmagraft_guidance = p.sigmagraft_guidance_refusal = None
        try:
            p.sigmagraft_guidance = chosen_of(args, getattr(p, "sigmagraft_axes", {}).get(NAME))
        except SigmaGraftError as error:
            p.sigmagraft_guidance_refusal = error
            return
        write(p.extra_generation_params, p.sigmagraft_guidance)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """A pass begins: what acts in it is put around its walk, or what is wrong is said where that would begin."""
        refusal = getattr(p, "sigmagraft_guidance_refusal", None)
        chosen: list[Chosen] = getattr(p, "sigmagraft_guidance", None) or []
        if refusal is None and not chosen:
            return
        from .guidance_walk import begin  # what a start does not need is loaded when it is asked for
        from .walk_pass import Part, pass_of, refuse

        if refusal is not None:
            refuse(p, refusal)
        else:
            pass_of(p).put(TITLE, Part(partial(begin, chosen)), kwargs["noise"])


Pasted = Callable[[Mapping[str, Any]], Any]


def _on(name: str) -> Pasted:
    """Whether a pasted picture's parameters name this kind."""
    return lambda params: name in read_back(params)


def _options(name: str) -> Pasted:
    """The options they give it."""
    return lambda params: read_back(params).get(name, "")
