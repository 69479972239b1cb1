"""Guidance in the web UIs: what is written and read back, and walks that end where the runner's end."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.guidance import GUIDANCES, Setting, open_kin, read_guidances
from sigmagraft.samplers import SAMPLERS, drive
from sigmagraft.standalone.denoiser import Denoiser
from sigmagraft.standalone.guidance import guiding
from sigmagraft.standalone.levels import levels_of
from sigmagraft.standalone.model import ModelInfo
from sigmagraft.standalone.prompt_course import always

from . import walks
from .double import WebUI
from .walks import CONFIG, FORGE, SIGMAS, contexts, hooks, processing, walked

OURS = "sigmagraft.hosts.webui"
LEVELS = levels_of(ModelInfo(family="sd1"))
SCALE = 4.0
FAMILIES = ("a1111", "forge")
ALL = ["freeu:b1=1.1,b2=1.1", "cfg_zero", "apg:eta=0.5", "pag", "sag", "dynthres:mimic=2", "rescale"]


@pytest.fixture
def ours(make: Callable[..., WebUI], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A module of ours against the doubles."""
    make("a1111")
    monkeypatch.setitem(walks.sys.modules, FORGE, None)
    return lambda name: importlib.import_module(f"{OURS}.{name}")


def put(ours: Any, p: Any, texts: list[str], noise: Any = None) -> None:
    """What the panel does as a pass begins."""
    passes = ours("walk_pass")
    part = passes.Part(partial(ours("guidance_walk").begin, read_guidances(texts)))
    passes.pass_of(p).put("guidance", part, noise)


def runner(unet: Any, texts: list[str], prompts: Any, negatives: Any, x: Any, scale: float = SCALE) -> Any:
    """The runner's end."""
    kin = open_kin(read_guidances(texts), Setting(CONFIG))
    denoiser = Denoiser(unet, LEVELS, "eps", torch.float32)
    denoise = guiding(denoiser, always(*walks.sides(prompts, negatives)), scale, kin, SIGMAS)
    with torch.no_grad():
        return drive(SAMPLERS["euler"], denoise, x, SIGMAS, levels=LEVELS, options={})


def start() -> Any:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5)) * SIGMAS[0]


def apart(one: Any, other: Any) -> float:
    return float((one - other).abs().max() / other.abs().max())


PROMPTS, NEGATIVES = contexts(2, 1), contexts(2, 2)
SINGLE = [[(one, 1.0)] for one in PROMPTS]


@pytest.mark.parametrize(
    ("family", "texts"),
    [
        *(("a1111", [name]) for name in GUIDANCES.names()),
        *(("forge", [name]) for name in ("pag", "sag", "freeu")),
        *((family, ALL) for family in FAMILIES),
    ],
)
def test_a_walk_ends_where_the_runners_ends(ours: Any, family: str, texts: list[str]) -> None:
    p, model, unet = processing(family)
    x, before = start(), hooks(unet)
    plain = walked(p, model, x, SINGLE, torch.cat(NEGATIVES))
    put(ours, p, texts)
    put(ours, p, texts)  # Forge asks twice
    found = walked(p, model, x, SINGLE, torch.cat(NEGATIVES))
    wanted = runner(walks.unets()[0], texts, PROMPTS, NEGATIVES, x)
    assert apart(found, wanted) < 2e-5
    assert apart(found, plain) > 1e-4
    assert hooks(unet) == before
    assert "combine_denoised" not in vars(model)
    p.sampler.func = walks.euler
    assert torch.equal(walked(p, model, x, SINGLE, torch.cat(NEGATIVES)), plain)


@pytest.mark.parametrize("more", [{"together": False}, {"skip": True}])
def test_automatic1111_asks_in_other_ways(ours: Any, more: dict[str, bool]) -> None:
    texts = ["pag", "sag", "freeu:b1=1.1"]
    p, model, _ = processing("a1111", **more)
    put(ours, p, texts)
    x = start()
    found = walked(p, model, x, SINGLE, torch.cat(NEGATIVES))
    scale = 1.0 if "skip" in more else SCALE
    assert apart(found, runner(walks.unets()[0], texts, PROMPTS, NEGATIVES, x, scale)) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_at_cfg_1_the_prompt_is_guided_alone(ours: Any, family: str) -> None:
    texts = ["pag", "sag"]
    p, model, _ = processing(family)
    put(ours, p, texts)
    x = start()
    found = walked(p, model, x, SINGLE, torch.cat(NEGATIVES), 1.0)
    assert apart(found, runner(walks.unets()[0], texts, PROMPTS, NEGATIVES, x, 1.0)) < 2e-5


@pytest.mark.parametrize("texts", [["pag"], ["apg:eta=0.5"], ["rescale"]])
def test_prompts_joined_by_and_are_the_same_in_both(ours: Any, texts: list[str]) -> None:
    extra = contexts(2, 3)
    prompts = [[(a, 1.0), (b, 0.5)] for a, b in zip(PROMPTS, extra, strict=True)]
    ends = []
    for family in FAMILIES:
        p, model, _ = processing(family)
        put(ours, p, texts)
        ends.append(walked(p, model, start(), prompts, torch.cat(NEGATIVES)))
    assert apart(ends[0], ends[1]) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_anothers_way_to_weigh_acts_within_ours(ours: Any, family: str) -> None:
    p, model, _ = processing(family)
    if family == "a1111":
        own = model.combine_denoised
        model.combine_denoised = lambda out, parts, uncond, scale: own(out, parts, uncond, scale / 2)
    else:

        def half(args: Any) -> Any:
            found = args["uncond"] + (args["cond"] - args["uncond"]) * (args["cond_scale"] / 2)
            return found

        p.sd_model.forge_objects.unet.model_options["sampler_cfg_function"] = half
    kept = dict(vars(model)), dict(getattr(p.sd_model, "forge_objects", p).__dict__)
    x = start()
    put(ours, p, ["pag"])
    found = walked(p, model, x, SINGLE, torch.cat(NEGATIVES))
    assert apart(found, runner(walks.unets()[0], ["pag"], PROMPTS, NEGATIVES, x, SCALE / 2)) < 2e-5
    assert kept == (dict(vars(model)), dict(getattr(p.sd_model, "forge_objects", p).__dict__))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_in_mid_walk_leaves_no_trace(ours: Any, family: str) -> None:
    p, model, unet = processing(family)
    objects = dict(getattr(p.sd_model, "forge_objects", p).__dict__)
    before, seen = hooks(unet), []

    def interrupted(model: Any, x: Any, sigmas: Any, **extra: Any) -> Any:
        seen.append(model(x, torch.full((len(x),), 3.0), **extra))
        raise KeyboardInterrupt

    p.sampler.func = interrupted
    put(ours, p, ALL)
    with pytest.raises(KeyboardInterrupt):
        walked(p, model, start(), SINGLE, torch.cat(NEGATIVES))
    assert len(seen) == 1
    assert hooks(unet) == before
    assert "combine_denoised" not in vars(model)
    assert hooks(model) == before
    if family == "forge":
        assert p.sd_model.forge_objects.unet is objects["unet"]


@pytest.mark.parametrize("family", FAMILIES)
def test_outside_its_share_nothing_is_changed(ours: Any, family: str) -> None:
    p, model, _ = processing(family)
    x = start()
    plain = walked(p, model, x, SINGLE, torch.cat(NEGATIVES))
    put(ours, p, [f"{name}:start=0.99" for name in GUIDANCES.names()])
    last = walked(p, model, x, SINGLE, torch.cat(NEGATIVES))
    p.sampler.func = walks.euler
    put(ours, p, [f"{name}:stop=0.1" for name in GUIDANCES.names()])
    assert torch.equal(walked(p, model, x, SINGLE, torch.cat(NEGATIVES)), plain)
    assert apart(last, plain) > 1e-4


def panel(host: WebUI) -> Any:
    return next(kind for kind in host.scripts if kind.__name__ == "SigmaGraftGuidance")()


def told(host: WebUI, *args: Any, **given: Any) -> Any:
    p = SimpleNamespace(extra_generation_params={}, sd_model=SimpleNamespace(), **given)
    p.sampler = SimpleNamespace(func=walks.euler)
    script = panel(host)
    script.process(p, *args)
    script.process_before_every_sampling(p, *args, noise=None)
    return p


def test_fields_and_texts_are_written_and_read_back(host: WebUI) -> None:
    script = panel(host)
    fields = script.ui(False)
    assert len(fields) == 2 * len(list(GUIDANCES.names()))
    page = [field.value for field in fields]
    names = list(GUIDANCES.names())
    page[2 * names.index("pag") : 2 * names.index("pag") + 2] = [True, "scale=2, layers=middle"]
    page[2 * names.index("freeu")] = True
    for args in (
        page,
        ["pag:scale=2,layers=middle", "freeu"],
        ["pag:scale=2,layers=middle; freeu", "", False],
    ):
        text = told(host, *args).extra_generation_params["SigmaGraft"]
        kept = json.loads(text)["guidance"]
        assert sorted(kept) == ["freeu", "pag:scale=2,layers=middle"]
        pasted = {id(field): value({"SigmaGraft": text}) for field, value in script.infotext_fields}
        back = [pasted[id(field)] for field in fields]
        assert back[2 * names.index("pag") : 2 * names.index("pag") + 2] == [True, "scale=2,layers=middle"]
        assert sum(one is True for one in back) == 2
    params = {"SigmaGraft": '{"options": {"eta": 0.5}, "guidance": "pag"}', "Steps": 3}
    importlib.import_module(f"{OURS}.guidance_texts").write(params, [])
    assert params == {"SigmaGraft": '{"options": {"eta": 0.5}}', "Steps": 3}
    for text in ("", "{", '{"guidance": "cfg++"}', '{"options": {}}'):
        assert not any(value({"SigmaGraft": text}) for _, value in script.infotext_fields)


def test_an_axis_of_the_plot_wins(one_host: WebUI) -> None:
    (axis,) = [one for one in one_host.grid.axis_options if one.label.endswith("Guidance")]
    p = SimpleNamespace()
    axis.apply(p, "rescale:share=0.5; pag", [])
    written = told(one_host, "freeu", **vars(p)).extra_generation_params["SigmaGraft"]
    assert json.loads(written)["guidance"] == ["rescale:share=0.5", "pag"]


def test_nothing_chosen_costs_nothing(host: WebUI) -> None:
    for args in ([], [False, "scale=9"] * 7, ["", "", False]):
        p = told(host, *args)
        assert p.extra_generation_params == {}
        assert p.sampler.func is walks.euler


@pytest.mark.parametrize(
    ("text", "said"),
    [("pag:scale=101", "scale"), ("pga", "pag"), ("pag:sclae=3", "scale"), ("pag; pag", "twice")],
)
def test_what_is_wrong_is_said_where_the_walk_would_begin(one_host: WebUI, text: str, said: str) -> None:
    p = told(one_host, text)
    with pytest.raises(OptionError, match=said):
        p.sampler.func(None, torch.zeros(1), sigmas=SIGMAS)
