"""UniPC beyond diffusers: finite at every order, exact on polynomials, edits between steps are kept."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, Stepper, drive, schedule

NAMES = ("uni_pc", "uni_pc_bh2")


@pytest.mark.parametrize("predict", ["x0", "eps"])
@pytest.mark.parametrize("name", NAMES)
def test_finite_at_every_order(levels: NoiseLevels, mixture, name: str, predict: str) -> None:
    """From the first level (alpha 0 on flow) to sigma 0, in fewer steps than the order and in more."""
    for order in range(1, 7):
        for steps in (1, 2, 3, 5, 12):
            for final in ("zero", "always", "never"):
                sigmas = schedule("karras", steps, levels)
                x = torch.full((1, 6), sigmas[0])
                options = {"order": order, "predict": predict, "lower_order_final": final}
                assert drive(name, mixture, x, sigmas, levels=levels, options=options).isfinite().all()


def test_the_two_rules_are_one_from_three_places_on(levels: NoiseLevels, mixture) -> None:
    """B(h) cancels out of the equations of UniPC: all that bh1 and bh2 have different is how they start."""
    sigmas = schedule("karras", 30, levels)[4:20]
    start = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    # two steps so short that their slopes' weights do not show
    sigmas = [sigmas[0] * (1 + 2e-7), sigmas[0] * (1 + 1e-7), *sigmas]

    def end(name: str, order: int) -> torch.Tensor:
        return drive(name, mixture, start, sigmas, levels=levels, options={"order": order})

    torch.testing.assert_close(end("uni_pc", 3), end("uni_pc_bh2", 3), rtol=1e-5, atol=1e-5)
    assert (end("uni_pc", 2) - end("uni_pc_bh2", 2)).abs().max() > 1e-3


def test_corrector_options(levels: NoiseLevels, mixture) -> None:
    sigmas = schedule("karras", 9, levels)[:-1]
    x = torch.full((1, 6), sigmas[0], dtype=torch.float64)

    def end(**options) -> torch.Tensor:
        return drive("uni_pc", mixture, x, sigmas, levels=levels, options=options)

    assert torch.equal(end(corrector="off"), end(disable_corrector=1000))
    assert not torch.allclose(end(corrector="off"), end())
    assert not torch.allclose(end(disable_corrector=1), end())
    # the evaluation at the end is never made, so what it would correct stays as predicted
    assert torch.equal(end(disable_corrector=7), end(corrector="off"))


@pytest.mark.parametrize("name", [*NAMES, "sa_ode"])
def test_an_edit_between_steps_is_kept(levels: NoiseLevels, name: str) -> None:
    """It is carried on like any other part of x, which diffusers' corrector replaces by its own."""
    sigmas = schedule("karras", 9, levels)[1:-1]

    def denoise(sigma: float) -> torch.Tensor:
        return torch.full((1, 6), 0.3 + 0.1 * sigma, dtype=torch.float64)

    ends = []
    for edit in (0.0, 0.25):
        stepper = Stepper(name, sigmas, levels=levels)
        sample = stepper.begin(torch.ones(1, 6, dtype=torch.float64))
        for index, (t, sigma) in enumerate(zip(stepper.timesteps, stepper.evaluated, strict=True)):
            sample = sample + edit if index == 4 else sample
            sample = stepper.step(denoise(sigma), t, sample)
        ends.append(sample)
    carried = 0.25 * sigmas[-1] / sigmas[4]
    torch.testing.assert_close(ends[1] - ends[0], torch.full_like(ends[0], carried), rtol=1e-9, atol=1e-12)
