"""The command line in this process, on a tiny model, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sigmagraft.standalone import cli
from sigmagraft.standalone.cli import generate
from sigmagraft.standalone.pipeline import Pipeline, Result

from ..small import small_model

PREFIXES = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.")


@dataclass
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str


@dataclass
class Loaded:
    """A tiny pipeline in the place of a loaded one; keeps what it was asked."""

    pipe: Pipeline
    options: dict[str, Any] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)
    before: Callable[[int], None] = lambda number: None

    def load(self, **options: Any) -> Loaded:
        self.options = options
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)

    def __call__(self, prompt: list[str], **settings: Any) -> Result:
        self.before(len(self.calls))
        self.calls.append({"prompt": prompt, **settings})
        return self.pipe(prompt, **settings)


@pytest.fixture(scope="session")
def tiny() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a single file; one of its metadata values tries to colour the terminal."""
    model = small_model()
    tensors: dict[str, torch.Tensor] = {}
    for prefix, network in zip(PREFIXES, (model.unet, model.vae, model.texts[0]), strict=True):
        tensors |= {prefix + name: value for name, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_file(tensors, path, metadata={"modelspec.resolution": "64x64", "note": "\x1b[31mred"})
    return path


@pytest.fixture
def loaded(tiny: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Commands get the tiny model whatever --model says."""
    made = Loaded(tiny)
    monkeypatch.setattr(generate, "load_pipeline", made.load)
    return made


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run `sigmagraft ...` with the current folder in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> Answer:
        capfd.readouterr()
        code = cli.main([str(word) for word in words])
        return Answer(code, *capfd.readouterr())

    return command


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A 64x64 picture, left red, right blue."""
    image = Image.new("RGB", (64, 64), "red")
    image.paste("blue", (32, 0, 64, 64))
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A 64x64 mask, the right half to be repainted."""
    image = Image.new("L", (64, 64), 0)
    image.paste(255, (32, 0, 64, 64))
    image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"
