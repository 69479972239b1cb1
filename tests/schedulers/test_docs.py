"""docs/schedulers.md: its code runs, its table is that of the classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import sigmagraft
from sigmagraft import schedulers

from .peers import CLASSES

TEXT = (Path(sigmagraft.__file__).parent / "docs/schedulers.md").read_text(encoding="utf-8")
TABLE = dict(re.findall(r"^\| `(\w+Scheduler)` \| (.*) \|$", TEXT, re.MULTILINE))


def test_the_code_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"folder": tmp_path, "network": lambda x, t: 0.1 * x}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, names)
    assert torch.isfinite(names["x"]).all()
    assert names["other"].config.timestep_spacing == "trailing"
    assert "DDIMScheduler" in capsys.readouterr().out


def test_every_class_is_in_the_table() -> None:
    assert sorted(TABLE) == CLASSES


@pytest.mark.parametrize("name", CLASSES)
def test_its_sampler_is_the_one_named_first(name: str) -> None:
    scheduler = getattr(schedulers, name)()
    scheduler.set_timesteps(4)
    assert TABLE[name].startswith(f"`{scheduler._plan.spec.name}`")


def test_the_files_it_names_exist() -> None:
    root = Path(sigmagraft.__file__).parent
    named = re.findall(r"`(tests/[\w/]+\.py)`", TEXT)
    assert len(named) >= 2
    assert all((root / file).exists() for file in named)
