"""Philox4x32-10 (Salmon et al. 2011) and the normal numbers CUDA's torch.randn makes of it, on the CPU.

cuRAND gives thread k of a launch the counter (call, 0, k, 0) under the seed as key, and torch.randn fills
element k from thread k while a tensor has no more elements than one launch has threads (one latent of Stable
Diffusion has fewer). The numbers follow CUDA's to float32 rounding of log and sin; equality of every bit is
not promised.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
STEP = 2.0**-32


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds on counters [4, n] of 32-bit words under a key of two such words: [4, n] uint32."""
    c0, c1, c2, c3 = counter.astype(np.uint64)
    k0, k1 = key
    for _ in range(ROUNDS):
        left, right = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = (right >> SHIFT) ^ c1 ^ np.uint64(k0), (left >> SHIFT) ^ c3 ^ np.uint64(k1)
        c1, c3 = right & MASK, left & MASK
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack((c0, c1, c2, c3)).astype(np.uint32)


def box_muller(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The normal number that cuRAND makes first of two 32-bit words, float32."""
    radius = np.sqrt(-2 * np.log(first.astype(np.float64) * STEP + STEP / 2))
    angle = (second.astype(np.float64) + 0.5) * (STEP * 2 * np.pi)
    return (radius * np.sin(angle)).astype(np.float32)


class PhiloxGenerator:
    """torch.Generator(device="cuda").manual_seed(seed), as far as `randn` goes."""

    def __init__(self, seed: int) -> None:
        self.key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
        self.calls = 0

    def randn(self, shape: tuple[int, ...]) -> np.ndarray:
        """What the next call of torch.randn(shape) gives, float32."""
        size = int(np.prod(shape))
        counter = np.zeros((4, size), dtype=np.uint32)
        counter[0] = self.calls
        counter[2] = np.arange(size, dtype=np.uint32)
        words = philox4x32(counter, self.key)
        self.calls += 1
        return box_muller(words[0], words[1]).reshape(shape)
