"""Loops as people write them: again, from the middle, alone, out of order, edited, in half precision, on any device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft import schedulers
from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import NonFiniteError

from .peers import CLASSES, SD, SHAPE, Pair, apart, walk

pytestmark = pytest.mark.filterwarnings("ignore")
every = pytest.mark.parametrize("name", CLASSES)
ALONE = [name for name in CLASSES if getattr(schedulers, name).row.alone]
CHAINED = [name for name in CLASSES if name not in ALONE]
TAMER = {"clip_sample": False, "skip_prk_steps": True}


def make(name: str, **config: Any) -> Any:
    known = getattr(schedulers, name).row.defaults
    return getattr(schedulers, name)(**{k: v for k, v in {**SD, **TAMER, **config}.items() if k in known})


def pair_of(name: str, steps: int, **config: Any) -> Pair:
    known = getattr(schedulers, name).row.defaults
    return Pair(name, {k: v for k, v in {**SD, **TAMER, **config}.items() if k in known}, steps)


def model(scaled: Tensor) -> Tensor:
    return 0.3 * scaled + 0.1


def loop(scheduler: Any, x: Tensor, begin: int = 0, **further: Any) -> Tensor:
    if "noise_sampler_seed" in scheduler.config:
        draws = torch.Generator().manual_seed(6)
        scheduler.noise_sampler = lambda a, b: torch.randn(x.shape, generator=draws)
    if "generator" in scheduler.row.step:
        further.setdefault("generator", torch.Generator().manual_seed(5))
    for t in scheduler.timesteps[begin:]:
        x = scheduler.step(model(scheduler.scale_model_input(x, t)), t, x, **further).prev_sample
    return x


@every
def test_the_loop_again(name: str) -> None:
    """A second loop begins at the first timestep, with a fresh history; so does one after a loop that was left."""
    scheduler, x = make(name), torch.randn(SHAPE)
    scheduler.set_timesteps(6)
    first = loop(scheduler, x)
    assert torch.equal(loop(scheduler, x), first)
    for t in scheduler.timesteps[:3]:
        scheduler.step(model(scheduler.scale_model_input(x, t)), t, x)
    assert torch.equal(loop(scheduler, x), first)
    assert scheduler.step_index is None


@every
def test_nothing_given_is_written_to(name: str) -> None:
    scheduler, x = make(name), torch.randn(SHAPE)
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        output, kept = model(scheduler.scale_model_input(x, t)), x.clone()
        said = output.clone()
        before = x
        x = scheduler.step(output, t, x).prev_sample
        assert torch.equal(before, kept)
        assert torch.equal(output, said)


# PNDM begins in the middle with its doubled evaluation left out of the timesteps, LMS with an order it has no slopes
# for, the singlestep class in the middle of a step, TCD and LCM with noise counted to another number of steps
THEIRS_BEGIN_WRONG = (
    "PNDM",
    "LMS",
    "DPMSolverSingle",
    "TCD",
    "LCM",
    "IPNDM",
    "CM",
    "DDIMInverse",
    "DPMSolverMultistepInverse",
)


@every
@pytest.mark.parametrize("how", ["first timestep", "begin index"])
def test_from_the_middle(name: str, how: str) -> None:
    """img2img: the loop over timesteps[k:], equal to diffusers' where it begins rightly."""
    pair = pair_of(name, 8)
    ends = []
    for scheduler in (pair.ours, pair.theirs):
        begin, x = 3 * scheduler.order, torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
        if how == "begin index" and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        if scheduler is pair.theirs and name.startswith(THEIRS_BEGIN_WRONG):
            return
        further = {"generator": torch.Generator().manual_seed(5)} if "generator" in pair.ours.row.step else {}
        if "noise_sampler_seed" in scheduler.config:
            draws = torch.Generator().manual_seed(6)
            scheduler.noise_sampler = lambda a, b, draws=draws: torch.randn(SHAPE, generator=draws)
        for t in scheduler.timesteps[begin:]:
            scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            x = scheduler.step(model(scaled), t, x, **further).prev_sample
        assert x.isfinite().all()
        ends.append(x)
    assert (ends[0] - ends[1]).norm() < 1e-4 * ends[1].norm()


@pytest.mark.parametrize("begin", [1, 2, 3, 5])
def test_plms_from_the_middle_ends_where_the_timesteps_do(begin: int) -> None:
    """With a model whose noise is constant every step is exact, so the end tells which steps were taken."""
    scheduler = make("PNDMScheduler")
    scheduler.set_timesteps(6)
    ratios = scheduler.sigmas.tolist()
    noise, start = torch.randn(SHAPE), torch.randn(SHAPE)
    x = start
    for t in scheduler.timesteps[begin:]:
        x = scheduler.step(noise, t, x).prev_sample
    # in coordinates where noise explodes the sample moves by the noise times the change of the ratio
    first, last = ((1 + ratios[at] ** 2) ** 0.5 for at in (begin, -1))
    torch.testing.assert_close(
        x * last, start * first + (ratios[-1] - ratios[begin]) * noise, rtol=1e-3, atol=1e-3
    )


def test_a_runge_kutta_start_cannot_be_entered_in_the_middle() -> None:
    scheduler = make("PNDMScheduler", skip_prk_steps=False)
    scheduler.set_timesteps(8)
    x = torch.randn(SHAPE)
    with pytest.raises(OptionError, match="skip_prk_steps"):
        scheduler.step(x, scheduler.timesteps[4], x)
    x = scheduler.step(x, scheduler.timesteps[13], x).prev_sample
    assert x.isfinite().all()


@pytest.mark.parametrize("name", ALONE)
def test_steps_in_any_order(name: str) -> None:
    """A method without memory takes any step at any time, equal to that step in its place."""
    scheduler = make(name)
    scheduler.set_timesteps(6)
    if "noise_sampler_seed" in scheduler.config:
        scheduler.noise_sampler = lambda a, b: torch.ones(SHAPE)
    order = scheduler.order
    given = {"variance_noise": torch.ones(SHAPE)} if "variance_noise" in scheduler.row.step else {}
    if "generator" in scheduler.row.step and not given:
        given = {"generator": torch.Generator()}

    def step(number: int, x: Tensor) -> Tensor:
        if "generator" in given:
            given["generator"].manual_seed(number)
        for t in scheduler.timesteps[number * order : number * order + order]:
            x = scheduler.step(model(x), t, x, **given).prev_sample
        return x

    samples = [torch.randn(SHAPE) for _ in range(5)]
    once = [step(number, x) for number, x in enumerate(samples)]
    for number in (3, 0, 4, 4, 1, 2):
        assert torch.equal(step(number, samples[number]), once[number])


@pytest.mark.parametrize("name", CHAINED)
def test_a_method_with_memory_refuses_to_jump(name: str) -> None:
    scheduler, x = make(name), torch.randn(SHAPE)
    scheduler.set_timesteps(8)
    scheduler.step(x, scheduler.timesteps[0], x)
    with pytest.raises(OptionError, match="out of turn"):
        scheduler.step(x, scheduler.timesteps[5], x)


def test_one_step_right_after_making_one() -> None:
    """H40: no set_timesteps; each of 1,000 training timesteps leads to the one below."""
    pair = Pair("DDPMScheduler", {}, 10)
    ours, theirs = schedulers.DDPMScheduler(), type(pair.theirs)()
    residual, noisy = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 16, 16)
    for t in (2, 999, 0, 500):
        a, b = (
            s.step(
                model_output=residual, timestep=t, sample=noisy, generator=torch.Generator().manual_seed(0)
            )
            for s in (ours, theirs)
        )
        torch.testing.assert_close(a.prev_sample, b.prev_sample, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.pred_original_sample, b.pred_original_sample, rtol=1e-4, atol=1e-5)


def test_a_class_that_needs_set_timesteps_says_so() -> None:
    x = torch.randn(SHAPE)
    with pytest.raises(OptionError, match="call set_timesteps"):
        make("DPMSolverMultistepScheduler").step(x, 999, x)


@every
def test_timesteps_are_known_however_they_come(name: str) -> None:
    """Entries, copies, numbers, slices, batches."""
    scheduler, x = make(name), torch.randn(SHAPE)
    scheduler.set_timesteps(5)
    expected = loop(scheduler, x)
    # a timestep that comes twice in a row is told apart by its turn
    ways = [lambda t: t.clone(), float, lambda t: t.reshape(1), lambda t: t.clone().expand(2)]
    if scheduler.row.whole:
        ways.append(int)
    for way in ways:
        again, generator = x, torch.Generator().manual_seed(5)
        if "noise_sampler_seed" in scheduler.config:
            draws = torch.Generator().manual_seed(6)
            scheduler.noise_sampler = lambda a, b, draws=draws: torch.randn(SHAPE, generator=draws)
        further = {"generator": generator} if "generator" in scheduler.row.step else {}
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(again, way(t))
            again = scheduler.step(model(scaled), way(t), again, **further).prev_sample
        assert torch.equal(again, expected)
    with pytest.raises(OptionError, match="none of the"):
        scheduler.step(x, -12345, x)


@every
def test_nothing_is_read_from_the_device(name: str) -> None:
    """On the meta device, where a value cannot be had, whole loops run, from both ends of training too."""
    scheduler = make(name, thresholding=True)
    scheduler.set_timesteps(5, device="meta")
    assert scheduler.timesteps.device.type == "meta"
    if "noise_sampler_seed" in scheduler.config:
        scheduler.noise_sampler = lambda a, b: torch.empty(SHAPE, device="meta")
    x = torch.empty(SHAPE, device="meta")
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t)), t, x).prev_sample
    assert x.shape == SHAPE
    assert scheduler.add_noise(x, x, scheduler.timesteps[:2]).shape == SHAPE


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_sample_is_kept(name: str, dtype: torch.dtype) -> None:
    """Computed in float32, so a loop in half precision differs by the rounding of samples and outputs alone."""
    scheduler = make(name)
    scheduler.set_timesteps(4)
    plain = "generator" not in scheduler.row.step and "noise_sampler_seed" not in scheduler.config
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)) * min(scheduler.init_noise_sigma, 10.0)
    out = scheduler.step(x.to(dtype), scheduler.timesteps[0], x.to(dtype))
    assert out.prev_sample.dtype == out.pred_original_sample.dtype == dtype
    if plain:
        half, full = loop(scheduler, x.to(dtype)), loop(scheduler, x)
        room = {torch.float16: 2e-2, torch.bfloat16: 0.15, torch.float64: 1e-3}[dtype]
        assert (half.float() - full).norm() < room * max(full.norm(), x.norm())


@pytest.mark.parametrize(
    "name", ["DPMSolverMultistep", "DEISMultistep", "LMSDiscrete", "DDIM", "HeunDiscrete"]
)
def test_edits_between_steps(name: str) -> None:
    """An edited sample is taken up as diffusers takes it up, in place or not."""
    ends = {}
    for which in ("ours", "theirs", "in place"):
        pair = pair_of(f"{name}Scheduler", 8)
        scheduler = pair.theirs if which == "theirs" else pair.ours
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
        for index, t in enumerate(scheduler.timesteps):
            x = scheduler.step(model(scheduler.scale_model_input(x, t)), t, x).prev_sample
            if index == 3:
                x = x.mul_(1.3) if which == "in place" else x * 1.3
        ends[which] = x
    assert (ends["ours"] - ends["theirs"]).norm() < 1e-4 * ends["theirs"].norm()
    assert torch.equal(ends["ours"], ends["in place"])


def test_unipc_keeps_an_edit() -> None:
    """What is added to a sample without noise grows as alpha; diffusers' corrector steps again from before the edit."""
    ends = []
    for scheduler in (pair := pair_of("UniPCMultistepScheduler", 8)).ours, pair.theirs:
        x = torch.zeros(SHAPE)
        for index, t in enumerate(scheduler.timesteps):
            x = scheduler.step(torch.zeros(SHAPE), t, x).prev_sample + float(index == 3)
        ends.append(x.mean().item())
    exact = (1 + pair.ours.sigmas[4].item() ** 2) ** 0.5
    assert abs(ends[0] - exact) < 0.5 < abs(ends[1] - exact)


def test_each_image_has_its_own_generator() -> None:
    """With a list of generators image k of a batch is what it is alone."""
    scheduler, x = make("EulerAncestralDiscreteScheduler"), torch.randn(3, 1, 2, 6)
    scheduler.set_timesteps(5)
    both = loop(scheduler, x, generator=[torch.Generator().manual_seed(seed) for seed in (7, 8, 9)])
    for number, seed in enumerate((7, 8, 9)):
        alone = loop(scheduler, x[number : number + 1], generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(both[number : number + 1], alone)
    with pytest.raises(OptionError, match="2 generators for a batch of 3"):
        loop(scheduler, x, generator=[torch.Generator(), torch.Generator()])


def test_noise_is_given_or_drawn() -> None:
    scheduler, x, noise = make("DDIMScheduler"), torch.randn(SHAPE), torch.randn(SHAPE)
    scheduler.set_timesteps(5)
    t = scheduler.timesteps[1]
    quiet, given = (scheduler.step(x, t, x, eta=eta, variance_noise=noise).prev_sample for eta in (0.0, 1.0))
    assert not torch.allclose(quiet, given)
    assert torch.equal(scheduler.step(x, t, x, eta=1.0, variance_noise=noise).prev_sample, given)
    with pytest.raises(OptionError, match="both generator= and variance_noise="):
        scheduler.step(x, t, x, eta=1.0, variance_noise=noise, generator=torch.Generator())


def test_brownian_noise_is_an_images_own() -> None:
    """The seed of the config; image 0 of a batch is what it is alone; without a seed, another each time."""
    scheduler = make("DPMSolverSDEScheduler", noise_sampler_seed=4)
    scheduler.set_timesteps(4)
    x = torch.randn(SHAPE)

    def run(x: Tensor) -> Tensor:
        for t in scheduler.timesteps:
            x = scheduler.step(model(scheduler.scale_model_input(x, t)), t, x).prev_sample
        return x

    both = run(x)
    assert torch.equal(run(x), both)
    torch.testing.assert_close(run(x[:1]), both[:1])
    scheduler = make("DPMSolverSDEScheduler")
    scheduler.set_timesteps(4)
    assert not torch.equal(run(x), run(x))


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_gradients(name: str) -> None:
    """Of the prediction of x0 for every class, of the sample for those without memory: diffusers' own."""
    grads = []
    for scheduler in (pair := pair_of(name, 8)).ours, pair.theirs:
        x = torch.ones(SHAPE, requires_grad=True)
        t = scheduler.timesteps[2]
        if name.startswith("DPM"):
            scheduler.set_begin_index(2)
        out = scheduler.step(torch.tanh(scheduler.scale_model_input(x, t)), t, x)
        target = out.prev_sample if name in ALONE else getattr(out, "pred_original_sample", None)
        if target is None:  # theirs does not give it
            alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[2])
            target = (x - sigma * torch.tanh(x)) / alpha
        target.square().sum().backward()
        grads.append(x.grad)
        if scheduler is pair.ours and name not in ALONE:
            assert not out.prev_sample.requires_grad
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "HeunDiscreteScheduler"])
def test_nan_names_the_step(name: str) -> None:
    scheduler, x = make(name), torch.randn(SHAPE)
    scheduler.set_timesteps(4)
    with pytest.raises(NonFiniteError, match="step 1 of 4"):
        scheduler.step(x * float("nan"), scheduler.timesteps[0], x)


def test_arguments_that_cannot_be_heeded() -> None:
    x = torch.randn(SHAPE)
    euler = make("EulerDiscreteScheduler")
    euler.set_timesteps(4)
    with pytest.raises(OptionError, match=r"s_churn=3\.0.*before the evaluation"):
        euler.step(x, euler.timesteps[0], x, s_churn=3.0)
    euler.step(x, euler.timesteps[0], x, s_noise=1.003)  # without churn it says nothing
    with pytest.raises(TypeError, match="unexpected"):
        euler.step(x, euler.timesteps[0], x, eta=1.0)
    lms = make("LMSDiscreteScheduler")
    lms.set_timesteps(4)
    lms.step(x, lms.timesteps[0], x, order=2)
    with pytest.raises(OptionError, match="order changed on the way"):
        lms.step(x, lms.timesteps[1], x, order=3)


def test_what_a_step_returns() -> None:
    scheduler, x = make("DDIMScheduler"), torch.randn(SHAPE)
    scheduler.set_timesteps(4)
    out = scheduler.step(x, scheduler.timesteps[0], x)
    assert out[0] is out["prev_sample"] is out.prev_sample is out.to_tuple()[0]
    assert out[1] is out.pred_original_sample
    previous, denoised = scheduler.step(x, scheduler.timesteps[0], x, return_dict=False)
    assert torch.equal(previous, out[0])
    assert torch.equal(denoised, out[1])
    (alone,) = pair_of("DPMSolverMultistepScheduler", 4).ours.step(x, 999, x, return_dict=False)
    assert alone.shape == SHAPE
    with pytest.raises(KeyError):
        out["nothing"]


def test_learned_variances() -> None:
    """Twice the channels: the noise is that of the predicted variance, learned or between the two fixed ones."""
    for kind in ("learned_range", "learned"):
        pair = pair_of("DDPMScheduler", 10, variance_type=kind)
        x, ends = torch.randn(SHAPE), []
        for scheduler in (pair.ours, pair.theirs):
            output = torch.cat([x, torch.rand(SHAPE, generator=torch.Generator().manual_seed(3)) * 0.1], 1)
            generator, t = torch.Generator().manual_seed(1), scheduler.timesteps[4]
            ends.append(scheduler.step(output, t, x, generator=generator).prev_sample)
        torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)
    with pytest.raises(OptionError, match="twice the sample's channels"):
        pair.ours.step(x, pair.ours.timesteps[4], x)


@pytest.mark.parametrize("kind", ["dpmsolver++", "sde-dpmsolver++"])
def test_a_solver_leaves_the_variance(kind: str) -> None:
    config = {"variance_type": "learned_range", "algorithm_type": kind}
    x, ends = torch.randn(1, 3, 2, 2), []
    for scheduler in (pair := pair_of("DPMSolverMultistepScheduler", 4, **config)).ours, pair.theirs:
        generator = torch.Generator().manual_seed(1)
        output = torch.cat([x, torch.full_like(x, 0.5)], 1)
        ends.append(scheduler.step(output, scheduler.timesteps[0], x, generator=generator).prev_sample)
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


@every
def test_more_steps_are_not_worse(name: str) -> None:
    """Loops of different lengths, one after the other on one object, do not disturb one another."""
    pair = pair_of(name, 6)
    expected = walk(pair, pair.ours)
    pair.ours.set_timesteps(9)
    pair.ours.step(torch.ones(SHAPE), pair.ours.timesteps[0], torch.ones(SHAPE))
    pair.ours.set_timesteps(6)
    if "noise_sampler_seed" in pair.ours.config:
        return
    assert apart(walk(pair, pair.ours), expected) == 0.0
