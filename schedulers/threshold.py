"""Predictions of x0 kept inside the range of the data."""

from __future__ import annotations

import torch
from torch import Tensor


def threshold(denoised: Tensor, ratio: float, most: float) -> Tensor:
    """Dynamic thresholding (arXiv:2205.11487 sec. 2.3): clamped to [-s, s] and divided by s, image by image.

    s is the `ratio` quantile of |denoised|, at least 1 and at most `most`.
    """
    flat = denoised.float().flatten(1).abs()
    s = torch.quantile(flat, ratio, dim=1).clamp(1.0, most).to(denoised.dtype)
    s = s.reshape(-1, *[1] * (denoised.ndim - 1))
    return torch.minimum(torch.maximum(denoised, -s), s) / s
