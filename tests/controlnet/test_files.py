"""Every published control file is recognised, and its network has exactly its tensors."""

from __future__ import annotations

import pytest

from sigmagraft.controlnet.control_lora import whole_shapes
from sigmagraft.controlnet.files import open_control
from sigmagraft.controlnet.networks import make_network
from sigmagraft.core.fill import skeleton

from ..core.manifests import checkpoint, shapes_of

KINDS = {
    "control_lora": "control-lora",
    "controllllite": "lllite",
    "controlnet_union": "controlnet-union",
    "controlnet": "controlnet",
    "sparsectrl": "sparsectrl",
    "t2iadapter_sd15_style": "t2i-style",
    "t2iadapter": "t2i-adapter",
}
FILES = sorted(name for name in shapes_of() if name.startswith(("control", "sparse", "t2i")))


@pytest.mark.parametrize("file", FILES)
def test_every_tensor_is_used_or_named_with_a_reason(file: str) -> None:
    found = open_control(checkpoint(file))
    assert found.kind == next(kind for start, kind in KINDS.items() if file.startswith(start))
    with skeleton():
        network = make_network(found.kind, found.shapes)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    there = whole_shapes(found.shapes) if found.kind == "control-lora" else found.shapes
    assert wanted == dict(there)
    assert len(found.tensors) + len(found.ignored) == len(shapes_of()[file])
    assert set(found.ignored) <= {"lora_controlnet"}
