"""The family of docs/extending.md is read, bound and merged like any other."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sigmagraft.core.errors import FileError
from sigmagraft.loras import formats, spellings

from .small import Small, write

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
NAME = "lora_unet_input_blocks_3_0_in_layers_2"


def test_the_family_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    text = next(block for block in blocks if block.startswith("# loras/diagonal.py"))
    module = ModuleType("diagonal")
    monkeypatch.setitem(sys.modules, "diagonal", module)  # where a dataclass looks for its annotations
    code = compile(text.replace("from .", "from sigmagraft.loras."), "diagonal", "exec", dont_inherit=True)
    exec(code, vars(module))
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, module.FORMAT))
    monkeypatch.setitem(spellings.ENDINGS, "row_factors", "row_factors")
    small, factors = Small(), torch.randn(64)
    weight = small.parameters["unet.input_blocks.3.0.in_layers.2.weight"]
    expected = weight + 0.5 * weight * factors[:, None, None, None]
    tensors = {f"{NAME}.row_factors": factors, f"{NAME[:-2]}_0.diff": torch.zeros(32)}
    bound = small.load(write(tmp_path / "a.safetensors", tensors))
    assert bound.report.file.families == {"diagonal": 1, "full difference": 1}
    small.fuse(bound, 0.5)
    assert torch.allclose(weight, expected, atol=1e-6)
    with pytest.raises(FileError, match="made for 63 rows, this weight has 64"):
        small.load(write(tmp_path / "b.safetensors", {f"{NAME}.row_factors": factors[:63]}))
