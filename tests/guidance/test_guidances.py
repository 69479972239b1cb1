"""Every guidance: its formula against diffusers or written out, several at once, any sampler, and bad words."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.core.patch import StepInfo
from sigmagraft.guidance import (
    GUIDANCES,
    Evaluation,
    Setting,
    combine,
    open_kin,
    read_guidance,
    read_guidances,
)
from sigmagraft.guidance.apply import acting
from sigmagraft.guidance.freeu import low_frequencies
from sigmagraft.guidance.sag import blurred
from sigmagraft.samplers import SAMPLERS
from sigmagraft.standalone.pipeline import Pipeline

from ..standalone.small import UNET, small_model

SIGMA, WEIGHT = 2.0, 5.0
ONE_OF_EACH = sorted(
    {s.method.__module__: s.name for s in reversed(list(SAMPLERS)) if not s.adaptive}.values()
)


def draw(seed: int) -> torch.Tensor:
    return torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


X, COND, UNCOND = draw(0) * 3, draw(1), draw(1) * 0.5 + draw(2)


def evaluation(cond=COND, uncond: torch.Tensor | None = UNCOND, step: float = 1, again=None) -> Evaluation:
    """Of a network that predicts noise: x0 = x - sigma answer."""
    return Evaluation(
        X, SIGMA, cond, uncond, WEIGHT, step, 4, 1.0,
        lambda answer, x: x - SIGMA * answer, lambda x0, x: (x - x0) / SIGMA, again,
    )  # fmt: skip


def applied(text: str, at: Evaluation | None = None) -> torch.Tensor:
    at = at or evaluation()
    kin = open_kin(read_guidances(text.split()), Setting(UNET))
    return combine(acting(kin, at.step, at.steps), at)


def guider(name: str, **options: object):  # type: ignore[no-untyped-def]
    guiders = pytest.importorskip("diffusers.guiders")
    made = getattr(guiders, name)(**options)
    made.set_state(step=1, num_inference_steps=4, timestep=torch.tensor(0))
    made._count_prepared = 9
    return made


@pytest.mark.parametrize("uncond", [UNCOND, None], ids=["guided", "alone"])
def test_without_kin_it_is_cfg(uncond: torch.Tensor | None) -> None:
    expected = COND if uncond is None else UNCOND + WEIGHT * (COND - UNCOND)
    torch.testing.assert_close(combine([], evaluation(uncond=uncond)), expected)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("rescale:share=0.6", "ClassifierFreeGuidance", {"guidance_rescale": 0.6}),
        ("cfg_zero:zero_steps=0", "ClassifierFreeZeroStarGuidance", {"zero_init_steps": 0}),
        ("cfg_zero:zero_steps=2", "ClassifierFreeZeroStarGuidance", {"zero_init_steps": 2}),
        (
            "cfg_zero:zero_steps=0 rescale:share=0.3",
            "ClassifierFreeZeroStarGuidance",
            {"zero_init_steps": 0, "guidance_rescale": 0.3},
        ),
    ],
)
def test_combinations_equal_diffusers_guiders(text: str, name: str, options: dict) -> None:
    theirs = guider(name, guidance_scale=WEIGHT, **options)
    torch.testing.assert_close(applied(text), theirs.forward(COND, UNCOND).pred, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("momentum", [0.0, -0.5])
@pytest.mark.parametrize("eta", [0.0, 1.0, 0.3])
def test_apg_equals_diffusers_guider(momentum: float, eta: float) -> None:
    """Its "original formulation" with a scale one lower is the paper's cond + (w - 1) pull."""
    theirs = guider(
        "AdaptiveProjectedGuidance",
        guidance_scale=WEIGHT - 1,
        adaptive_projected_guidance_momentum=momentum or None,
        adaptive_projected_guidance_rescale=2.5,
        eta=eta,
        use_original_formulation=True,
    )
    if momentum:
        theirs.momentum_buffer = pytest.importorskip(
            "diffusers.guiders.adaptive_projected_guidance"
        ).MomentumBuffer(momentum)
    kin = open_kin([read_guidance(f"apg:eta={eta},norm=2.5,momentum={momentum},space=output")], Setting())
    for seed in (5, 6, 7):
        at = evaluation(COND + draw(seed))
        expected = theirs.forward(at.cond, at.uncond).pred
        torch.testing.assert_close(combine(acting(kin, 1, 4), at), expected, rtol=1e-4, atol=1e-4)


def test_apg_in_denoised_space() -> None:
    """For a network that predicts noise the pull is -sigma times as long, and its direction is against x0."""
    at = evaluation()
    cond, uncond = at.x0(COND), at.x0(UNCOND)
    pull = cond - uncond
    unit = cond.flatten(1) / cond.flatten(1).norm(dim=1, keepdim=True)
    along = (pull.flatten(1) * unit).sum(1, keepdim=True) * unit
    expected = cond + (WEIGHT - 1) * (pull - along.view_as(pull))
    torch.testing.assert_close(at.x0(applied("apg:norm=0,momentum=0")), expected, rtol=1e-4, atol=1e-4)


def written_out(strong: torch.Tensor, weak: torch.Tensor, percentile: float) -> torch.Tensor:
    """One channel of one image at a time."""
    out = strong.clone()
    for image in range(len(strong)):
        for channel in range(strong.shape[1]):
            values, other = strong[image, channel].flatten(), weak[image, channel].flatten()
            mean = values.mean()
            limit = max((other - other.mean()).abs().max(), (values - mean).abs().quantile(percentile))
            kept = torch.minimum(torch.maximum(values - mean, -limit), limit)
            scaled = kept / limit * (other - other.mean()).abs().max() + mean
            out[image, channel] = scaled.view(8, 8)
    return out


@pytest.mark.parametrize("percentile", [1.0, 0.9])
def test_dynamic_thresholding(percentile: float) -> None:
    at = evaluation()
    strong, weak = (at.x0(torch.lerp(UNCOND, COND, weight)) for weight in (WEIGHT, 2.0))
    found = at.x0(applied(f"dynthres:mimic=2,percentile={percentile}"))
    torch.testing.assert_close(found, written_out(strong, weak, percentile), rtol=1e-4, atol=1e-4)
    if percentile < 1.0:
        return
    ranges = [(x - x.mean((2, 3), keepdim=True)).abs().amax((2, 3)) for x in (found, weak)]
    torch.testing.assert_close(*ranges, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif("SIGMAGRAFT_REFORGE" not in os.environ, reason="needs SIGMAGRAFT_REFORGE")
@pytest.mark.parametrize("measure", ["range", "deviation"])
def test_dynamic_thresholding_equals_the_extension(measure: str) -> None:
    folder = "extensions-builtin/sd_forge_dynamic_thresholding/lib_dynamic_thresholding/dynthres_core.py"
    spec = importlib.util.spec_from_file_location("core", Path(os.environ["SIGMAGRAFT_REFORGE"]) / folder)
    assert spec is not None
    assert spec.loader is not None
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    variability = {"range": "AD", "deviation": "STD"}[measure]
    theirs = core.DynThresh(
        2.0, 0.95, "Constant", 0, "Constant", 0, 0, 0, 999, True, "MEAN", variability, 0.8
    )
    theirs.step = 0  # what its caller sets; constant scales do not go by it
    at = evaluation()
    expected = theirs.dynthresh(at.x0(COND), at.x0(UNCOND), WEIGHT, None)
    found = at.x0(applied(f"dynthres:mimic=2,percentile=0.95,share=0.8,measure={measure}"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_blur_equals_torchvisions_formula() -> None:
    """The convolution with an outer product of Gaussians, pixel by pixel."""
    places = torch.arange(-4, 5).float()
    row = torch.exp(-places.square() / 2 / 1.5**2)
    kernel = torch.outer(row, row) / row.sum() ** 2
    padded = torch.nn.functional.pad(X, (4, 4, 4, 4), mode="reflect")
    windows = padded.unfold(2, 9, 1).unfold(3, 9, 1)
    torch.testing.assert_close(blurred(X, 1.5), (windows * kernel).sum((-1, -2)), rtol=1e-4, atol=1e-4)
    assert blurred(X[..., :2], 1.0).shape == X[..., :2].shape


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (1, 3)])
def test_low_frequencies_equal_diffusers(size: tuple[int, int]) -> None:
    fourier_filter = pytest.importorskip("diffusers.utils.torch_utils").fourier_filter
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    if min(size) > 1:
        torch.testing.assert_close(low_frequencies(x, 0.3), fourier_filter(x, 1, 0.3), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(low_frequencies(x, 1.0), x, rtol=1e-4, atol=1e-5)


def test_freeu_version_2_by_its_formula() -> None:
    from sigmagraft.core.patch import StepInfo

    kin = open_kin([read_guidance("freeu:b1=1.5,s1=1,b2=1.5,s2=1")], Setting(UNET))
    patches = kin[0].guidance.patches()
    # output blocks 0 and 1 are entered by 64 channels, twice the model's width; 2 and 3 by 64 and 32
    assert [patch.block for patch in patches] == [("output", 0), ("output", 1), ("output", 2)]
    x = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    found, _ = patches[0].change(x, x, StepInfo())
    mean = x.mean(1)[0]
    factor = 1 + 0.5 * (mean - mean.min()) / (mean.max() - mean.min())
    torch.testing.assert_close(found[0, :4], x[0, :4] * factor)
    assert torch.equal(found[0, 4:], x[0, 4:])


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.mark.parametrize("name", GUIDANCES.names())
def test_each_changes_the_picture_and_is_read_back(pipe: Pipeline, name: str) -> None:
    settings = {"steps": 3, "seed": 1, "cfg": 5.0, "sampler": "euler"}
    made = pipe("a cat", guidance=[name], **settings)
    assert not torch.allclose(made.latents, pipe("a cat", **settings).latents, atol=1e-3)
    again = {k: v for k, v in made.settings.items() if k not in ("model", "prompt")}
    assert again["guidance"] == name
    assert torch.equal(pipe("a cat", **again).latents, made.latents)


@pytest.mark.parametrize("name", GUIDANCES.names())
def test_a_batch_is_each_image_alone(pipe: Pipeline, name: str) -> None:
    settings = {"steps": 2, "cfg": 5.0, "sampler": "euler", "guidance": name}
    both = pipe(["a cat", "a dog AND a [red|blue] hat :0.5"], seed=3, **settings).latents
    alone = pipe("a dog AND a [red|blue] hat :0.5", seed=4, **settings).latents
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", GUIDANCES.names())
def test_outside_its_window_it_does_nothing(pipe: Pipeline, name: str) -> None:
    settings = {"steps": 4, "seed": 1, "cfg": 5.0, "sampler": "euler"}
    counts: list[int] = []
    handle = pipe.model.unet.register_forward_hook(lambda *args: counts.append(1))
    never = pipe("a cat", guidance=f"{name}:start=0.99,stop=1", **settings)
    handle.remove()
    extra = GUIDANCES[name].extra
    assert len(counts) == 4 + extra  # the last of four steps begins at 0.75
    assert not torch.equal(never.latents, pipe("a cat", guidance=name, **settings).latents)


ALL = [f"{name}:eta=0.5,norm=5" if name == "apg" else name for name in GUIDANCES.names()]


@pytest.mark.parametrize(
    "sampler",
    [
        name if n % 8 == 0 else pytest.param(name, marks=pytest.mark.slow)
        for n, name in enumerate(ONE_OF_EACH)
    ],
)
def test_all_at_once_with_any_sampler(pipe: Pipeline, sampler: str) -> None:
    made = pipe("a cat", guidance=ALL, steps=2, seed=1, sampler=sampler)
    assert made.latents.isfinite().all()


def test_together_with_cfg_plus_plus_and_an_interval(pipe: Pipeline) -> None:
    settings = {"guidance": ["cfg++", *ALL], "cfg_interval": "25%-75%", "steps": 4, "seed": 1}
    made = pipe("a cat", sampler="euler_ancestral", **settings)
    assert made.latents.isfinite().all()
    assert made.settings["guidance"] == settings["guidance"]


def test_pag_needs_no_negative_prompt(pipe: Pipeline) -> None:
    """cond + s (cond - perturbed) over one step, the perturbed answer made by a network whose attention is changed."""
    from sigmagraft.core import blocks

    settings = {"steps": 1, "seed": 1, "cfg": 1.0, "sampler": "euler"}
    cond = pipe("a cat", **settings).latents
    middle = pipe.model.unet.middle_block[1].transformer_blocks[0].attn1
    middle.forward = lambda x, *rest: middle.to_out[0](middle.to_v(x))
    perturbed = pipe("a cat", **settings).latents
    del middle.forward
    assert isinstance(middle, blocks.Attention)
    found = pipe("a cat", guidance="pag:scale=2.5", **settings).latents
    torch.testing.assert_close(found, cond + 2.5 * (cond - perturbed), rtol=1e-4, atol=1e-4)


BAD = [
    ("pak", "guidance 'pak'.*pag"),
    ("pag:scal=3", "unknown option 'scal'.*scale"),
    ("pag:scale=x", "scale='x'"),
    ("pag:scale", "'scale'.*option=value"),
    ("pag:layers=down", "layers='down'.*middle"),
    ("pag:layers=input.9", "no self-attention in input.9.*middle.0"),
    ("pag:start=0.5,stop=0.5", "start below stop"),
    ("dynthres:measure=std", "range, deviation"),
    (["pag", "pag:scale=2"], "twice"),
    (["cfg", "cfg++"], "one of the two"),
    (7, "guidance 7"),
]


@pytest.mark.parametrize(("guidance", "message"), BAD)
def test_bad_words(pipe: Pipeline, guidance: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipe("a", guidance=guidance, steps=1)


def test_what_remembers_cannot_be_stopped(pipe: Pipeline) -> None:
    from sigmagraft.samplers import Recording

    with pytest.raises(OptionError, match=r"apg.*earlier steps"):
        pipe("a", guidance="apg", steps=3, recording=Recording(), stop_at=1)
    pipe("a", guidance="apg:momentum=0", steps=3, recording=Recording(), stop_at=1)


def test_unknown_networks_are_refused_by_what_needs_them() -> None:
    for name in ("pag", "sag", "freeu"):
        with pytest.raises(OptionError, match=f"guidance {name} needs to know the UNet"):
            open_kin([read_guidance(name)], Setting())
    without = SimpleNamespace(**{**UNET.__dict__, "transformer_depth_middle": 0})
    with pytest.raises(OptionError, match="middle block"):
        open_kin([read_guidance("sag")], Setting(without))  # type: ignore[arg-type]


def test_the_documents_example_is_a_guidance(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class of docs/guidance.md, registered for the length of this test."""
    import sys
    import types

    import sigmagraft
    from sigmagraft.core.registry import Registry
    from sigmagraft.guidance import spec

    root = Path(sigmagraft.__file__).parent
    text = (root / "docs/guidance.md").read_text(encoding="utf-8")
    code = text.split("# guidance/towards_mean.py\n")[1].split("```")[0]
    registry: Registry = Registry("guidance")
    monkeypatch.setattr(spec, "GUIDANCES", registry)
    module = types.ModuleType("sigmagraft.guidance.towards_mean")
    module.__package__ = "sigmagraft.guidance"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "towards_mean.py", "exec"), module.__dict__)
    (made,) = registry
    found = combine([made.make(Setting(), share=1.0)], evaluation(uncond=None))
    torch.testing.assert_close(found, COND.mean((2, 3), keepdim=True).expand_as(COND))


def test_the_document_lists_them_all() -> None:
    import sigmagraft

    text = (Path(sigmagraft.__file__).parent / "docs/guidance.md").read_text(encoding="utf-8")
    for each in GUIDANCES:
        assert f"| `{each.name}`" in text
        assert each.paper in text


def test_freeu_leaves_an_even_map_as_it_is() -> None:
    patch = GUIDANCES["freeu"].make(Setting(UNET), 1.3, 1.4, 1.0, 1.0, 2, "levels").patches()[0]
    x = torch.ones(1, 8, 1, 1)
    torch.testing.assert_close(patch.change(x, x, StepInfo())[0], x)  # type: ignore[attr-defined]
