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

    def sde(self, sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
        """(decay, gain, std): x_next = decay * x + gain * denoised + std * noise, h the step in lambda.

        decay = sigma_next / sigma exp(-eta h), gain = alpha_next (1 - exp(-(1 + eta) h)) and
        std = sigma_next sqrt(1 - exp(-2 eta h)): the diffusion SDE solved exactly while denoised is constant
        (arXiv:2211.01095 eq. 14 has eta 1); `exact` at eta 0.
        """
        fall = self._fall(sigma, sigma_next)  # exp(-h), which is 0 where h is infinite
        spread = math.sqrt(1 - fall ** (2 * eta)) if eta else 0.0
        decay = sigma_next / sigma * fall**eta
        return decay, self.alpha(sigma_next) - self.alpha(sigma) * decay, sigma_next * spread

    def posterior(self, sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
        """(decay, gain, std) of the DDIM step (arXiv:2010.02502 eq. 12 and 16); `exact` at eta 0.

        std = eta sigma_next sqrt(1 - exp(-2 h)), at most sigma_next; eta 1 is the DDPM posterior.
        """
        fall = self._fall(sigma, sigma_next)
        std = min(eta * math.sqrt(max(1 - fall**2, 0.0)), 1.0) * sigma_next
        decay = math.sqrt(sigma_next**2 - std**2) / sigma
        return decay, self.alpha(sigma_next) - self.alpha(sigma) * decay, std

    def _fall(self, sigma: float, sigma_next: float) -> float:
        return sigma_next * self.alpha(sigma) / (sigma * self.alpha(sigma_next))

    def between(self, sigma: float, sigma_next: float, fraction: float) -> float:
        """The level at this fraction of the way in lambda; from where alpha is 0, of the way in sigma."""
        first, last = self.half_log_snr(sigma), self.half_log_snr(sigma_next)
        if math.isinf(first):
            return sigma + fraction * (sigma_next - sigma)
        return self.sigma_of(first + fraction * (last - first))

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
        decay, _, _ = self.posterior(sigma, sigma_next, eta)
        return decay * sigma if eta else sigma_next

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
