"""`like`: the conventions of other systems, written out a second time here, on a tiny model.

Whole runs against the hosts themselves are in docs/parity.md; test_like_diffusers.py runs diffusers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, SamplerSpec
from sigmagraft.standalone.course import Course, course_of
from sigmagraft.standalone.encode import encode_prompts
from sigmagraft.standalone.like import LIKE
from sigmagraft.standalone.pipeline import Pipeline
from sigmagraft.standalone.request import Request

from .small import small_model

PROMPT, NEGATIVE, CFG, SEED, STEPS = "a (red:1.3) [circle]", "grey", 4.0, 5, 5
SHAPE = (4, 8, 8)
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
SIGMAS = ((1 - torch.cumprod(1 - BETAS, 0)) / torch.cumprod(1 - BETAS, 0)) ** 0.5
Denoise = Callable[[Tensor, float], Tensor]


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


def denoiser(pipe: Pipeline, emphasis: str, whole: bool) -> Denoise:
    """x0 under guidance, the network told the nearest timestep or the one between two."""
    cond, uncond = (
        encode_prompts(pipe.model, [text], emphasis=emphasis, negative=negative).context
        for text, negative in ((PROMPT, False), (NEGATIVE, True))
    )
    logs = SIGMAS.log()

    def timestep(sigma: float) -> float:
        place = float(torch.searchsorted(logs, torch.tensor(math.log(sigma), dtype=torch.float64)))
        low = min(max(int(place) - 1, 0), 998)
        between = low + float((math.log(sigma) - logs[low]) / (logs[low + 1] - logs[low]))
        return float(round(between)) if whole else min(max(between, 0.0), 999.0)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        scaled, told = x / math.hypot(sigma, 1.0), torch.full((len(x),), timestep(sigma))
        eps = [pipe.model.unet(scaled, told, context.expand(len(x), -1, -1)) for context in (cond, uncond)]
        return x - sigma * (eps[1] + CFG * (eps[0] - eps[1]))

    return denoise


def karras(low: float, high: float, n: int = STEPS) -> list[float]:
    ends = high ** (1 / 7), low ** (1 / 7)
    return [(ends[0] + i / (n - 1) * (ends[1] - ends[0])) ** 7 for i in range(n)] + [0.0]


def ancestral(denoise: Denoise, x: Tensor, sigmas: list[float], noise: Callable[[], Tensor]) -> Tensor:
    for sigma, after in itertools.pairwise(sigmas):
        denoised = denoise(x, sigma)
        up = min(after, math.sqrt(after**2 * (sigma**2 - after**2) / sigma**2))
        down = math.sqrt(after**2 - up**2)
        x = denoised + (x - denoised) * down / sigma
        x = x + up * noise() if after else x
    return x


def drawn(pipe: Pipeline, **asked: Any) -> Tensor:
    settings = {"steps": STEPS, "cfg": CFG, "negative": NEGATIVE, "size": (64, 64), "seed": SEED, **asked}
    with torch.no_grad():
        return pipe(PROMPT, **settings).latents


def apart(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


ENDS = float(SIGMAS[0]), float(SIGMAS[-1])


@torch.no_grad()
@pytest.mark.parametrize("ensd", [0, 31337])
@pytest.mark.parametrize("name", ["a1111", "forge", "reforge", "neo"])
def test_web_uis(name: str, ensd: int, pipe: Pipeline) -> None:
    """A generator an image, sigma noise at the start; ENSD starts others for the steps."""
    first = [torch.Generator().manual_seed(SEED + k) for k in range(2)]
    x = torch.stack([torch.randn(SHAPE, generator=each) for each in first])
    steps = [torch.Generator().manual_seed(SEED + k + ensd) for k in range(2)] if ensd else first
    sigmas = karras(*ENDS)
    expected = ancestral(
        denoiser(pipe, "a1111", whole=name != "a1111"),
        x * sigmas[0],
        sigmas,
        lambda: torch.stack([torch.randn(SHAPE, generator=each) for each in steps]),
    )
    asked = {"sampler": "euler_ancestral", "schedule": "karras", "batch": 2, "ensd": ensd}
    assert apart(drawn(pipe, like=name, **asked), expected) < 1e-5
    assert apart(drawn(pipe, like="comfyui", **asked), expected) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize(("name", "more"), [("comfyui", 1), ("comfyui-0.6", 0)])
def test_comfyui(name: str, more: int, pipe: Pipeline) -> None:
    """One generator for the batch, another for the steps, sqrt(1 + sigma^2) noise, whole timesteps."""
    start = torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(SEED))
    steps = torch.Generator().manual_seed(SEED + more)
    sigmas = karras(*ENDS)
    expected = ancestral(
        denoiser(pipe, "comfyui", whole=True),
        start * math.hypot(1.0, sigmas[0]),
        sigmas,
        lambda: torch.randn((2, *SHAPE), generator=steps),
    )
    asked = {"sampler": "euler_ancestral", "schedule": "karras", "batch": 2}
    assert apart(drawn(pipe, like=name, **asked), expected) < 1e-5


@torch.no_grad()
def test_ddim_of_a1111(pipe: Pipeline) -> None:
    """Timesteps 1, 1 + s, ...; each step is told the upper one; the latent stays of unit variance, at timestep 1."""
    denoise = denoiser(pipe, "a1111", whole=True)
    places = [place + 1 for place in range(0, 1000, 1000 // STEPS)]
    x = torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(SEED))
    kept = 1 / (1 + SIGMAS**2)
    for place, after in zip(places[:0:-1], places[-2::-1], strict=True):
        a, b, sigma = float(kept[place]), float(kept[after]), float(SIGMAS[place])
        denoised = denoise(x / math.sqrt(a), sigma)
        eps = (x - math.sqrt(a) * denoised) / math.sqrt(1 - a)
        x = math.sqrt(b) * denoised + math.sqrt(1 - b) * eps
    assert apart(drawn(pipe, like="a1111", sampler="ddim"), x) < 1e-5


@torch.no_grad()
def test_lcm_of_neo(pipe: Pipeline) -> None:
    """On the model's own levels and without a boundary condition: denoised + sigma noise, whole timesteps."""
    denoise = denoiser(pipe, "a1111", whole=True)
    generator = torch.Generator().manual_seed(SEED)

    def noise() -> Tensor:
        return torch.randn((1, *SHAPE), generator=generator)

    logs = SIGMAS.log()
    low = [int(999 * (STEPS - 1 - i) / (STEPS - 1)) for i in range(STEPS)]
    shares = [999 * (STEPS - 1 - i) / (STEPS - 1) - place for i, place in enumerate(low)]
    sigmas = [
        math.exp((1 - share) * logs[place] + share * logs[min(place + 1, 999)])
        for place, share in zip(low, shares, strict=True)
    ]
    x = noise() * sigmas[0]
    for sigma, after in itertools.pairwise([*sigmas, 0.0]):
        x = denoise(x, sigma)
        x = x + after * noise() if after else x
    assert apart(drawn(pipe, like="neo", sampler="lcm"), x) < 1e-5
    assert apart(drawn(pipe, like="forge", sampler="lcm"), x) > 1e-3


@pytest.mark.parametrize("sampler", ["uni_pc", "lms", "er_sde"])
def test_neo_walks_some_as_comfyui_does(sampler: str, pipe: Pipeline) -> None:
    """Its UniPC goes by sigmas, without the penultimate one and down to 0.001, from sigma noise as in a web UI."""
    (neo, _), (comfyui, _), (forge, _) = (
        course(pipe, like=name, sampler=sampler, schedule="karras", steps=STEPS)
        for name in ("neo", "comfyui", "forge")
    )
    assert neo.sigmas == comfyui.sigmas
    assert neo.options == comfyui.options
    assert neo.start[1] == neo.sigmas[0]
    assert comfyui.start[1] == math.hypot(1.0, comfyui.sigmas[0])
    assert (forge.sigmas, forge.options) != (neo.sigmas, neo.options)
    assert course(pipe, like="neo", sampler=sampler)[0].finish == 1.0


@pytest.mark.parametrize("name", list(LIKE))
def test_another_name_of_a_schedule_is_the_same_to_the_last_bit(name: str, pipe: Pipeline) -> None:
    """`uniform` is `normal`, in the single precision that decides half ways too."""
    named = [
        course(pipe, like=name, sampler="euler", schedule=schedule, steps=5)[0]
        for schedule in ("normal", "Normal", "uniform", "Uniform")
    ]
    assert {tuple(each.span) for each in named} == {tuple(named[0].span)}
    assert [each.told(each.sigmas[2]) for each in named] == [named[0].told(named[0].sigmas[2])] * len(named)


@pytest.mark.parametrize("name", ["a1111", "forge", "reforge"])
def test_lcm_on_50_timesteps(name: str, pipe: Pipeline) -> None:
    """Four steps over entries 49, 32.67, 16.33, 0 of every 20th level; A1111 alone tells an entry's own timestep."""
    made, spec = course(pipe, like=name, sampler="lcm", steps=4)
    for sigma, place in zip(made.sigmas, (49, 98 / 3, 49 / 3, 0), strict=False):
        low, share = int(place), place - int(place)
        entries = SIGMAS[19::20].log()
        log = (1 - share) * entries[low] + share * entries[min(low + 1, 49)]
        assert math.log(sigma) == pytest.approx(float(log), abs=1e-6)
        nearest = int((SIGMAS.log() - log).abs().argmin())
        assert made.told(sigma) == (20 * round(place) + 19 if name == "a1111" else nearest)
    scaling = spec.run(made.sigmas, made.levels, None, made.options).timestep_scaling
    assert scaling == (10.0 if name == "a1111" else math.inf)


def test_neo_has_the_beta_schedule_of_the_paper(pipe: Pipeline) -> None:
    """Quantiles of time as in ComfyUI; Forge's are of sigma."""
    walks = {
        name: course(pipe, like=name, sampler="euler", schedule="beta", steps=STEPS)[0].sigmas
        for name in ("neo", "reforge", "forge", "comfyui")
    }
    assert walks["reforge"] == walks["neo"]
    assert course(pipe, like="neo", sampler="euler", schedule="Beta", steps=STEPS)[0].sigmas == walks["neo"]
    assert walks["neo"] == walks["comfyui"] != walks["forge"]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "strength", "kept"),
    [("a1111", 0.5, 3), ("a1111", 1.0, 5), ("comfyui", 0.5, 5), ("diffusers", 0.5, 2)],
)
def test_strength(name: str, strength: float, kept: int, pipe: Pipeline) -> None:
    """A1111 takes int(strength n) + 1 of n steps, ComfyUI n of int(n / strength), diffusers int(strength n)."""
    seen: list[float] = []
    image = Image.new("RGB", (64, 64), "red")
    asked = {"image": image, "strength": strength, "callback": lambda state: seen.append(state.sigma)}
    drawn(pipe, like=name, sampler="euler", schedule="karras", **asked)
    assert len(seen) == kept
    whole = karras(*ENDS, int(STEPS / strength) if name == "comfyui" else STEPS)
    assert seen == pytest.approx(whole[-kept - 1 : -1], rel=1e-4)


def test_cfg_0(pipe: Pipeline) -> None:
    """The web UIs and ComfyUI draw the negative prompt, diffusers and we the prompt."""
    for name in LIKE:
        alone = drawn(pipe, like=name, sampler="euler", cfg=0.0)
        swapped = pipe(
            NEGATIVE, like=name, sampler="euler", cfg=1.0, size=(64, 64), steps=STEPS, seed=SEED
        ).latents
        assert (apart(alone, swapped) < 1e-5) == (name != "diffusers")


@pytest.mark.parametrize("name", list(LIKE))
def test_a_stochastic_walk_stopped_and_gone_on_with(name: str, pipe: Pipeline) -> None:
    from sigmagraft.samplers import Recording

    for sampler in ("dpmpp_sde", "euler_ancestral"):
        asked = {"like": name, "sampler": sampler, "steps": 4, "size": (64, 64), "seed": SEED}
        whole, recording = pipe(PROMPT, **asked), Recording()
        pipe(PROMPT, **asked, recording=recording, stop_at=2)
        assert torch.equal(pipe.resume(recording).latents, whole.latents)


def course(pipe: Pipeline, **asked: Any) -> tuple[Course, SamplerSpec]:
    request = Request.of(PROMPT, {"size": (64, 64), **asked})
    request.resolve(pipe.info, pipe.model.vae.factor)
    spec = SAMPLERS[str(request.sampler)]
    return course_of(request, spec, pipe.levels, pipe.model), spec


@pytest.mark.parametrize("name", list(LIKE))
def test_lists_of_ones_own_win(name: str, pipe: Pipeline) -> None:
    assert course(pipe, like=name, sampler="euler", sigmas=[10.0, 4.0, 1.0])[0].sigmas == [
        10.0,
        4.0,
        1.0,
        0.0,
    ]


@pytest.mark.parametrize("name", list(LIKE))
@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_every_sampler_has_a_course_it_can_walk(name: str, sampler: str, pipe: Pipeline) -> None:
    for steps in (4, 25):
        made, spec = course(pipe, like=name, sampler=sampler, steps=steps)
        assert spec.run(made.sigmas, made.levels, None, made.options).sigmas
        assert all(0.0 <= made.told(sigma) <= 999.0 for sigma in made.sigmas if sigma > 0.0)


def test_an_unknown_system(pipe: Pipeline) -> None:
    with pytest.raises(OptionError, match="did you mean 'a1111'"):
        pipe(PROMPT, like="a111")
