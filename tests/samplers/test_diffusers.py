"""Equal to diffusers' schedulers: DDIM with and without noise, DPM++ 2M and Euler on rectified flow, spacings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigmagraft.samplers import NoiseLevels, Stepper, drive, schedule

diffusers = pytest.importorskip("diffusers")
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def networks(make_mixture, levels: NoiseLevels, prediction: str):
    """The known denoiser as a network of this prediction: output from (scaled input, timestep)."""
    denoise = make_mixture(levels)

    def network(scaled: torch.Tensor, t: float) -> torch.Tensor:
        sigma = levels.sigma(t)
        skip, out, c_in = levels.scalings(prediction, sigma)
        x = scaled / c_in
        return (denoise(x, sigma) - skip * x) / out

    return network


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    ("prediction", "theirs"), [("eps", "epsilon"), ("v", "v_prediction"), ("x0", "sample")]
)
@pytest.mark.parametrize("steps", [4, 20])
def test_ddim_is_diffusers_ddim(make_mixture, eta: float, prediction: str, theirs: str, steps: int) -> None:
    scheduler = diffusers.DDIMScheduler(
        **SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=theirs
    )
    scheduler.set_timesteps(steps)
    levels = NoiseLevels.discrete(scheduler.alphas_cumprod.double())
    network = networks(make_mixture, levels, prediction)
    times = scheduler.timesteps.tolist()
    noises = torch.randn(steps, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    start = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    expected = start
    for index, t in enumerate(scheduler.timesteps):
        output = network(expected, t.item())
        expected = scheduler.step(output, t, expected, eta=eta, variance_noise=noises[index]).prev_sample

    sigmas = [levels.sigma(t) for t in times] + [levels.sigma_min]
    queue = iter(noises)
    stepper = Stepper(
        "ddim",
        sigmas,
        levels=levels,
        prediction=prediction,
        options={"eta": eta},
        noise=lambda sigma, sigma_next: next(queue),
    )
    assert stepper.timesteps == pytest.approx(times, abs=1e-6)
    x = start / levels.scale_input(sigmas[0])
    for t in stepper.timesteps:
        x = stepper.step(network(stepper.scale(x, t), t), t, x)
    torch.testing.assert_close(x * levels.scale_input(sigmas[-1]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_dpmpp_2m_on_flow_is_diffusers_exact_one(make_mixture, steps: int, shift: float) -> None:
    """diffusers' multistep solver uses the exact half-log-SNR of rectified flow, as ours does."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double().tolist()
    levels = NoiseLevels.flow(shift)
    denoise = make_mixture(levels)
    start = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    expected = start
    for sigma, t in zip(sigmas, scheduler.timesteps, strict=False):
        velocity = (expected - denoise(expected, sigma)) / sigma
        expected = scheduler.step(velocity, t, expected).prev_sample
    got = drive("dpmpp_2m", denoise, start, sigmas, levels=levels)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_flow_ode_is_diffusers(make_mixture, name: str) -> None:
    classes = {"euler": "FlowMatchEulerDiscreteScheduler", "heun": "FlowMatchHeunDiscreteScheduler"}
    scheduler = getattr(diffusers, classes[name])(shift=3.0)
    scheduler.set_timesteps(8)
    levels = NoiseLevels.flow(3.0)
    denoise = make_mixture(levels)
    sigmas = list(dict.fromkeys(scheduler.sigmas.double().tolist()))
    start = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    expected = start
    for t in scheduler.timesteps:
        sigma = t.item() / 1000
        velocity = (expected - denoise(expected, sigma)) / sigma
        expected = scheduler.step(velocity, t, expected).prev_sample
    got = drive(name, denoise, start, sigmas, levels=levels)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "spacing", "steps"),
    [
        ("normal", "linspace", 10),
        ("normal", "linspace", 28),
        ("simple", "trailing", 10),
        ("simple", "trailing", 20),
    ]
    + [("ddim_uniform", "leading", n) for n in (4, 10, 30)],
)
def test_spacings_at_whole_timesteps(name: str, spacing: str, steps: int) -> None:
    """Where the timesteps are whole numbers, ours and diffusers' sigmas are those of the same timesteps."""
    scheduler = diffusers.EulerDiscreteScheduler(**SD, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(steps)
    ours = schedule(name, steps, NoiseLevels.discrete())
    assert ours == pytest.approx(scheduler.sigmas.tolist(), rel=1e-4)
    times = [NoiseLevels.discrete().timestep(sigma) for sigma in ours[:-1]]
    assert times == pytest.approx(scheduler.timesteps.tolist(), abs=1e-3)


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_discrete_tables(beta_schedule: str, zero_snr: bool) -> None:
    options = {**SD, "beta_schedule": beta_schedule, "rescale_betas_zero_snr": zero_snr}
    expected = diffusers.DDIMScheduler(**options).alphas_cumprod.double().numpy()
    levels = NoiseLevels.discrete(beta_schedule=beta_schedule, zero_snr=zero_snr)
    got = 1 / (1 + np.asarray(levels.sigmas) ** 2)
    np.testing.assert_allclose(got[:-1], expected[:-1], rtol=3e-4, atol=1e-6)
    assert got[-1] == pytest.approx(expected[-1], abs=1e-6)
    if zero_snr:
        assert expected[-1] == 0.0
        assert 4000 < levels.sigma_max < 5000
