"""dpm_adaptive: of its order, as good as its tolerance, bounded, and read from the device once a step."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, NoiseLevels, NonFiniteError, Stepper, drive, schedule
from sigmagraft.samplers import dpm_adaptive as module
from sigmagraft.samplers.drive import Walk

SPEC = SAMPLERS["dpm_adaptive"]
SD = NoiseLevels.discrete()


def start(sigma: float, images: int = 3) -> torch.Tensor:
    return torch.randn(images, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * sigma


def ends(levels: NoiseLevels) -> tuple[float, float]:
    return (0.85, 0.15) if levels.is_flow else (4.0, 0.2)


class Counted:
    """A denoiser that notes the levels it is asked for."""

    def __init__(self, denoise) -> None:
        self.denoise, self.asked = denoise, list[float]()

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        self.asked.append(sigma)
        return self.denoise(x, sigma)


@pytest.mark.parametrize("order", [2, 3])
def test_error_falls_with_the_evaluations_at_its_order(levels: NoiseLevels, mixture, order: int) -> None:
    top, last = ends(levels)
    x = start(top)
    exact = drive("rk4_4s", mixture, x, [top * (last / top) ** (i / 200) for i in range(201)], levels=levels)
    errors, costs = [], []
    for rtol in (1e-4, 1e-5) if order == 2 else (1e-5, 1e-7):
        model = Counted(mixture)
        options = {"order": order, "rtol": rtol, "atol": 0.1 * rtol, "max_evaluations": 5000}
        end = drive(SPEC, model, x, [top, last], levels=levels, options=options)
        errors.append((end - exact).norm().item())
        costs.append(len(model.asked))
    assert -math.log(errors[1] / errors[0]) / math.log(costs[1] / costs[0]) == pytest.approx(order, abs=0.3)


def test_error_is_of_the_size_of_the_tolerance(levels: NoiseLevels, mixture) -> None:
    top, last = ends(levels)
    x = start(top)
    exact = drive("rk4_4s", mixture, x, [top * (last / top) ** (i / 200) for i in range(201)], levels=levels)
    for rtol in (0.05, 1e-3):
        end = drive(SPEC, mixture, x, [top, last], levels=levels, options={"rtol": rtol, "atol": rtol})
        assert (end - exact).abs().max() < 5 * rtol * exact.abs().max()


@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("control", [{}, {"pcoeff": 0.3, "icoeff": 0.8, "dcoeff": 0.1, "h_init": 0.5}])
def test_settings_equal_k_diffusion(k_diffusion, mixture, order: int, eta: float, control: dict) -> None:
    """Evaluations too, but for the first of a step that was refused, which ours does not make again."""
    levels = SD
    mixture.levels = levels
    sigmas = schedule("karras", 8, levels)[:-1]
    x, model = start(sigmas[0]), Counted(mixture)
    options = {"order": order, "eta": eta, "rtol": 0.02, "atol": 0.003, "accept_safety": 0.7, **control}
    torch.manual_seed(5)
    noise = lambda sigma, sigma_next: torch.randn_like(x)  # noqa: E731
    got = drive(SPEC, model, x, sigmas, levels=levels, noise=noise, options=options)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    try:
        expected, info = k_diffusion.sampling.sample_dpm_adaptive(
            lambda at, sigma: mixture(at, sigma[0].item()),
            x,
            sigmas[-1],
            sigmas[0],
            disable=True,
            return_info=True,
            noise_sampler=noise,
            **options,
        )
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    assert len(model.asked) == info["nfe"] - info["n_reject"]


class Reads(TorchDispatchMode):
    """Counts what is read from a device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "local_scalar_dense" in func.name()
        return func(*args, **(kwargs or {}))


def test_one_number_a_step_is_read_from_the_device(mixture, levels: NoiseLevels, monkeypatch) -> None:
    steps: list[float] = []

    def noted(*args) -> float:
        steps.append(distance(*args))
        return steps[-1]

    distance = module.distance
    monkeypatch.setattr(module, "distance", noted)
    top, last = ends(levels)
    run = SPEC.run([top, last], levels)
    with Reads() as reads:
        walk = Walk(SPEC, run, start(top))
        while walk.asked is not None:
            at, sigma = walk.asked
            counted = reads.count
            denoised = mixture(at, sigma)
            reads.count = counted
            walk.answer(denoised)
    assert reads.count == len(steps) > 3


def test_a_walk_that_does_not_converge_is_given_up(levels: NoiseLevels) -> None:
    generator = torch.Generator().manual_seed(0)

    def restless(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return 100 * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    model = Counted(restless)
    top, last = ends(levels)
    with pytest.raises(
        OptionError, match=r"dpm_adaptive: only at sigma .* after 200 evaluations; raise rtol"
    ):
        drive(SPEC, model, start(top), [top, last], levels=levels, options={"max_evaluations": 200})
    assert 197 <= len(model.asked) <= 200


def test_nan_ends_the_walk_though_no_watch_has_seen_it() -> None:
    """As on an accelerator, where what the model answered is looked at after the walk."""
    walk = Walk(SPEC, SPEC.run([4.0, 0.2], SD), start(4.0))
    for _ in range(2):
        walk.answer(walk.asked[0] * math.nan)
    with pytest.raises(NonFiniteError, match=r"dpm_adaptive, sigma 4"):
        walk.answer(walk.asked[0])


@pytest.mark.parametrize("x", [torch.empty(0), torch.ones(2, 3, device="meta")], ids=["empty", "meta"])
def test_a_latent_without_values_is_refused(x: torch.Tensor) -> None:
    with pytest.raises(OptionError, match="a latent with values"):
        drive(SPEC, lambda x, sigma: x, x, [4.0, 0.2], levels=SD)


def test_a_stepper_cannot_know_its_steps() -> None:
    with pytest.raises(OptionError, match="not a Stepper"):
        Stepper(SPEC, [4.0, 0.2], levels=SD)


def test_a_schedule_of_one_sigma_leads_to_the_models_smallest(levels: NoiseLevels, mixture) -> None:
    model = Counted(mixture)
    drive(SPEC, model, start(0.9), [0.9, 0.0], levels=levels)
    assert model.asked[-1] == levels.sigma_min
    assert len(model.asked) > 10


def test_from_alpha_0(make_mixture) -> None:
    levels = NoiseLevels.flow(shift=3.0)
    mixture, x = make_mixture(levels), start(1.0)
    exact = drive("rk4_4s", mixture, x, [1 - i / 400 for i in range(361)], levels=levels)
    end = drive(SPEC, mixture, x, [1.0, 0.1], levels=levels, options={"rtol": 1e-4, "atol": 1e-4})
    assert (end - exact).abs().max() < 2e-3


def test_an_image_alone_agrees_within_the_tolerance(levels: NoiseLevels, mixture) -> None:
    """Images share the steps of their batch, so this one method's are not bit-equal to those made alone."""
    top, last = ends(levels)
    x = start(top)
    options = {"rtol": 1e-3, "atol": 1e-3}
    batch = drive(SPEC, mixture, x, [top, last], levels=levels, options=options)
    for k in range(len(x)):
        alone = drive(SPEC, mixture, x[k : k + 1], [top, last], levels=levels, options=options)
        assert (alone[0] - batch[k]).abs().max() < 5e-3 * batch.abs().max()


def test_the_callback_follows_the_schedule(mixture, levels: NoiseLevels) -> None:
    sigmas = schedule("karras", 6, levels)
    told: list[dict] = []
    drive(SPEC, mixture, start(sigmas[0]), sigmas, levels=levels, callback=told.append)
    numbers = [state["i"] for state in told]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] == 5
    for state in told[:-1]:
        assert state["sigma"] >= state["sigma_hat"] > state["sigma_next"]
