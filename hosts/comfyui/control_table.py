"""The nodes of controls and image prompts."""

from __future__ import annotations

from collections.abc import Iterator

from ...controlnet.preprocess import PREPROCESSORS
from .control_hint_nodes import AnyPreprocessor, CollectHints, preprocessor_node
from .control_nodes import ApplyControl, ApplyReference, ControlLoader
from .control_text_nodes import BlockWeights, Keyframe
from .ip_embeds_nodes import CombineEmbeds, EncodeImages, LoadEmbeds, SaveEmbeds
from .ip_nodes import AdapterLoader, ApplyAdapter
from .node import Node


def control_table() -> Iterator[type[Node]]:
    """The node classes, in the order of the menu."""
    yield from (ControlLoader, ApplyControl, ApplyReference, Keyframe, BlockWeights)
    yield from (CollectHints, AnyPreprocessor)
    yield from map(preprocessor_node, PREPROCESSORS)
    yield from (AdapterLoader, ApplyAdapter, EncodeImages, CombineEmbeds, SaveEmbeds, LoadEmbeds)
