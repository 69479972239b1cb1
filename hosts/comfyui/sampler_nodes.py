"""Nodes that give a SAMPLER: one for each sampler of ours with its options as widgets, and one for any of them."""

from __future__ import annotations

from typing import Any

from ...core.errors import OptionError
from ...samplers.noise import noise_kinds
from ...samplers.noise_types import NOISE_TYPES, parse_noise
from ...samplers.spec import SAMPLERS, SamplerSpec, Value
from ..offers import SamplerOffer
from ..settings import describe, parse_options
from . import in_comfyui
from .fields import Field, fields_of, values_of
from .function import Choice, sampler_function, sampler_object
from .node import Node
from .registry import settle

AUTOMATIC = "automatic"  # what the sampler asks for
NOISE_FIELDS: dict[str, Field] = {
    "noise_type": (
        [AUTOMATIC, *NOISE_TYPES.names()],
        {
            "default": AUTOMATIC,
            "tooltip": "what the noise of the steps is made of; automatic suits the sampler",
        },
    ),
    "noise_options": (
        "STRING",
        {"default": "", "tooltip": "options of the noise type, such as alpha=1.5; empty leaves them alone"},
    ),
    "noise_kind": (
        noise_kinds(),
        {"tooltip": "generator of the step noise: cpu is the same everywhere, nv as on an NVIDIA card"},
    ),
}


def noise_text(noise_type: str, noise_options: str) -> str | None:
    """`name:options`, checked; None for automatic. Raises OptionError for options that the type does not have."""
    if noise_type == AUTOMATIC:
        if noise_options.strip():
            raise OptionError(
                f"noise_options {noise_options!r}", todo="choose the noise_type that they are of"
            )
        return None
    text = f"{noise_type}:{noise_options}"
    parse_noise(text)
    return text


def sampler_of(spec: SamplerSpec, options: dict[str, Value], noise: dict[str, str]) -> Any:
    """The host's SAMPLER of a spec with these options and NOISE_FIELDS."""
    given = {"noise_type": AUTOMATIC, "noise_options": "", "noise_kind": "cpu"} | noise
    text = noise_text(given["noise_type"], given["noise_options"])
    offer = SamplerOffer(spec.name, spec.label, spec)
    return sampler_object(sampler_function(Choice(offer, options, text, given["noise_kind"])))


class SamplerNode(Node):
    """A SAMPLER for SamplerCustom and SamplerCustomAdvanced."""

    RETURN_TYPES = ("SAMPLER",)

    @classmethod
    def VALIDATE_INPUTS(cls, noise_type: str = AUTOMATIC, noise_options: str = "") -> bool | str:
        """True, or why these options of the noise cannot be."""
        return cls.checked(lambda: noise_text(noise_type, noise_options))


class AnySampler(SamplerNode):
    """Any sampler of SigmaGraft, its options in one line, so that they can come from a text."""

    ID, TITLE = "SigmaGraftSampler", "SigmaGraft Sampler"
    CATEGORY = "SigmaGraft"
    DESCRIPTION = "Any sampler of SigmaGraft, also those whose names ComfyUI keeps for its own."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        if in_comfyui():
            settle()  # every pack is loaded by the time the page asks for this
        names = SAMPLERS.names()
        return {
            "required": {
                "sampler_name": (names, {"default": "tcd", "tooltip": "a sampler of SigmaGraft"}),
                "options": (
                    "STRING",
                    {"default": "", "tooltip": "NAME=VALUE, NAME=VALUE; empty leaves all at their defaults"},
                ),
            },
            "optional": dict(NOISE_FIELDS),
        }

    @classmethod
    def VALIDATE_INPUTS(  # type: ignore[override]  # the host calls it by name with what each node names
        cls,
        sampler_name: str | None = None,
        options: str | None = None,
        noise_type: str = AUTOMATIC,
        noise_options: str = "",
    ) -> bool | str:
        """True, or why these options cannot be; what is linked is checked when it runs."""

        def check() -> None:
            noise_text(noise_type, noise_options)
            if sampler_name is not None:
                _written(SAMPLERS[sampler_name], options or "")

        return cls.checked(check)

    def make(self, sampler_name: str, options: str, **noise: str) -> tuple[Any]:
        spec = SAMPLERS[sampler_name]
        return (sampler_of(spec, _written(spec, options), noise),)


def _written(spec: SamplerSpec, text: str) -> dict[str, Value]:
    try:
        return parse_options(text, spec.options, f"sampler {spec.name}")
    except OptionError as error:
        known = describe(spec.options).replace("\n", " | ") or "none"
        raise OptionError(error.what, error.where, error.expected, f"its options: {known}") from None


def sampler_node(spec: SamplerSpec) -> type[Node]:
    """The node of one sampler."""
    noisy = spec.stochastic or spec.noise_option is not None

    def input_types(cls: type) -> dict[str, dict[str, Field]]:
        # optional and last, since saved workflows have widgets by name or by place and an option may come later
        return {"required": {}, "optional": (NOISE_FIELDS if noisy else {}) | fields_of(spec.options)}

    def make(self: Node, **widgets: Any) -> tuple[Any]:
        noise = {name: widgets[name] for name in NOISE_FIELDS if name in widgets}
        return (sampler_of(spec, values_of(spec.options, widgets), noise),)

    return type(
        f"Sampler_{spec.name}",
        (SamplerNode,),
        {
            "ID": f"SigmaGraftSampler_{spec.name}",
            "TITLE": f"SigmaGraft {spec.label}",
            "CATEGORY": f"SigmaGraft/samplers/{spec.family or 'Other'}",
            "DESCRIPTION": _told(spec),
            "INPUT_TYPES": classmethod(input_types),
            "make": make,
        },
    )


def _told(spec: SamplerSpec) -> str:
    text = " ".join((spec.method.__doc__ or spec.label).split())
    facts = [f"{spec.evaluations} model evaluations a step" if spec.evaluations > 1 else "", spec.paper]
    return "\n".join([text, *(fact for fact in facts if fact)])
