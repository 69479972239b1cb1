"""The noise levels a loaded model was trained on."""

from __future__ import annotations

from ..samplers.levels import NoiseLevels
from .model import ModelInfo


def levels_of(info: ModelInfo) -> NoiseLevels:
    """Rectified flow, EDM, or the discrete levels that SD1, SD2 and SDXL share (zero terminal SNR where trained so)."""
    if info.prediction == "flow":
        return NoiseLevels.flow(info.shift or 1.0)
    if info.prediction == "edm" or info.sigma_max is not None:
        # EDM proper scales its data to deviation 0.5 (Playground v2.5); v on EDM's levels (CosXL) to 1
        data = 0.5 if info.prediction == "edm" else 1.0
        return NoiseLevels.edm(info.sigma_min or 0.002, info.sigma_max or 80.0, data)
    return NoiseLevels.discrete(zero_snr=info.zero_snr)
