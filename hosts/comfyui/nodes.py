"""Every node: the ones of their own, then one for each sampler and schedule."""

from __future__ import annotations

from collections.abc import Iterator

from ...guidance import GUIDANCES
from ...samplers import SAMPLERS, SCHEDULES
from .calibration_nodes import CalibratedNode
from .control_table import control_table
from .guidance_nodes import IntervalNode, PlusPlusNode
from .kin_nodes import guidance_node
from .list_nodes import OwnSigmas, OwnTimesteps
from .lora_fields import BlocksNode, ScheduleNode
from .lora_nodes import LoadLora, LoraStack
from .motion_nodes import ApplyMotion, MotionLoader
from .node import Node
from .noise_nodes import NoiseNode
from .restart_nodes import RestartNode
from .sampler_nodes import AnySampler, sampler_node
from .schedule_nodes import AnySchedule, schedule_node


def node_table() -> Iterator[type[Node]]:
    """The node classes, in the order of the menu."""
    yield from (AnySampler, AnySchedule, CalibratedNode, RestartNode, NoiseNode, OwnSigmas, OwnTimesteps)
    yield from (PlusPlusNode, IntervalNode)
    yield from (LoadLora, LoraStack, BlocksNode, ScheduleNode)
    yield from control_table()
    yield from (MotionLoader, ApplyMotion)
    yield from map(guidance_node, GUIDANCES)
    yield from map(sampler_node, SAMPLERS)
    yield from map(schedule_node, SCHEDULES)
