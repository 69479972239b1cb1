"""LoRA and its kin: files read, bound to a model's weights, put in and taken out again.

`read_lora` opens a file, `bind` finds the weights it is for, `Fused` changes weights and gives them back bit for bit,
`Forward` adds terms while the network runs. Nothing here knows a host or a pipeline.
"""

from .bind import Bound, bind
from .delta import Delta
from .forward import Forward
from .fuse import Fused
from .lora_file import LoraFile
from .read import read_lora
from .report import LoadReport, Unused
from .strength import Strength, parse_expression
from .targets import Module, Targets

__all__ = [
    "Bound",
    "Delta",
    "Forward",
    "Fused",
    "LoadReport",
    "LoraFile",
    "Module",
    "Strength",
    "Targets",
    "Unused",
    "bind",
    "parse_expression",
    "read_lora",
]
