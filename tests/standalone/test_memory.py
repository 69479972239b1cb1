"""Devices, dtypes and the noise levels of a model."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import NoiseLevels
from sigmagraft.standalone.levels import levels_of
from sigmagraft.standalone.memory import choose_device, choose_dtype, vae_dtype
from sigmagraft.standalone.model import ModelInfo
from sigmagraft.standalone.pipeline import Pipeline, StepState

from .small import small_model

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("name", ["cuda", "cuda:99", "mps", "gpu", "cpu0", "xla"])
def test_a_device_that_is_not_here_is_told_with_those_that_are(name: str) -> None:
    kind = name.split(":")[0]
    if name == kind and (kind == "cuda" and torch.cuda.is_available()):
        pytest.skip("this machine has one")
    if kind == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(OptionError, match=r"cpu|cuda:0 to"):
        choose_device(name)


def test_the_best_dtype_of_a_device() -> None:
    assert choose_dtype(None, torch.device("cpu")) == torch.float32
    assert choose_dtype(None, torch.device("cuda")) == torch.float16
    assert choose_dtype("bf16", torch.device("cpu")) == torch.bfloat16
    assert vae_dtype(torch.float16, torch.device("mps")) == torch.float32
    assert vae_dtype(torch.bfloat16, torch.device("cpu")) == torch.bfloat16


def test_an_unknown_dtype_is_told_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="float16"):
        choose_dtype("flaot16", torch.device("cpu"))


@pytest.mark.parametrize(
    ("info", "top"),
    [
        ({"prediction": "eps"}, 14.6146),
        ({"prediction": "v", "zero_snr": True}, 4518.76),
        ({"prediction": "flow", "shift": 3.0}, 1.0),
        ({"prediction": "edm", "sigma_max": 80.0}, 80.0),
        ({"prediction": "v", "sigma_max": 120.0, "sigma_min": 0.001}, 120.0),
    ],
)
def test_a_model_gets_the_levels_it_was_trained_on(info: dict, top: float) -> None:
    levels = levels_of(ModelInfo(family="sdxl", **info))
    assert isinstance(levels, NoiseLevels)
    assert levels.sigma_max == pytest.approx(top, rel=1e-4)
    if hasattr(levels, "sigma_data"):
        assert levels.sigma_data == (0.5 if info["prediction"] == "edm" else 1.0)


@CUDA
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_no_step_waits_for_the_device(sampler: str) -> None:
    model = small_model()
    for part in (model.unet, model.vae, *model.texts):
        part.to("cuda")
    model.device = torch.device("cuda")
    pipe = Pipeline(model)
    pipe("a", steps=2, seed=0, sampler=sampler)

    def watch(state: StepState) -> None:
        torch.cuda.set_sync_debug_mode("error" if state.index < state.steps - 1 else "default")

    try:
        pipe("a", steps=5, seed=0, sampler=sampler, callback=watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
