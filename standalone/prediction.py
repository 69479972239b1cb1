"""What a model predicts (noise, v, the image, a flow) and on which noise levels, with the evidence for it.

Strongest first: what the caller says; marker tensors; the file's metadata; the folder's scheduler config; a sidecar
.yaml; SD2's statistic. A rectified-flow fine-tune carries no mark: a telling file name is passed on as a suggestion
and never decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.entry import Entry, Pages
from ..core.errors import OptionError, nearest

Kind = Literal["eps", "v", "x0", "flow", "edm"]
KINDS: tuple[Kind, ...] = ("eps", "v", "x0", "flow", "edm")
SPELLINGS: dict[str, Kind] = {
    "eps": "eps",
    "epsilon": "eps",
    "v": "v",
    "v_prediction": "v",
    "v-prediction": "v",
    "vpred": "v",
    "x0": "x0",
    "sample": "x0",
    "flow": "flow",
    "flow_prediction": "flow",
    "rectified_flow": "flow",
    "rectified-flow": "flow",
    "edm": "edm",
}
SD2_BIAS = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
SD2_THRESHOLD = 0.09  # spread of SD2_BIAS above which hosts take an SD2 model for v-prediction


@dataclass
class Prediction:
    """What the network's output means; `sigma_min`, `sigma_max` where it was trained on continuous (EDM) levels."""

    kind: Kind = "eps"
    zero_snr: bool = False
    shift: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """All that a source says about its prediction."""

    family: str
    task: str
    source: str
    markers: Mapping[str, Entry]
    metadata: Mapping[str, str]
    scheduler: Mapping[str, Any]
    unet: Mapping[str, Entry]
    latent_channels: int = 4


def predict(evidence: Evidence, prediction: str | None = None, shift: float | None = None) -> Prediction:
    """The prediction of a model; `prediction` and `shift` override what was found. OptionError for unknown names."""
    found = next((answer for rule in RULES if (answer := rule(evidence))), None)
    found = found or Prediction(reasons=["noise prediction: nothing says otherwise"])
    found.zero_snr = found.zero_snr or "ztsnr" in evidence.markers
    if prediction is not None:
        _override(found, prediction)
    if shift is not None:
        found.shift = _positive(shift)
        found.reasons.append(f"shift {found.shift:g}: as asked for")
    if prediction is None:
        found.reasons += _suggestions(evidence, found.kind)
    return found


def _override(found: Prediction, prediction: str) -> None:
    kind = SPELLINGS.get(prediction.lower())
    if kind is None:
        raise OptionError(
            f"unknown prediction {prediction!r}", "--prediction", todo=nearest(prediction, KINDS)
        )
    if kind != found.kind and kind not in ("edm", "v"):
        found.sigma_min = found.sigma_max = None
    if kind == "flow":
        found.zero_snr = False
    instead = "" if kind == found.kind else f" (the file suggests {found.kind})"
    found.kind = kind
    found.reasons.append(f"{kind} prediction: as asked for{instead}")


def _positive(shift: float) -> float:
    if not 0 < shift < 1e4:
        raise OptionError(f"shift {shift} cannot be", "--shift", expected="a number above 0, such as 3")
    return float(shift)


def _from_markers(evidence: Evidence) -> Prediction | None:
    marks = evidence.markers
    if "edm_mean" in marks and "edm_std" in marks:
        return Prediction("edm", False, None, 0.002, 80.0, ["EDM: tensors edm_mean and edm_std"])
    if "edm_vpred.sigma_max" in marks:
        low, high = (_number(marks.get(f"edm_vpred.sigma_{end}")) for end in ("min", "max"))
        return Prediction(
            "v", False, None, low or 0.002, high, ["v on EDM's levels: tensor edm_vpred.sigma_max"]
        )
    if "v_pred" in marks:
        return Prediction("v", reasons=["v-prediction: tensor v_pred"])
    return None


def _number(entry: Entry | None) -> float | None:
    return None if entry is None else float(Pages().tensor(entry).float().reshape(-1)[0])


def _from_metadata(evidence: Evidence) -> Prediction | None:
    said = evidence.metadata.get("modelspec.prediction_type", "").strip().lower()
    zero_snr = evidence.metadata.get("ss_zero_terminal_snr", "").lower() == "true"
    if said in SPELLINGS:
        kind = SPELLINGS[said]
        return Prediction(
            kind, zero_snr, reasons=[f"{kind} prediction: metadata modelspec.prediction_type {said!r}"]
        )
    if evidence.metadata.get("ss_v_parameterization", "").lower() == "true":
        return Prediction("v", zero_snr, reasons=["v-prediction: metadata ss_v_parameterization"])
    if evidence.metadata.get("modelspec.architecture", "").endswith("-768-v"):
        return Prediction("v", zero_snr, reasons=["v-prediction: metadata modelspec.architecture"])
    return None


def _from_scheduler(evidence: Evidence) -> Prediction | None:
    config = evidence.scheduler
    name, said = str(config.get("_class_name", "")), str(config.get("prediction_type", "epsilon"))
    if not config:
        return None
    if name.startswith("FlowMatch"):
        shift = config.get("shift")
        return Prediction("flow", False, shift, reasons=[f"rectified flow: the scheduler is {name}"])
    if name.startswith("EDM"):
        low, high = float(config.get("sigma_min", 0.002)), float(config.get("sigma_max", 80.0))
        kind: Kind = "v" if said == "v_prediction" else "edm"
        return Prediction(kind, False, None, low, high, [f"EDM: the scheduler is {name}"])
    kind = SPELLINGS.get(said, "eps")
    shift = config.get("flow_shift") if kind == "flow" else None
    zero_snr = bool(config.get("rescale_betas_zero_snr"))
    return Prediction(kind, zero_snr, shift, reasons=[f"{kind} prediction: scheduler config says {said}"])


def _from_sidecar(evidence: Evidence) -> Prediction | None:
    """A1111's convention: model.yaml beside model.ckpt, LDM's config with `parameterization: "v"`."""
    weights = Path(evidence.source)
    path = weights.with_suffix(".yaml") if weights.is_file() else None
    if path is None or not path.is_file() or path.stat().st_size > 1 << 20:
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    said = re.search(r"^\s*parameterization:\s*[\"']?(v|eps|x0)\b", text, re.MULTILINE)
    return Prediction(SPELLINGS[said[1]], reasons=[f"{said[1]} prediction: {path.name}"]) if said else None


def _from_statistic(evidence: Evidence) -> Prediction | None:
    """SD2's v-models differ from its noise models in one bias, whose spread is what ComfyUI and others go by."""
    if evidence.family != "sd2" or evidence.task != "base" or SD2_BIAS not in evidence.unet:
        return None
    spread = spread_of(Pages().tensor(evidence.unet[SD2_BIAS]))
    kind: Kind = "v" if spread > SD2_THRESHOLD else "eps"
    sign = ">" if kind == "v" else "<="
    return Prediction(
        kind, reasons=[f"{kind} prediction: spread of an SD2 bias {spread:.3f} {sign} {SD2_THRESHOLD}"]
    )


def spread_of(bias: Tensor) -> float:
    """Standard deviation over all elements."""
    return float(torch.std(bias.float(), correction=0))


RULES: tuple[Callable[[Evidence], Prediction | None], ...] = (
    _from_markers,
    _from_metadata,
    _from_scheduler,
    _from_sidecar,
    _from_statistic,
)
_HINTS: tuple[tuple[str, Kind], ...] = (
    (r"rectified|(?<![a-z])(rf|flow|nyaflow|bigasp.?v?2\.?5)(?![a-z])", "flow"),
    (r"v[-_ ]?pred|(?<![a-z])vp(?![a-z])", "v"),
)


def _suggestions(evidence: Evidence, kind: Kind) -> list[str]:
    """What a file's name and latent hint at; for a person to read."""
    name = Path(evidence.source).name.lower()
    hints = [other for pattern, other in _HINTS if re.search(pattern, name)]
    found = [f"suggestion: the name hints at {h} (try --prediction {h})" for h in hints if h != kind]
    if evidence.latent_channels > 4 and kind == "eps" and "flow" not in hints:
        channels = evidence.latent_channels
        found.append(
            f"suggestion: models on {channels}-channel latents are mostly flow (try --prediction flow)"
        )
    return found
