"""The real web UIs, where SIGMAGRAFT_NEO, _FORGE, _REFORGE or _A1111 names a checkout that can run.

A checkout brings its own `venv` and a checkpoint chosen in its settings; SIGMAGRAFT_NEO_ARGS and so on add flags.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .real import SMALL, RealWebUI, installed

Image = pytest.importorskip("PIL.Image")
HOSTS = ("neo", "forge", "reforge", "a1111")
RK4, TCD = "RK4", "TCD"


@pytest.fixture(scope="module", params=HOSTS)
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWebUI]:
    variable = f"SIGMAGRAFT_{request.param.upper()}"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no checkout of this web UI")
    folder = Path(os.environ[variable])
    with installed(folder):
        host = RealWebUI(request.param, folder, tmp_path_factory.mktemp(request.param))
        try:
            host.wait_until_up()
            yield host
        finally:
            host.stop()


def opened(image: str) -> Any:
    return Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")


def apart(one: str, other: str) -> int:
    """The largest difference of two pictures, in levels of 255."""
    pairs = zip(opened(one).tobytes(), opened(other).tobytes(), strict=True)
    return max(abs(a - b) for a, b in pairs)


def options(*args: str) -> dict[str, Any]:
    return {"sigmagraft": {"args": list(args)}}


def grey(size: int = 64) -> str:
    written = io.BytesIO()
    Image.linear_gradient("L").resize((size, size)).convert("RGB").save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def mask(size: int = 64) -> str:
    picture = Image.new("L", (size, size), 0)
    picture.paste(255, (0, 0, size // 2, size))
    written = io.BytesIO()
    picture.save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def sde(web: RealWebUI) -> tuple[str, str]:
    """A sampler of ours with eta and another option, and that; reForge has SEEDS of its own."""
    return ("RES 2M", "s_noise") if web.name == "reforge" else ("SEEDS-2", "r")


def ours(web: RealWebUI) -> list[str]:
    return [entry["name"] for entry in web.get("samplers")]


def test_the_lists_hold_one_of_each(web: RealWebUI) -> None:
    samplers, schedulers = ours(web), [entry["label"] for entry in web.get("schedulers")]
    assert {RK4, sde(web)[0], TCD} < set(samplers)
    assert {"Beta 57", "Tan", "VP"} < set(schedulers)
    assert len(set(samplers)) == len(samplers) > 60
    assert len(set(schedulers)) == len(schedulers)
    assert "[SigmaGraft]" not in web.console()


def test_a_generation_writes_its_sampler_and_options(web: RealWebUI) -> None:
    plain, told = web.txt2img(sampler_name=RK4, scheduler="Beta 57")
    assert f"Sampler: {RK4}, Schedule type: Beta 57" in told
    assert "SigmaGraft" not in told
    sampler, option = sde(web)
    settings: dict[str, Any] = {"sampler_name": sampler, "scheduler": "VP"}
    chosen, told = web.txt2img(**settings, alwayson_scripts=options(f"eta=0.5, {option}=0.4", "beta_d=15"))
    text = json.loads(told.split("SigmaGraft: ")[1].rsplit(", Version", 1)[0])
    assert json.loads(text) == {"options": {"eta": 0.5, option: 0.4}, "schedule_options": {"beta_d": 15.0}}
    again, _ = web.txt2img(**settings, alwayson_scripts=options(f"eta=0.5, {option}=0.4", "beta_d=15"))
    left_alone, _ = web.txt2img(**settings)
    assert apart(chosen[0], again[0]) == 0
    assert apart(chosen[0], left_alone[0]) > 0
    assert len(plain) == 1
    if web.name in ("neo", "forge"):
        return  # they answer every request with an infotext with a TypeError of their own
    # the fields come back from the text alone
    pasted, told_again = web.txt2img(infotext=told)
    assert "beta_d" in told_again
    assert apart(chosen[0], pasted[0]) == 0


def test_a_schedule_of_ours_serves_a_sampler_of_the_host(web: RealWebUI) -> None:
    _, told = web.txt2img(sampler_name="Euler", scheduler="Tan")
    assert "Sampler: Euler, Schedule type: Tan" in told


def test_each_image_of_a_batch_is_its_seed_alone(web: RealWebUI) -> None:
    for name in (TCD, sde(web)[0]):
        batch, _ = web.txt2img(sampler_name=name, batch_size=2)
        single, _ = web.txt2img(sampler_name=name, seed=SMALL["seed"] + 1)
        pair = batch[-2:]  # a host may put a grid before them
        assert apart(pair[1], single[0]) <= 2
        assert apart(pair[0], single[0]) > 2


def test_subseeds_and_the_seed_delta_act_as_on_the_host_s_own(web: RealWebUI) -> None:
    plain, _ = web.txt2img(sampler_name=TCD)
    varied, told = web.txt2img(sampler_name=TCD, subseed=5, subseed_strength=0.5)
    assert "Variation seed strength: 0.5" in told
    assert apart(plain[0], varied[0]) > 0
    delta = {"override_settings": {"eta_noise_seed_delta": 31337}}
    moved, told = web.txt2img(sampler_name=TCD, **delta)
    assert "ENSD: 31337" in told
    assert apart(plain[0], moved[0]) > 0


def test_img2img_and_inpainting(web: RealWebUI) -> None:
    start = {"init_images": [grey()], "denoising_strength": 0.6, "sampler_name": sde(web)[0], "steps": 5}
    whole, told = web.img2img(**start)
    assert f"Sampler: {sde(web)[0]}" in told
    painted, _ = web.img2img(**start, mask=mask(), mask_blur=0, inpainting_fill=1, inpaint_full_res=False)
    # what the mask leaves out stays as it was given
    kept, given = (opened(one).crop((40, 0, 64, 64)).tobytes() for one in (painted[0], grey()))
    assert max(abs(a - b) for a, b in zip(kept, given, strict=True)) <= 3
    assert apart(whole[0], painted[0]) > 2


def test_hires_fix_with_a_second_sampler_and_its_options(web: RealWebUI) -> None:
    ways = [mode["name"] for route in ("latent-upscale-modes", "upscalers") for mode in web.get(route)]
    upscaler = next(name for name in ways if name not in (None, "None"))
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": upscaler, "denoising_strength": 0.7}
    hires |= {"hr_additional_modules": ["Use same choices"]} if web.name in ("neo", "forge") else {}
    args = options("", "", "", "", "eta=0.5")
    images, told = web.txt2img(sampler_name=RK4, hr_sampler_name=sde(web)[0], alwayson_scripts=args, **hires)
    assert opened(images[0]).size == (128, 128)
    assert f"Hires sampler: {sde(web)[0]}" in told
    assert "hires_options" in told


def test_the_refiner_takes_over_by_evaluations(web: RealWebUI) -> None:
    now = web.get("options")["sd_model_checkpoint"].split(" [")[0]
    others = [m for m in web.get("sd-models") if Path(m["filename"]).name != Path(now).name]
    if not others:
        pytest.skip("one checkpoint only")
    smallest = min(others, key=lambda m: Path(m["filename"]).stat().st_size)
    switch = {"refiner_checkpoint": smallest["title"], "refiner_switch_at": 0.5}
    _, told = web.txt2img(sampler_name=RK4, steps=4, **switch)
    assert "Refiner switch at: 0.5" in told
    assert f"Sampler: {RK4}" in told


@pytest.mark.parametrize(
    ("args", "words"),
    [(("eta=99",), "eta='99'"), (("etta=1",), "did you mean 'eta'"), (("", "", "purple"), "purple")],
)
def test_a_field_that_is_wrong_is_answered_with_what_and_where(
    web: RealWebUI, args: tuple[str, ...], words: str
) -> None:
    said = web.refusal(sampler_name=sde(web)[0], alwayson_scripts=options(*args))
    assert "OptionError" in said
    assert words in said
    assert web.txt2img(sampler_name=sde(web)[0])[0]


def test_a_sampler_that_is_gone_is_named_on_the_console(web: RealWebUI) -> None:
    written = io.BytesIO()
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(
        "parameters", "a cat\nSteps: 3, Sampler: Gone 9, Schedule type: Karras, CFG scale: 4, Seed: 1"
    )
    Image.new("RGB", (8, 8)).save(written, "PNG", pnginfo=info)
    picture = "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
    assert web.post("png-info", image=picture)["parameters"]["Sampler"] == "Gone 9"
    web.wait(lambda: "'Gone 9' is not in this web UI" in web.console(), "the line that names it")


def test_an_interrupt_in_mid_sampling_leaves_a_picture_and_a_host_that_goes_on(web: RealWebUI) -> None:
    answers: list[Any] = []

    def run() -> None:
        answers.append(web.txt2img(sampler_name=RK4, steps=60))

    thread = threading.Thread(target=run)
    thread.start()
    web.wait(lambda: web.get("progress")["state"]["sampling_step"] >= 1, "a step")
    assert web.get("progress")["state"]["sampling_steps"] == 60
    web.post("interrupt")
    thread.join()
    ((images, _),) = answers
    assert opened(images[0]).size == (64, 64)
    assert web.txt2img(sampler_name=RK4)[0]


def test_reload_ui_leaves_one_of_each_and_a_host_that_generates(web: RealWebUI) -> None:
    before, schedulers = ours(web), web.get("schedulers")
    for starts in (2, 3):
        web.click("settings_restart_gradio")
        web.wait_until_up(starts)
        assert ours(web) == before
        assert web.get("schedulers") == schedulers
    _, told = web.txt2img(sampler_name=RK4, alwayson_scripts=options("eta=0.5"))
    assert "SigmaGraft" in told
