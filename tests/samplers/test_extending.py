"""The examples of docs/extending.md are true."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from sigmagraft.samplers import (
    NOISE_TYPES,
    SAMPLERS,
    SCHEDULES,
    ImageNoise,
    NoiseLevels,
    drive,
    k_diffusion_function,
    schedule,
    step_noise,
)

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def example(starts: str) -> str:
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {starts}")).replace(
        "from .", "from sigmagraft.samplers."
    )


@pytest.fixture(autouse=True)
def registries_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (SAMPLERS, SCHEDULES, NOISE_TYPES):
        monkeypatch.setattr(registry, "_specs", dict(registry._specs))
        monkeypatch.setattr(registry, "_owners", dict(registry._owners))


@pytest.mark.parametrize("name", ["midpoint", "two_point"])
def test_the_samplers_of_the_guide(levels: NoiseLevels, mixture, name: str) -> None:
    exec(compile(example(f"samplers/{name}.py"), name, "exec"), {})
    high, low = (0.85, 0.15) if levels.is_flow else (4.0, 0.2)
    x = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * high
    ends = [
        drive(name, mixture, x, [high + (low - high) * i / n for i in range(n + 1)], levels=levels)
        for n in (100, 200, 800)
    ]
    assert (ends[0] - ends[2]).norm() / (ends[1] - ends[2]).norm() == pytest.approx(4.0, rel=0.15)
    assert drive(name, mixture, x, schedule("normal", 4, levels), levels=levels).isfinite().all()
    assert k_diffusion_function(name).__name__ == f"sample_{name}"


def test_the_schedule_of_the_guide() -> None:
    names = {}
    exec("from sigmagraft.samplers import *\nfrom sigmagraft.samplers.betas import linspace", names)
    exec(compile(example("samplers/schedule_quadratic.py"), "quadratic", "exec"), names)
    levels = NoiseLevels.discrete()
    roots = [sigma**0.5 for sigma in schedule("quadratic", 9, levels)[:-1]]
    steps = [a - b for a, b in pairwise(roots)]
    assert steps == pytest.approx([steps[0]] * 8)


def test_the_noise_of_the_guide() -> None:
    exec(compile(example("samplers/noise_mixed.py"), "mixed", "exec"), {})
    images = ImageNoise([1], (4, 96, 96))
    noise = step_noise(SAMPLERS["euler_ancestral"], images, [], NoiseLevels.discrete(), "mixed:share=0.2")
    (drawn,) = noise(1.0, 0.5).flatten(2)
    alike = torch.corrcoef(drawn) - torch.eye(4)
    assert drawn.var().item() == pytest.approx(1.0, abs=0.05)
    assert alike.sum().item() / 12 == pytest.approx(0.2, abs=0.05)


def test_the_examples_left_no_trace() -> None:
    assert not {"midpoint", "two_point"} & set(SAMPLERS.names())
    assert "mixed" not in NOISE_TYPES
    assert "quadratic" not in SCHEDULES
