"""The panel of clips: one generation's batch as the frames of a clip, written as one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import gradio as gr
from modules import scripts

from ...core.errors import OptionError, SigmaGraftError
from . import control_files
from .clip_choice import FORMATS, KEY, RANGES, WINDOWS, Clip, clip_of, read_back, written

_HELP = "stride=2; fuse=flat; norms=diffusers; betas=model"
_WHOLE = "sag"  # a guidance that looks at all of a batch in one evaluation


class SigmaGraftClip(scripts.Script):
    """Motion modules of AnimateDiff, and how a clip is cut and written."""

    def title(self) -> str:
        return KEY

    def show(self, is_img2img: bool) -> Any:
        return False if is_img2img else scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """The fields, in the order of the API's args, which may be one object by name instead."""
        self.paste_field_names = [KEY]
        usual, made = Clip(), dict[str, Any]()

        def drop(name: str, label: str, choices: Any) -> None:
            made[name] = gr.Dropdown(
                label=label, choices=list(choices), value=getattr(usual, name), elem_id=self._id(name)
            )

        def slide(name: str, label: str, top: float, step: float) -> None:
            low = max(RANGES[name].low, 0)
            made[name] = gr.Slider(
                label=label,
                minimum=low,
                maximum=top,
                step=step,
                value=getattr(usual, name),
                elem_id=self._id(name),
            )

        with gr.Accordion(KEY, open=False, elem_id=self._id("panel")):
            with gr.Row():
                drop("file", "Motion modules", control_files.motion_names())
                drop("format", "Written as", FORMATS)
            with gr.Row():
                slide("frames", "Frames", 256, 1)
                slide("fps", "Frames a second", 60, 0.5)
            with gr.Row():
                drop("windows", "Windows", WINDOWS)
                slide("strength", "Motion strength", 3, 0.05)
            with gr.Row():
                slide("length", "Frames of a window", 64, 1)
                slide("overlap", "Shared with the next", 63, 1)
            made["settings"] = gr.Textbox(
                label="Settings", value="", placeholder=_HELP, elem_id=self._id("settings")
            )
        ordered = {field.name: made[field.name] for field in fields(Clip)}
        self.infotext_fields = [(component, _pasted(name)) for name, component in ordered.items()]
        return list(ordered.values())

    def _id(self, name: str) -> str:
        return self.elem_id(f"sg_clip_{name}")

    def before_process(self, p: Any, *args: Any) -> None:
        """The batch becomes the frames, before the host counts its seeds."""
        p.sigmagraft_clip = p.sigmagraft_clip_refusal = None
        try:
            clip = clip_of(args)
            if clip.wanted:
                # what a start does not need is loaded when it is asked for
                from ...animate.encode import codec
                from .clip_walk import opened

                clip.plan(opened(clip).config.length)
                if clip.format == "MP4":
                    codec()
        except SigmaGraftError as error:
            p.sigmagraft_clip_refusal = error
            return
        if clip.wanted:
            p.sigmagraft_clip, p.batch_size, p.do_not_save_grid = clip, clip.frames, True
            p.sigmagraft_clip_kept = not p.do_not_save_samples
            p.do_not_save_samples = p.do_not_save_samples or clip.format != "frames"

    def process(self, p: Any, *args: Any) -> None:
        """Write into the pictures what makes the clip."""
        if (clip := _of(p)) is not None:
            from .clip_walk import SHELF

            SHELF.begin()
            p.extra_generation_params[KEY] = written(clip)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """A pass begins: what acts in it is put around its walk, or what is wrong is said where that would begin."""
        refusal, clip = getattr(p, "sigmagraft_clip_refusal", None), _of(p)
        if refusal is None and clip is None:
            return
        from .clip_walk import opened, part_of, rescheduled
        from .walk_pass import pass_of, refuse

        try:
            if refusal is not None:
                raise refusal
            assert clip is not None
            guided = getattr(p, "sigmagraft_guidance", None) or ()
            if clip.cut(opened(clip).config.length) and any(one.spec.name == _WHOLE for one in guided):
                raise OptionError(
                    f"guidance {_WHOLE} in windows", KEY, todo="leave it out, or take FreeNoise"
                )
            if not getattr(p, "is_hr_pass", False):
                rescheduled(clip, p, kwargs["noise"])
            pass_of(p).put(KEY, part_of(p, clip), kwargs["noise"])
        except SigmaGraftError as error:
            refuse(p, error)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        """The frames as clips, where the web UI puts its grid: in front of the pictures."""
        clip = _of(p)
        if clip is None or clip.format == "frames":
            return
        from .clip_output import shown

        shown(p, processed, clip, p.sigmagraft_clip_kept)


def _of(p: Any) -> Clip | None:
    return getattr(p, "sigmagraft_clip", None)


def _pasted(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """What a pasted picture's parameters set a field to: its default where they say nothing of it."""
    return lambda params: read_back(params.get(KEY)).get(name, getattr(Clip(), name))
