"""The kin on a host's denoised answers: the runner's numbers, for a network that predicts noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sigmagraft.guidance import GUIDANCES, Setting, read_guidances
from sigmagraft.hosts.guidance import Walk
from sigmagraft.standalone.conditioning import Conditioning
from sigmagraft.standalone.denoiser import Denoiser
from sigmagraft.standalone.guidance import guiding, open_kin
from sigmagraft.standalone.levels import levels_of
from sigmagraft.standalone.model import ModelInfo
from sigmagraft.standalone.prompt_course import always

from ..standalone.small import UNET, small_model

SIGMAS = [14.6, 3.0, 1.0, 0.3, 0.0]
# what needs patches of the network is compared inside the host
OUTPUTS = [spec.name for spec in GUIDANCES if spec.name not in ("sag", "freeu")]


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_same_numbers_as_in_the_runner(name: str) -> None:
    model, levels = small_model(), levels_of(ModelInfo(family="sd1"))
    draw = torch.Generator().manual_seed(1)
    sides = [Conditioning(torch.randn(1, 77, 64, generator=draw), branches=(b,)) for b in ("cond", "uncond")]  # type: ignore[arg-type]
    denoiser = Denoiser(model.unet, levels, "eps", torch.float32)
    chosen, setting = read_guidances([name]), Setting(UNET)
    walk = Walk.begin(chosen, SIGMAS, setting)
    ours = guiding(denoiser, always(*sides), 5.0, open_kin(chosen, setting), SIGMAS)

    def again(x: torch.Tensor, *, negative: bool = False, patches: Any = ()) -> torch.Tensor:
        return denoiser.denoised(denoiser.output(x, sigma, sides[negative], patches), x, sigma)

    with torch.no_grad():
        for sigma in SIGMAS[:-1]:
            x = torch.randn(1, 4, 8, 8, generator=draw) * sigma
            cond, uncond = (denoiser(x, sigma, side) for side in sides)
            found = walk.denoised(x, sigma, cond, uncond, 5.0, again)
            torch.testing.assert_close(found, ours(x, sigma), rtol=2e-3, atol=2e-3)
