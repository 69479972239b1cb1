"""Guidance in the real web UIs: every kind ends where the runner ends and leaves no trace.

As in test_real.py. SIGMAGRAFT_CHECKPOINT names an SD1 checkpoint of whatever sizes that the host can load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sigmagraft.guidance import GUIDANCES, Setting, open_kin, read_guidances
from sigmagraft.standalone.unet import UNet

from .. import control_files as files
from .real import RealWebUI, encoded
from .real_walk import MARKS, SAME, WALK, apart, ended, kept_of, served
from .test_real import HOSTS

pytestmark = MARKS
PANEL = "sigmagraft guidance"
PICTURE = encoded(files.picture(1))
ALL = [
    "freeu:b1=1.1,b2=1.1,version=1",
    "cfg_zero",
    "apg",
    "pag:layers=all",
    "sag",
    "dynthres:mimic=2",
    "rescale",
]


@pytest.fixture(scope="module", params=HOSTS)
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWebUI]:
    with served(request.param, tmp_path_factory, {}) as host:
        yield host


def drawn(web: RealWebUI, path: Path, *texts: str, **more: Any) -> tuple[dict[str, Any], str]:
    return kept_of(web, path, {PANEL: texts}, **more)


def test_every_kind_ends_where_the_runner_ends(web: RealWebUI, unet: UNet, tmp_path: Path) -> None:
    plain, _ = drawn(web, tmp_path / "plain.pt")
    found = {"plain": apart(plain["final"], ended(unet, plain))}
    ways = {
        **{name: [name] for name in GUIDANCES.names()},
        "all": ALL,
        "late": ["pag:start=0.34", "rescale:stop=0.67"],
    }
    for name, texts in ways.items():
        kept, text = drawn(web, tmp_path / "kept.pt", *texts)
        kin = open_kin(read_guidances(texts), Setting(unet.config))
        found[name] = apart(kept["final"], ended(unet, kept, kin=kin))
        assert apart(kept["final"], plain["final"]) > SAME, name
        told = json.loads(json.loads(text.split("SigmaGraft: ")[1].rsplit(", Version", 1)[0]))
        assert len(told["guidance"]) == len(texts) if len(texts) > 1 else told["guidance"] == texts[0]
    print(web.name, found)
    assert {name: value for name, value in found.items() if value > SAME} == {}


def test_batches_at_cfg_1_and_beside_a_control(web: RealWebUI, unet: UNet, tmp_path: Path) -> None:
    kin = open_kin(read_guidances(["pag", "sag"]), Setting(unet.config))
    kept, _ = drawn(web, tmp_path / "kept.pt", "pag; sag", batch_size=2)
    assert apart(kept["final"], ended(unet, kept, kin=kin)) < SAME
    beside = {PANEL: ["pag"], "sigmagraft control": [{"file": "reference", "image": PICTURE}]}
    together, _ = kept_of(web, tmp_path / "kept.pt", beside)
    alone, _ = kept_of(
        web, tmp_path / "kept.pt", {name: args for name, args in beside.items() if name != PANEL}
    )
    assert apart(together["final"], alone["final"]) > SAME
    assert torch.isfinite(together["final"]).all()


def test_the_run_after_is_the_run_before(web: RealWebUI, tmp_path: Path) -> None:
    before, _ = drawn(web, tmp_path / "before.pt")
    drawn(web, tmp_path / "kept.pt", *ALL)
    assert "101" in web.refusal(**WALK, alwayson_scripts={PANEL: {"args": ["pag:scale=101"]}})
    assert "did you mean" in web.refusal(**WALK, alwayson_scripts={PANEL: {"args": ["resscale"]}})
    assert "no self-attention" in web.refusal(
        **WALK, alwayson_scripts={PANEL: {"args": ["pag:layers=input.99"]}}
    )
    after, text = drawn(web, tmp_path / "after.pt")
    assert torch.equal(after["final"], before["final"])
    assert after["hooks"] == before["hooks"]
    assert "guidance" not in text


def test_other_walks_are_guided(web: RealWebUI, tmp_path: Path) -> None:
    hires: dict[str, Any] = {"enable_hr": True, "hr_scale": 2.0, "denoising_strength": 0.7}
    ways = [mode["name"] for route in ("latent-upscale-modes", "upscalers") for mode in web.get(route)]
    hires |= {"hr_upscaler": next(name for name in ways if name not in (None, "None"))}
    if web.name in ("forge", "neo"):
        hires |= {"hr_additional_modules": ["Use same choices"]}
    for walk in (
        hires,
        {"sampler_name": "DDIM", "scheduler": "Automatic"},
        {"prompt": "a cat AND a dog :0.5"},
    ):
        plain, _ = drawn(web, tmp_path / "plain.pt", **walk)
        kept, _ = drawn(web, tmp_path / "kept.pt", "pag; sag; rescale", **walk)
        assert apart(kept["final"], plain["final"]) > SAME, walk
        assert torch.isfinite(kept["final"]).all()
