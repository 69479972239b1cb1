"""What a model predicts: every mark, every override, and heuristics that suggest but never decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sigmagraft.core.checkpoint import open_weights
from sigmagraft.core.entry import Entry
from sigmagraft.core.errors import OptionError
from sigmagraft.standalone.load import load_model
from sigmagraft.standalone.prediction import SD2_BIAS, SD2_THRESHOLD, Evidence, predict

from .files import same_weights, write_file, write_folder

MARK = torch.zeros(0)
MARKS: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {
    "v": ({"v_pred": MARK}, {"prediction": "v", "zero_snr": False}),
    "v with zero terminal SNR": ({"v_pred": MARK, "ztsnr": MARK}, {"prediction": "v", "zero_snr": True}),
    "noise with zero terminal SNR": ({"ztsnr": MARK}, {"prediction": "eps", "zero_snr": True}),
    "EDM": (
        {
            "edm_mean": torch.tensor([1.0, 2, 3, 4]).reshape(1, 4, 1, 1),
            "edm_std": torch.full((1, 4, 1, 1), 2.0),
        },
        {"prediction": "edm", "sigma_min": 0.002, "sigma_max": 80.0},
    ),
    "v on EDM's levels": (
        {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.01)},
        {"prediction": "v", "sigma_min": pytest.approx(0.01), "sigma_max": 120.0},
    ),
    "nothing": ({}, {"prediction": "eps", "zero_snr": False, "sigma_max": None, "shift": None}),
}


@pytest.mark.parametrize("case", MARKS)
def test_marks_in_the_file(tmp_path: Path, case: str) -> None:
    change, expected = MARKS[case]
    info = load_model(write_file(tmp_path / "a.safetensors", change)).info
    assert {name: getattr(info, name) for name in expected} == expected
    assert info.reasons


def test_edm_latents_have_their_own_mean_and_spread(tmp_path: Path) -> None:
    """(latent - mean) * 0.5 / std, channel by channel."""
    model = load_model(write_file(tmp_path / "a.safetensors", MARKS["EDM"][0]))
    latent = torch.randn(2, 4, 3, 3)
    seen = (latent - model.shift_factor) * model.scale_factor
    assert torch.allclose(seen[:, 2], (latent[:, 2] - 3) / 4)


METADATA = {
    "modelspec.prediction_type=v": "v",
    "modelspec.prediction_type=v_prediction": "v",
    "modelspec.prediction_type=epsilon": "eps",
    "modelspec.prediction_type=something new": "eps",
    "modelspec.architecture=stable-diffusion-v2-768-v": "v",
    "ss_v_parameterization=True": "v",
    "modelspec.prediction_type=rectified_flow": "flow",
}


@pytest.mark.parametrize("said", METADATA)
def test_metadata(tmp_path: Path, said: str) -> None:
    path = write_file(tmp_path / "a.safetensors", metadata=dict([said.split("=")]))
    assert load_model(path).info.prediction == METADATA[said]


SCHEDULERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}, {"prediction": "v"}),
    ({"_class_name": "PNDMScheduler"}, {"prediction": "eps"}),
    ({"_class_name": "X", "prediction_type": "sample"}, {"prediction": "x0"}),
    (
        {"_class_name": "X", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        {"prediction": "v", "zero_snr": True},
    ),
    ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, {"prediction": "flow", "shift": 3.0}),
    (
        {"_class_name": "EDMEulerScheduler", "sigma_max": 70.0},
        {"prediction": "edm", "sigma_min": 0.002, "sigma_max": 70.0},
    ),
    (
        {"_class_name": "UniPC", "prediction_type": "flow_prediction", "flow_shift": 2.0},
        {"prediction": "flow", "shift": 2.0},
    ),
]


@pytest.mark.parametrize(("config", "expected"), SCHEDULERS)
def test_scheduler_config_of_a_folder(
    tmp_path: Path, config: dict[str, Any], expected: dict[str, Any]
) -> None:
    model = load_model(write_folder(tmp_path / "folder", config))
    same_weights(model)
    assert {name: getattr(model.info, name) for name in expected} == expected


def test_a_sidecar_yaml(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors")
    path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    info = load_model(path).info
    assert info.prediction == "v"
    assert any("a.yaml" in reason for reason in info.reasons)


def sd2(tmp_path: Path, spread: float, task: str = "base", **more: Any) -> Any:
    bias = torch.tensor([spread, -spread] * 32)
    save_file({SD2_BIAS: bias}, tmp_path / "b.safetensors")
    entry: dict[str, Entry] = dict(open_weights(tmp_path / "b.safetensors"))
    return predict(Evidence("sd2", task, "a.safetensors", {}, more, {}, entry))


def test_sd2_is_told_by_the_spread_of_one_bias(tmp_path: Path) -> None:
    assert sd2(tmp_path, SD2_THRESHOLD * 1.05).kind == "v"
    assert sd2(tmp_path, SD2_THRESHOLD * 0.95).kind == "eps"
    assert sd2(tmp_path, 0.5, "inpaint").kind == "eps"
    assert sd2(tmp_path, 0.5, **{"modelspec.prediction_type": "epsilon"}).kind == "eps"


@pytest.mark.parametrize("asked", ["eps", "v", "x0", "flow"])
@pytest.mark.parametrize("case", MARKS)
def test_the_option_overrides_everything(tmp_path: Path, case: str, asked: str) -> None:
    info = load_model(
        write_file(tmp_path / "a.safetensors", MARKS[case][0]), prediction=asked, shift=2.5
    ).info
    assert info.prediction == asked
    assert info.shift == 2.5
    assert any("as asked for" in reason for reason in info.reasons)
    assert not any("suggestion" in reason for reason in info.reasons)
    if asked in ("eps", "flow", "x0") and case != "nothing":
        assert info.sigma_max is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("NoobAI-RectifiedFlow.safetensors", "flow"),
        ("my_rf_v3.safetensors", "flow"),
        ("nyaflow-xl.safetensors", "flow"),
        ("noobai_vpred_1.safetensors", "v"),
        ("surfing.safetensors", None),
        ("flower-mix.safetensors", None),
    ],
)
def test_a_telling_name_suggests_and_never_decides(tmp_path: Path, name: str, hint: str | None) -> None:
    info = load_model(write_file(tmp_path / name)).info
    assert info.prediction == "eps"
    suggestions = [reason for reason in info.reasons if reason.startswith("suggestion")]
    assert bool(suggestions) == bool(hint)
    if hint:
        assert f"--prediction {hint}" in suggestions[0]


@pytest.mark.parametrize(
    ("options", "words"), [({"prediction": "vv"}, "did you mean 'v'"), ({"shift": -1.0}, "above 0")]
)
def test_impossible_options(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        load_model(write_file(tmp_path / "a.safetensors"), **options)
