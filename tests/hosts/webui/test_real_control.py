"""Controls and image prompts in the real web UIs: they end where the runner ends and leave no trace.

As in test_real.py. SIGMAGRAFT_CHECKPOINT names an SD1 checkpoint of whatever sizes that the host can load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.controlnet.clip_vision import ImageEncoder
from sigmagraft.controlnet.ip_adapter import IPAdapter
from sigmagraft.controlnet.ip_apply import image_adapters
from sigmagraft.controlnet.ip_settings import ImagePrompt
from sigmagraft.controlnet.model import ControlModel, acting
from sigmagraft.controlnet.settings import Control
from sigmagraft.standalone.unet import UNet

from .. import control_files as files
from .real import RealWebUI, encoded
from .real_walk import MARKS, SAME, WALK, apart, ended, kept_of, served
from .test_real import HOSTS

FOLDER = "sigmagraft_test"  # within the host's models/ControlNet
A, B = files.picture(1), files.picture(2)
pytestmark = MARKS


@pytest.fixture(scope="module")
def made(unet: UNet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files for it; whole ControlNets only where they are small."""
    kinds = ["t2i", "lllite", "control_lora"]
    kinds += ["controlnet", "union"] if max(unet.config.channel_mult) == 1 else []
    folder = tmp_path_factory.mktemp("files")
    found = {kind: files.save(folder, kind, getattr(files, kind)(unet.config)) for kind in kinds}
    found["ip"] = files.save(folder, "ip", files.ip_adapter(unet.config))
    tensors, said = files.image_encoder()
    found["encoder"] = files.save(folder, "encoder", tensors, {"clip_vision": json.dumps(said)})
    return found


@pytest.fixture(scope="module", params=HOSTS)
def web(
    request: pytest.FixtureRequest, made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealWebUI]:
    with served(request.param, tmp_path_factory, {f"ControlNet/{FOLDER}": list(made.values())}) as host:
        yield host


def unit(file: str, **given: Any) -> dict[str, Any]:
    """A unit as the API takes it."""
    name = file if file.startswith("reference") else f"{FOLDER}/{file}.safetensors"
    return {"file": name, "image": encoded(A)} | given


def drawn(web: RealWebUI, path: Path, *units: dict[str, Any], **more: Any) -> tuple[dict[str, Any], str]:
    """What the host did, and the picture's text."""
    return kept_of(web, path, {"sigmagraft control": list(units)}, **more)


def runner(unet: UNet, kept: dict[str, Any], *asks: Any) -> Tensor:
    """The runner's end, from the same noise and prompts."""
    return ended(unet, kept, asks)


def control(path: Path, **settings: Any) -> Any:
    model = ControlModel.load(path)
    return lambda host: [acting(Control(**({"model": model, "image": A} | settings)), host)]


def prompt(made: dict[str, Path], **settings: Any) -> Any:
    weights, encoder = IPAdapter.load(made["ip"]), ImageEncoder.load(made["encoder"])

    def ask(host: Any) -> Any:
        return image_adapters(weights, host.config, host.timeline, ImagePrompt(**settings), encoder.encode)

    return ask


def test_every_kind_ends_where_the_runner_ends(
    web: RealWebUI, unet: UNet, made: dict[str, Path], tmp_path: Path
) -> None:
    plain, _ = drawn(web, tmp_path / "plain.pt")
    found = {"plain": apart(plain["final"], runner(unet, plain))}
    for kind in [name for name in made if name not in ("ip", "encoder")]:
        given: dict[str, Any] = {"preprocessor": "canny", "settings": "low=50"}
        same: dict[str, Any] = {"preprocess": "canny", "options": {"low": 50}}
        same |= {"types": ["canny"]} if kind == "union" else {}
        kept, text = drawn(web, tmp_path / "kept.pt", unit(kind, **given))
        found[kind] = apart(kept["final"], runner(unet, kept, control(made[kind], **same)))
        assert apart(kept["final"], plain["final"]) > 10 * SAME, kind
        assert "SigmaGraft Control" in text
        assert "low=50" in text
    kept, _ = drawn(web, tmp_path / "kept.pt", unit("ip", weight=0.7, settings="weight_type=ease-in"))
    same = {"images": [A], "weight": 0.7, "weight_type": "ease-in"}
    found["ip"] = apart(kept["final"], runner(unet, kept, prompt(made, **same)))
    assert apart(kept["final"], plain["final"]) > 10 * SAME
    print(web.name, found)
    assert {name: value for name, value in found.items() if value > SAME} == {}


def test_several_with_settings_over_a_batch(
    web: RealWebUI, unet: UNet, made: dict[str, Path], tmp_path: Path
) -> None:
    units = [
        unit("t2i", image=[encoded(A), encoded(B)], end=0.67),
        unit("lllite", settings="mode=control", weight=0.8),
        unit("ip", mask=encoded(files.picture(3).convert("L"))),
    ]
    kept, _ = drawn(web, tmp_path / "kept.pt", *units, batch_size=2)
    asks = (
        control(made["t2i"], image=[A, B], end=0.67),
        control(made["lllite"], mode="control", strength=0.8),
        prompt(made, images=[A], mask=files.picture(3).convert("L")),
    )
    assert apart(kept["final"], runner(unet, kept, *asks)) < SAME


def test_the_run_after_is_the_run_before(web: RealWebUI, tmp_path: Path) -> None:
    before, _ = drawn(web, tmp_path / "before.pt")
    drawn(web, tmp_path / "kept.pt", unit("t2i"), unit("reference", settings="fidelity=1"))
    # two pictures for one image: an error inside the walk
    scripts = {"sigmagraft control": {"args": [unit("t2i", image=[encoded(A)] * 2), unit("lllite")]}}
    said = web.refusal(**WALK, alwayson_scripts=scripts)
    assert "2 control pictures for 1 images" in said
    after, text = drawn(web, tmp_path / "after.pt")
    assert torch.equal(after["final"], before["final"])
    assert after["hooks"] == before["hooks"]
    assert "SigmaGraft Control" not in text


def test_hires_takes_the_passes_that_are_asked(web: RealWebUI, tmp_path: Path) -> None:
    hires: dict[str, Any] = {"enable_hr": True, "hr_scale": 2.0, "denoising_strength": 0.7}
    ways = [mode["name"] for route in ("latent-upscale-modes", "upscalers") for mode in web.get(route)]
    hires |= {"hr_upscaler": next(name for name in ways if name not in (None, "None"))}
    if web.name in ("forge", "neo"):  # which do without these fields in their page alone
        hires |= {"hr_additional_modules": ["Use same choices"]}
    plain, _ = drawn(web, tmp_path / "plain.pt", **hires)
    ends = {
        which: drawn(web, tmp_path / "kept.pt", unit("t2i", settings=f"pass={which}"), **hires)[0]["final"]
        for which in ("both", "first", "hires")
    }
    assert len({float(x.double().sum()) for x in (*ends.values(), plain["final"])}) == 4


def test_a_sampler_of_timesteps_is_controlled(web: RealWebUI, tmp_path: Path) -> None:
    ddim = {"sampler_name": "DDIM", "scheduler": "Automatic"}
    plain, _ = drawn(web, tmp_path / "plain.pt", **ddim)
    ends = [drawn(web, tmp_path / "kept.pt", unit("t2i", end=end), **ddim)[0]["final"] for end in (0.34, 1.0)]
    assert apart(ends[0], plain["final"]) > 10 * SAME
    assert apart(ends[0], ends[1]) > SAME


def test_mistakes_are_told(web: RealWebUI) -> None:
    def refused(**given: Any) -> str:
        return web.refusal(**WALK, alwayson_scripts={"sigmagraft control": {"args": [unit(**given)]}})

    assert "no such file" in refused(file="nothing_like_it")
    assert "fidelity" in refused(file="t2i", settings="fidelity=0.2")
    assert "did you mean" in refused(file="t2i", settings="keyfraems=0@1")
    assert "start before end" in refused(file="t2i", start=0.8, end=0.2)
