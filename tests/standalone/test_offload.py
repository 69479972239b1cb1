"""The runner's networks come to the device as they run, and no weight is read before it came."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.core.errors import OptionError
from sigmagraft.standalone.cli import main
from sigmagraft.standalone.pipeline import Pipeline

from ..pipelines.test_offload import Waiting, order
from .small import small_model

DRAW = {"size": (64, 64), "steps": 3, "seed": 1, "cfg": 4.0}


@pytest.mark.parametrize("mode", ["model", "sequential"])
def test_the_order_of_moves(mode: str) -> None:
    expected = Pipeline(small_model())("a (red:1.2) cat", **DRAW).images[0]
    pipe = Pipeline(small_model())
    waiting, model = Waiting(), pipe.model
    waiting.empty([t for n in (model.unet, model.vae, *model.texts) for t in (*n.parameters(), *n.buffers())])
    pipe.offload_to(torch.device("cpu"), mode, waiting)
    found = pipe("a (red:1.2) cat", **DRAW).images[0]
    assert order(waiting.said) == ["text_encoder", "unet", "vae"]
    assert waiting._brought == {}
    away = np.asarray(found, dtype=int) - np.asarray(expected)
    assert abs(away).max() <= 1
    waiting.said.clear()
    picture = Image.new("RGB", (64, 64), "red")
    pipe("a cat", image=picture, strength=0.7, **DRAW)
    assert order(waiting.said) == ["vae", "text_encoder", "unet", "vae"]


def test_what_it_cannot_be_combined_with(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="compiled"):
        Pipeline.load(compile=True, offload="model")
    with pytest.raises(OptionError, match="sequential"):
        Pipeline.load(offload="sequentiel")
    assert main(["a cat", "--offload", "modl"]) == 2
    assert "model" in capsys.readouterr().err
