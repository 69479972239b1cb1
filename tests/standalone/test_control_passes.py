"""pass=base, hires, both: in which of hires fix's two passes a control and an image prompt act."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sigmagraft.controlnet.model import ControlModel
from sigmagraft.controlnet.network import ControlNet
from sigmagraft.controlnet.settings import PASSES, Control
from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.standalone.control_text import read_control, recorded
from sigmagraft.standalone.metadata import from_text, to_text
from sigmagraft.standalone.pipeline import Pipeline, StepState

from ..controlnet.ip_small import image_encoder, picture, random_adapter
from ..controlnet.ip_small import saved as saved_adapter
from ..controlnet.peers import filled, saved
from .small import UNET, small_model

SETTINGS: dict[str, Any] = {"steps": 2, "cfg": 2.0, "seed": 1, "sampler": "euler", "size": (64, 64)}
HIRES = {"scale": 1.5, "steps": 2, "strength": 0.6}
BASE_SIDE, HIRES_SIDE = 8, 12  # of the latent


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture(scope="module")
def folder(pipe: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ControlNet and one of another family, two image adapters with an encoder, a picture and a face."""
    made, config = tmp_path_factory.mktemp("passes"), pipe.model.unet.config
    saved(filled(ControlNet(UNET, (3, 16, 16, 32, 32, 48, 48, 64, 32)), 2), made / "net.safetensors")
    wide = type(UNET)(**{**vars(UNET), "context_dim": 96})
    saved(filled(ControlNet(wide, (3, 16, 16, 32, 32, 48, 48, 64, 32)), 2), made / "wide.safetensors")
    saved_adapter(random_adapter("ipadapter_sd15", config), made / "ip.safetensors")
    saved_adapter(random_adapter("ipadapter-faceid_sd15", config, loras=True), made / "face.safetensors")
    image_encoder().save_pretrained(made / "image_encoder")
    picture(0).save(made / "a.png")
    torch.save(torch.randn(1, 512, generator=torch.Generator().manual_seed(0)), made / "face.pt")
    return made


GIVEN: dict[str, Callable[[Path], dict[str, str]]] = {
    "ControlNet": lambda f: {"control": f"none:{f}/net.safetensors:{f}/a.png"},
    "reference": lambda f: {"control": f"reference:{f}/a.png"},
    "IP-Adapter": lambda f: {"ip_adapter": f"{f}/ip.safetensors:{f}/a.png"},
    "FaceID with its LoRA": lambda f: {"ip_adapter": f"{f}/face.safetensors::face={f}/face.pt"},
}


def denoised(pipe: Pipeline, **settings: Any) -> dict[int, list[Tensor]]:
    """Side of the latent -> what each of its steps found."""
    found: dict[int, list[Tensor]] = {BASE_SIDE: [], HIRES_SIDE: []}

    def keep(state: StepState) -> None:
        found[state.latent.shape[-1]].append(state.denoised)

    pipe("a circle", **{**SETTINGS, "hires": HIRES, **settings}, callback=keep)
    return found


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", GIVEN)
def test_it_acts_in_the_pass_it_names(pipe: Pipeline, folder: Path, kind: str) -> None:
    plain = denoised(pipe)
    given = GIVEN[kind](folder)
    both, base, hires = (
        denoised(pipe, **{name: f"{text}:pass={which}" for name, text in given.items()}) for which in PASSES
    )
    assert same(both[BASE_SIDE], base[BASE_SIDE])
    assert not same(base[BASE_SIDE], plain[BASE_SIDE])
    assert same(hires[BASE_SIDE], plain[BASE_SIDE])
    assert not same(hires[HIRES_SIDE], plain[HIRES_SIDE])
    assert not same(hires[HIRES_SIDE], both[HIRES_SIDE])
    assert same(denoised(pipe)[HIRES_SIDE], plain[HIRES_SIDE])


@pytest.mark.parametrize(("which", "sides"), [("both", {8, 12}), ("base", {8}), ("hires", {12})])
def test_the_network_is_evaluated_in_that_pass_alone(
    pipe: Pipeline, folder: Path, which: str, sides: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    forward = ControlNet.forward

    def counted(self: ControlNet, inputs: Any, *rest: Any) -> Any:
        seen.add(inputs.x.shape[-1])
        return forward(self, inputs, *rest)

    monkeypatch.setattr(ControlNet, "forward", counted)
    denoised(pipe, control=f"none:{folder}/net.safetensors:{folder}/a.png:pass={which}")
    assert seen == sides


def test_both_passes_of_many_pictures_open_a_file_once(
    pipe: Pipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    load = ControlModel.load
    monkeypatch.setattr(ControlModel, "load", lambda path, *rest: (opened.append(path), load(path, *rest))[1])
    pipe.controls.unload()
    for _ in range(2):
        denoised(pipe, control=f"none:{folder}/net.safetensors:{folder}/a.png:pass=hires")
    assert len(opened) == 1


def test_a_run_of_one_pass_is_a_base_pass(pipe: Pipeline, folder: Path) -> None:
    text = f"none:{folder}/net.safetensors:{folder}/a.png"
    run = [pipe("a", **SETTINGS, control=one).latents for one in (text, f"{text}:pass=base")]
    assert torch.equal(*run)


MISTAKES = {
    "pass 'hire' .expected both or base or hires": {
        "control": "none:{0}/net.safetensors:{0}/a.png:pass=hire"
    },
    "pass 'first' .expected both": {"ip_adapter": "{0}/ip.safetensors:{0}/a.png:pass=first"},
    "in a run of one pass.*--hires": {
        "control": "none:{0}/net.safetensors:{0}/a.png:pass=hires",
        "hires": None,
    },
    "or leave pass out": {"ip_adapter": "{0}/ip.safetensors:{0}/a.png:pass=hires", "hires": None},
    "another family": {"control": "none:{0}/wide.safetensors:{0}/a.png:pass=hires"},
    "no such file": {"control": "none:{0}/none.safetensors:{0}/a.png:pass=hires"},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_told_before_anything_is_drawn(pipe: Pipeline, folder: Path, message: str) -> None:
    drawn: list[StepState] = []
    given = {name: text and text.format(folder) for name, text in MISTAKES[message].items()}
    with pytest.raises((OptionError, FileError), match=message):
        pipe("a", **{**SETTINGS, "hires": HIRES, **given}, callback=drawn.append)
    assert not drawn


def test_settings_make_the_same_picture_again(pipe: Pipeline, folder: Path) -> None:
    """Through the text that a PNG holds; of a Control made in Python the pass is kept as well."""
    given = {
        "control": [f"none:{folder}/net.safetensors:{folder}/a.png:pass=hires"],
        "ip_adapter": [{"model": f"{folder}/ip.safetensors", "image": f"{folder}/a.png", "pass": "base"}],
    }
    first = pipe("a circle", **SETTINGS, hires=HIRES, **given)
    kept = {name: value for name, value in first.settings.items() if name != "model"}
    again = from_text(to_text(kept)).settings
    assert (again["control"], again["ip_adapter"]) == (given["control"], given["ip_adapter"])
    assert torch.equal(pipe(again.pop("prompt"), **again).latents, first.latents)
    made = Control(model="m", image=Image.open(folder / "a.png"), passes="hires")
    assert read_control(recorded(made)[0]).passes == "hires"
