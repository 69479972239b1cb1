"""The example workflows name nodes, widgets and values that there are, in all three forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sigmagraft.hosts.comfyui.nodes import node_table

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "examples" / "comfyui"
NAMES = sorted(file.name.removesuffix(".api.json") for file in FOLDER.glob("*.api.json"))
NODES = {node.ID: node for node in node_table()}


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def test_there_are_examples() -> None:
    assert len(NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_values_are_what_the_nodes_take(name: str) -> None:
    prompt = read(f"{name}.api.json")
    ours = [node for node in prompt.values() if node["class_type"].startswith("SigmaGraft")]
    assert ours or name == "dropdown"
    for node in ours:
        kind = NODES[node["class_type"]]
        types = kind.INPUT_TYPES()
        fields = {**types.get("required", {}), **types.get("optional", {})}
        assert set(types.get("required", {})) <= set(node["inputs"]) <= set(fields)
        for field, value in node["inputs"].items():
            assert fits(fields[field], value), (field, value)
        validate = getattr(kind, "VALIDATE_INPUTS", None)
        if validate is not None:
            wanted = validate.__func__.__code__.co_varnames[1 : validate.__func__.__code__.co_argcount]
            given = {field: node["inputs"][field] for field in wanted if field in node["inputs"]}
            assert (
                validate(**{k: v for k, v in given.items() if not (isinstance(v, list) or is_file(v))})
                is True
            )


def is_file(value: Any) -> bool:
    """Whether a value is a file, which the reader has or puts in its place."""
    return isinstance(value, str) and value.endswith((".safetensors", ".pth", ".png"))


def fits(field: Any, value: Any) -> bool:
    kind, told = field
    if isinstance(value, list):  # a link
        return isinstance(kind, str) and kind not in ("INT", "FLOAT", "STRING", "BOOLEAN")
    if isinstance(kind, list):
        return value in kind or is_file(value)
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    if kind in ("INT", "FLOAT"):
        return told["min"] <= value <= told["max"]
    return kind == "STRING" and isinstance(value, str)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_and_the_picture_have_the_same_workflow(name: str) -> None:
    workflow, prompt = read(f"{name}.json"), read(f"{name}.api.json")
    assert sorted(node["type"] for node in workflow["nodes"]) == sorted(
        n["class_type"] for n in prompt.values()
    )
    with Image.open(FOLDER / f"{name}.png") as picture:
        assert json.loads(picture.info["workflow"]) == workflow
        assert json.loads(picture.info["prompt"]) == prompt
