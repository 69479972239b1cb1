"""Nodes that change how the prompt pulls: one for each of GUIDANCES with its options as widgets."""

from __future__ import annotations

from typing import Any

from ...guidance import Chosen, GuidanceSpec
from .fields import Field, fields_of, values_of
from .node import Node


class GuidanceNode(Node):
    """One guidance; several in a row act together."""

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "SigmaGraft/guidance"
    SPEC: GuidanceSpec

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        model: Field = ("MODEL", {"tooltip": "the model to guide"})
        return {"required": {"model": model, **fields_of(cls.SPEC.options)}}

    def make(self, model: Any, **widgets: Any) -> tuple[Any]:
        from .kin_patch import with_guidance  # a start needs none of it

        values = values_of(self.SPEC.options, widgets)
        options = {option.name: option.default for option in self.SPEC.options} | values
        return (with_guidance(model, Chosen(self.SPEC, values, options)),)


def guidance_node(spec: GuidanceSpec) -> type[Node]:
    """The node of a guidance."""
    papers = f" (arXiv:{spec.paper})" if spec.paper else ""
    told = {
        "ID": f"SigmaGraftGuidance_{spec.name}",
        "TITLE": f"SigmaGraft {spec.label}",
        "DESCRIPTION": " ".join(spec.doc.split()) + papers,
        "SPEC": spec,
    }
    return type(f"Guidance_{spec.name}", (GuidanceNode,), told)
