"""Generations through the doubles: the same latents as alone, the noise of each image, options, interrupts."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.hosts.levels import levels_from_table
from sigmagraft.samplers import ImageNoise, drive, schedule, step_noise
from sigmagraft.samplers.levels import FlowLevels

from .conftest import ROOT
from .double import FAMILY, TABLE, Predictor, WebUI, ours

SHAPE = (4, 8, 8)
STEPS = 6
FAST = ("rk4_4s", "res_2m", "seeds_2", "tcd", "dpmpp_2s", "sa_solver", "ddpm", "res_multistep_ancestral")


def entries(host: WebUI) -> dict[str, Any]:
    return {entry.sigmagraft_offer.name: entry for entry in ours(host)}


def alone(
    spec: Any, seeds: list[int], options: dict[str, Any] | None = None, name: str = "karras"
) -> torch.Tensor:
    levels = levels_from_table(TABLE.tolist())
    sigmas = torch.tensor(schedule(name, STEPS, levels)).tolist()
    images = ImageNoise(seeds, SHAPE)
    x = images.next() * sigmas[0]
    noise = step_noise(spec, images, sigmas, levels)
    return drive(spec, lambda x, s: x / (1 + s**2), x, sigmas, levels=levels, noise=noise, options=options)


def test_every_sampler_gives_the_same_latents_as_alone(make: Callable[..., WebUI]) -> None:
    host = make("forge")
    host.load_extensions(ROOT)
    host.sd_schedulers.schedulers_map["Karras"].function = lambda n, device, **range: torch.tensor(
        schedule("karras", n, levels_from_table(TABLE.tolist()))
    )
    for entry in entries(host).values():
        made = host.generate(entry.name, [3, 4], STEPS, scheduler="Karras").samples
        expected = alone(entry.sigmagraft_offer.spec, [3, 4])
        assert torch.allclose(made, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())), entry.name


def test_image_k_of_a_batch_is_its_seed_alone(host: WebUI) -> None:
    for name in FAST:
        entry = entries(host)[name]
        batch = host.generate(entry.name, [7, 8], STEPS).samples
        for place, seed in enumerate([7, 8]):
            assert torch.equal(batch[place], host.generate(entry.name, [seed], STEPS).samples[0])


def test_the_seed_delta_moves_the_steps_noise_and_not_the_start(host: WebUI) -> None:
    entry = entries(host)["tcd"]
    assert entry.options["uses_ensd"] is True
    plain, moved = (host.generate(entry.name, [1], STEPS, ensd=ensd).samples for ensd in (0, 31337))
    assert not torch.allclose(plain, moved)
    assert "uses_ensd" not in entries(host)["pec423_2h2s"].options
    assert "uses_ensd" not in entries(host)["seeds_2"].options


@pytest.mark.parametrize("kind", FAMILY)
def test_rectified_flow_is_seen_and_its_automatic_schedule_fits(
    make: Callable[..., WebUI], kind: str
) -> None:
    host = make(kind, flow=True)
    if kind == "reforge":  # it keeps the kind of model elsewhere
        pytest.skip("its flow models are tried in tests of its own")
    host.load_extensions(ROOT)
    from sigmagraft.hosts.webui.model import levels_of

    entry = entries(host)["rk4_4s"]
    inner = entry.constructor(None).model_wrap
    levels = levels_of(inner)
    assert isinstance(levels, FlowLevels)
    assert levels.shift == pytest.approx(3, rel=1e-4)
    made = host.generate(entry.name, [1], STEPS)
    assert made.extra_generation_params["Schedule type"] == "Simple"
    assert torch.isfinite(made.samples).all()


def test_reforge_s_flow_is_told_by_its_sampling_object(make: Callable[..., WebUI]) -> None:
    make("reforge")
    from sigmagraft.hosts.webui.model import is_flow

    CONST = type("CONST", (), {})
    for kind, expected in ((type("Sampling", (CONST,), {}), True), (object, False)):
        unet = SimpleNamespace(model=SimpleNamespace(model_sampling=kind()))
        model = SimpleNamespace(forge_objects=SimpleNamespace(unet=unet))
        assert is_flow(SimpleNamespace(sigmas=Predictor(True).sigmas, inner_model=model)) is expected


def test_options_are_ours_and_travel_in_the_picture(host: WebUI) -> None:
    entry = entries(host)["seeds_2"]
    plain = host.generate(entry.name, [1], STEPS)
    assert "SigmaGraft" not in plain.extra_generation_params
    args = ("eta=0.25, r=0.4", "", "Automatic", "", "")
    chosen = host.generate(entry.name, [1], STEPS, args)
    assert not torch.equal(plain.samples, chosen.samples)
    told = json.loads(chosen.extra_generation_params["SigmaGraft"])
    assert told == {"options": {"eta": 0.25, "r": 0.4}}
    script = host.scripts[0]()
    fields = script.ui(False)
    pasted = [
        read({"Sampler": entry.name, **chosen.extra_generation_params}) for _, read in script.infotext_fields
    ]
    assert pasted == list(args)
    assert len(fields) == len(pasted)
    assert torch.equal(host.generate(entry.name, [1], STEPS, tuple(pasted)).samples, chosen.samples)


def test_every_field_comes_back_from_the_picture(host: WebUI) -> None:
    entry = entries(host)["rk4_4s"]
    args = ("s_noise=0.9", "alpha=0.6", "pyramid:levels=2", "2, 1, 0.2, 1.5", "eta=0.5")
    passes = {"scheduler": "Beta 57", "enable_hr": True, "hr_sampler_name": "SEEDS-2"}
    made = host.generate(entry.name, [1], 20, args, **passes)
    script = host.scripts[0]()
    script.ui(False)
    pasted = [
        read({"Sampler": entry.name, **made.extra_generation_params}) for _, read in script.infotext_fields
    ]
    assert pasted == list(args)


def test_the_runner_s_pictures_fill_the_fields(host: WebUI) -> None:
    script = host.scripts[0]()
    script.ui(False)
    params = {
        "Sampler": entries(host)["seeds_2"].name,
        "Eta": "0.5",
        "SigmaGraft": json.dumps({"options": {"r": 0.4}, "noise_type": "blue"}),
    }
    assert [read(params) for _, read in script.infotext_fields] == ["eta=0.5, r=0.4", "", "blue", "", ""]
    assert script.infotext_fields[0][1]({"Sampler": "Euler a", "Eta": "0.5"}) == ""


WRONG = {
    "eta='99'": ("eta=99",),
    "did you mean 'eta'": ("etta=1",),
    "NAME=VALUE": ("eta",),
    "unknown option 'rho'": ("", "rho=1"),
    "unknown noise type 'purple'": ("", "", "purple"),
    "steps, times, t_min, t_max": ("", "", "", "3, 2"),
    "restart around seeds_2": ("", "", "", "automatic"),
}


def test_what_is_wrong_in_a_field_is_said_where_the_host_shows_it(host: WebUI) -> None:
    entry = entries(host)["seeds_2"]
    for words, args in WRONG.items():
        with pytest.raises(OptionError, match=words):
            host.generate(entry.name, [1], STEPS, args, scheduler="Tan")
        assert torch.isfinite(host.generate(entry.name, [1], STEPS).samples).all()


def test_restarts_go_around_any_deterministic_sampler(host: WebUI) -> None:
    entry = entries(host)["rk4_4s"]
    plain, back = (
        host.generate(entry.name, [1, 2], 20, ("", "", "", text)) for text in ("", "2, 1, 0.2, 1.5")
    )
    assert not torch.allclose(plain.samples, back.samples)
    steps = [state["i"] for state in back.sampler.steps_told]
    assert steps == list(range(len(steps)))
    assert torch.equal(
        host.generate(entry.name, [2], 20, ("", "", "", "2, 1, 0.2, 1.5")).samples[0], back.samples[1]
    )


def test_a_chosen_type_of_noise_is_each_image_s_own(host: WebUI) -> None:
    entry = entries(host)["tcd"]
    plain = host.generate(entry.name, [8], STEPS).samples
    for noise in ("gaussian", "brownian", "fractal:alpha=1.5", "perlin"):
        batch = host.generate(entry.name, [7, 8], STEPS, ("", "", noise)).samples
        single = host.generate(entry.name, [8], STEPS, ("", "", noise)).samples
        assert torch.equal(batch[1], single[0])
        assert torch.equal(plain, single) is (noise == "gaussian")


def test_steps_are_told_once_each_and_in_order(host: WebUI) -> None:
    for name in FAST:
        made = host.generate(entries(host)[name].name, [1], STEPS)
        assert [state["i"] for state in made.sampler.steps_told] == list(range(STEPS))
        assert made.sampler.total >= made.sampler.model_wrap_cfg.step - 1


def test_an_interrupt_leaves_a_latent_and_a_host_that_goes_on(host: WebUI) -> None:
    entry = entries(host)["rk4_4s"]
    host.interrupt_at = 9
    stopped = host.generate(entry.name, [1], STEPS)
    assert len(stopped.sampler.steps_told) == 3
    assert torch.isfinite(stopped.samples).all()
    host.interrupt_at = -1
    assert len(host.generate(entry.name, [1], STEPS).sampler.steps_told) == STEPS


def test_a_schedule_of_ours_serves_the_host_s_samplers_with_its_options(host: WebUI) -> None:
    function = host.sd_schedulers.schedulers_map["beta57"].function
    inner = entries(host)["rk4_4s"].constructor(None).model_wrap
    low, high = inner.sigmas[0].item(), inner.sigmas[-1].item()
    script = host.scripts[0]()
    p = SimpleNamespace(sampler_name="Euler", scheduler="Beta 57", extra_generation_params={})
    script.process(p, "", "alpha=0.9")
    chosen = function(n=STEPS, sigma_min=low, sigma_max=high, inner_model=inner, device="cpu")
    script.postprocess(p, None)
    plain = function(n=STEPS, sigma_min=low, sigma_max=high, inner_model=inner, device="cpu")
    assert chosen.shape == plain.shape == (STEPS + 1,)
    assert chosen.dtype == torch.float32
    assert plain[-1] == 0.0
    assert not torch.equal(chosen, plain)


def test_axes_put_values_over_the_fields(host: WebUI) -> None:
    axes = {option.label: option for option in host.grid.axis_options}
    entry = entries(host)["seeds_2"]
    script = host.scripts[0]()
    p = SimpleNamespace(sampler_name=entry.name, scheduler="Automatic", extra_generation_params={})
    first, second = SimpleNamespace(**vars(p)), SimpleNamespace(**vars(p))
    axes["[SigmaGraft] eta"].apply(first, axes["[SigmaGraft] eta"].type("0.5"), [])
    axes["[SigmaGraft] Sampler options"].apply(second, "r=0.4", [])
    for one in (first, second):
        one.extra_generation_params = {}
        script.process(one, "eta=0.1")
    assert json.loads(first.extra_generation_params["SigmaGraft"])["options"] == {"eta": 0.5}
    assert json.loads(second.extra_generation_params["SigmaGraft"])["options"] == {"r": 0.4}


def test_a_picture_s_missing_sampler_is_named(host: WebUI, capsys: pytest.CaptureFixture[str]) -> None:
    host.call("infotext_pasted", "", {"Sampler": "Gone 9", "Schedule type": "Karras"})
    assert "'Gone 9' is not in this web UI; DPM++ 2M stands in its place" in capsys.readouterr().out
    assert len(host.warnings) == 1
    for known in ("Euler a", "DPM++ 2M Karras", entries(host)["rk4_4s"].name):
        host.call("infotext_pasted", "", {"Sampler": known})
    assert len(host.warnings) == 1


@pytest.mark.parametrize("ui_first", [True, False])
def test_the_help_follows_the_host_s_dropdowns(host: WebUI, ui_first: bool) -> None:
    script = host.scripts[0]()
    dropdown = host.modules["gradio"].Dropdown
    lists = {f"txt2img_{name}": dropdown() for name in ("sampling", "scheduler")}
    if ui_first:
        script.ui(False)
    for elem_id, component in lists.items():
        script.after_component(component, elem_id=elem_id)
    if not ui_first:
        script.ui(False)
    (first,), (second,) = (component.changes for component in lists.values())
    assert first["outputs"] == second["outputs"] == [script.help]
    told = first["fn"](entries(host)["seeds_2"].name, "Beta 57")
    assert "<code>eta=1.0</code>" in told
    assert "<code>alpha=0.5</code>" in told
    assert "host's own fields" in first["fn"]("Euler a", "Karras")
