"""Guidance in the real web UIs: every kind ends where the runner ends and leaves no trace.

As in test_real.py. SIGMAGRAFT_CHECKPOINT names an SD1 checkpoint of whatever sizes that the host can load.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sigmagraft.guidance import Setting, open_kin, read_guidances
from sigmagraft.standalone.unet import UNet

from .. import control_files as files
from .real import RealWebUI, encoded
from .real_walk import MARKS, SAME, WALK, apart, ended, kept_of

pytestmark = MARKS
PANEL = "sigmagraft guidance"
PICTURE = encoded(files.picture(1))
FREEU = "freeu:b1=1.1,b2=1.1,places=levels"
OUTPUTS = ["cfg_zero", "apg:eta=0.5", "dynthres:mimic=2", "rescale"]
WAYS = {
    "all": [FREEU, *OUTPUTS, "pag:start=0.34", "sag:scale=2,threshold=0.5"],
    "pag": ["pag:layers=all"],
    "sag": ["sag:scale=2,threshold=0.5"],
    "freeu": [FREEU],
    "outputs": OUTPUTS,
}


@pytest.fixture(scope="module")
def plain(kept_web: RealWebUI, unet: UNet, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What is drawn without guidance."""
    kept, _ = drawn(kept_web, tmp_path_factory.mktemp("plain") / "plain.pt")
    assert apart(kept["final"], ended(unet, kept)) < SAME
    return kept


def drawn(web: RealWebUI, path: Path, *texts: str, **more: Any) -> tuple[dict[str, Any], str]:
    return kept_of(web, path, {PANEL: texts}, **more)


@pytest.mark.parametrize("name", WAYS)
def test_it_ends_where_the_runner_ends(
    kept_web: RealWebUI, plain: Any, unet: UNet, tmp_path: Path, name: str
) -> None:
    texts = WAYS[name]
    kept, text = drawn(kept_web, tmp_path / "kept.pt", *texts)
    kin = open_kin(read_guidances(texts), Setting(unet.config))
    found = apart(kept["final"], ended(unet, kept, kin=kin))
    print(kept_web.name, name, found, apart(kept["final"], plain["final"]))
    assert found < SAME
    assert apart(kept["final"], plain["final"]) > SAME
    told = json.loads(json.loads(text.split("SigmaGraft: ")[1].rsplit(", Version", 1)[0]))
    assert told["guidance"] == ([one.text for one in read_guidances(texts)] if len(texts) > 1 else texts[0])


def test_batches_at_cfg_1_and_beside_a_control(kept_web: RealWebUI, unet: UNet, tmp_path: Path) -> None:
    kin = open_kin(read_guidances(["pag", "sag"]), Setting(unet.config))
    kept, _ = drawn(kept_web, tmp_path / "kept.pt", "pag; sag", batch_size=2)
    assert apart(kept["final"], ended(unet, kept, kin=kin)) < SAME
    beside = {PANEL: ["pag"], "sigmagraft control": [{"file": "reference", "image": PICTURE}]}
    together, _ = kept_of(kept_web, tmp_path / "kept.pt", beside)
    alone, _ = kept_of(
        kept_web, tmp_path / "kept.pt", {name: args for name, args in beside.items() if name != PANEL}
    )
    assert apart(together["final"], alone["final"]) > SAME
    assert torch.isfinite(together["final"]).all()


def test_the_run_after_is_the_run_before(kept_web: RealWebUI, tmp_path: Path) -> None:
    before, _ = drawn(kept_web, tmp_path / "before.pt")
    drawn(kept_web, tmp_path / "kept.pt", *WAYS["all"])
    assert "101" in kept_web.refusal(**WALK, alwayson_scripts={PANEL: {"args": ["pag:scale=101"]}})
    assert "did you mean" in kept_web.refusal(**WALK, alwayson_scripts={PANEL: {"args": ["resscale"]}})
    assert "no self-attention" in kept_web.refusal(
        **WALK, alwayson_scripts={PANEL: {"args": ["pag:layers=input.99"]}}
    )
    after, text = drawn(kept_web, tmp_path / "after.pt")
    assert torch.equal(after["final"], before["final"])
    assert after["hooks"] == before["hooks"]
    assert "guidance" not in text


def test_other_walks_are_guided(kept_web: RealWebUI, tmp_path: Path) -> None:
    hires: dict[str, Any] = {"enable_hr": True, "hr_scale": 2.0, "denoising_strength": 0.7}
    ways = [mode["name"] for route in ("latent-upscale-modes", "upscalers") for mode in kept_web.get(route)]
    hires |= {"hr_upscaler": next(name for name in ways if name not in (None, "None"))}
    if kept_web.name in ("forge", "neo"):
        hires |= {"hr_additional_modules": ["Use same choices"]}
    for walk in (
        hires,
        {"sampler_name": "DDIM", "scheduler": "Automatic"},
        {"prompt": "a cat AND a dog :0.5"},
    ):
        plain, _ = drawn(kept_web, tmp_path / "plain.pt", **walk)
        kept, _ = drawn(kept_web, tmp_path / "kept.pt", "pag; sag; rescale", **walk)
        assert apart(kept["final"], plain["final"]) > SAME, walk
        assert torch.isfinite(kept["final"]).all()
