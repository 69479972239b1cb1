"""What a sigma means to a solver: alpha, half-log-SNR, the exact step, and how noise is put back.

x = alpha * x0 + sigma * noise. Variance exploding has alpha = 1; rectified flow has alpha = 1 - sigma. A
method written with these functions is valid for both. Python floats, so nothing waits for a device.
"""

from __future__ import annotations

import math


class Process:
    """Variance exploding, alpha = 1: the x of models of eps, v and x0, and of EDM (arXiv:2206.00364)."""

    is_flow = False

    def alpha(self, sigma: float) -> float:
        """The share of x0 in x."""
        return 1.0

    def half_log_snr(self, sigma: float) -> float:
        """lambda = log(alpha / sigma); inf at sigma 0, -inf where alpha is 0."""
        if sigma <= 0.0:
            return math.inf
        alpha = self.alpha(sigma)
        return math.log(alpha) - math.log(sigma) if alpha > 0.0 else -math.inf

    def sigma_of(self, half_log_snr: float) -> float:
        """Inverse of `half_log_snr`."""
        return math.exp(-half_log_snr)

    def exact(self, sigma: float, sigma_next: float) -> tuple[float, float]:
        """(decay, gain): x_next = decay * x + gain * denoised, exact while denoised is constant."""
        decay = sigma_next / sigma
        return decay, self.alpha(sigma_next) - self.alpha(sigma) * decay

    def renoise(self, sigma: float, sigma_up: float) -> tuple[float, float]:
        """(scale, std): scale * x + std * noise takes x from level sigma up to level sigma_up >= sigma."""
        if sigma_up == sigma:
            return 1.0, 0.0
        scale = self.alpha(sigma_up) / self.alpha(sigma)
        return scale, math.sqrt(max(sigma_up**2 - (scale * sigma) ** 2, 0.0))

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> float:
        """sigma_down: the level to step down to before `renoise(sigma_down, sigma_next)`.

        eta 0 adds no noise; eta 1 adds that of the DDPM posterior (k-diffusion's ancestral step).
        """
        up = min(sigma_next, self.posterior_std(sigma, sigma_next, eta))
        return math.sqrt(max(sigma_next**2 - up**2, 0.0)) if up else sigma_next

    def posterior_std(self, sigma: float, sigma_next: float, eta: float) -> float:
        """eta sigma_next sqrt(1 - exp(2 (lambda - lambda_next))), DDIM's noise (arXiv:2010.02502 eq. 16)."""
        if sigma_next == 0.0 or eta == 0.0:
            return 0.0
        ratio = sigma_next * self.alpha(sigma) / (sigma * self.alpha(sigma_next))
        return eta * sigma_next * math.sqrt(max(1 - ratio**2, 0.0))

    def churn(self, sigma: float, gamma: float) -> float:
        """The level of (1 + gamma) times the noise-to-signal ratio of sigma (arXiv:2206.00364 alg. 2)."""
        return sigma * (1 + gamma)


class RectifiedFlow(Process):
    """alpha = 1 - sigma, sigma from 0 to 1 (arXiv:2209.03003)."""

    is_flow = True

    def alpha(self, sigma: float) -> float:
        return 1.0 - sigma

    def sigma_of(self, half_log_snr: float) -> float:
        return 1 / (1 + math.exp(half_log_snr)) if half_log_snr < 700 else 0.0

    def renoise(self, sigma: float, sigma_up: float) -> tuple[float, float]:
        # at sigma 1 there is no signal left to outweigh
        return super().renoise(sigma, sigma_up) if sigma < 1.0 else (1.0, 0.0)

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> float:
        """sigma_next * (1 + eta (sigma_next / sigma - 1)), the rule that rectified-flow hosts share."""
        return sigma_next * max(1 + (sigma_next / sigma - 1) * eta, 0.0)

    def churn(self, sigma: float, gamma: float) -> float:
        return sigma * (1 + gamma) / (1 + sigma * gamma)
