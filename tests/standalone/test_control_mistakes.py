"""What bad input gets from every kind of control and image prompt: a clear error, and a model without a trace of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sigmagraft.controlnet import ip_face
from sigmagraft.controlnet.ip_attention import ImageTerm
from sigmagraft.controlnet.lllite_acting import LLLiteActing
from sigmagraft.controlnet.network import ControlNet
from sigmagraft.controlnet.reference import Reference
from sigmagraft.controlnet.t2i import T2IAdapter, T2IConfig
from sigmagraft.core.errors import FileError, MissingPartError, OptionError
from sigmagraft.standalone.pipeline import Pipeline

from ..controlnet.ip_small import image_encoder, picture, random_adapter
from ..controlnet.ip_small import saved as saved_adapter
from ..controlnet.peers import filled
from .small import UNET, small_model

SETTINGS: dict[str, Any] = {"steps": 2, "cfg": 2.0, "seed": 1, "sampler": "euler", "size": (64, 64)}
HINT = (3, 16, 16, 32, 32, 48, 48, 64, 32)
WIDE = replace(UNET, model_channels=64)
REFUSED = (OptionError, FileError, MissingPartError)


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


def random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def control_lora(config: Any) -> dict[str, Tensor]:
    """Stability's layout: pairs in the place of matrices, the ControlNet's own layers whole."""
    whole = filled(ControlNet(config, (*HINT[:-1], config.model_channels)), 2).state_dict()
    state: dict[str, Tensor] = {"lora_controlnet": torch.zeros(0)}
    for name, weight in whole.items():
        own = name.startswith(("input_hint_block", "zero_convs", "middle_block_out")) or weight.ndim < 2
        stem = name.removesuffix(".weight")
        ones = (1,) * (weight.ndim - 2)
        state |= (
            {name: weight}
            if own
            else {
                f"{stem}.up": random(len(weight), 2, *ones, seed=1, scale=0.1),
                f"{stem}.down": random(2, *weight.shape[1:], seed=2, scale=0.1),
            }
        )
    return state


def differences(config: Any) -> dict[str, Tensor]:
    network = filled(ControlNet(config, (*HINT[:-1], config.model_channels)), 3)
    named = {f"control_model.{name}": value * 0.1 for name, value in network.state_dict().items()}
    return {**named, "difference": torch.zeros(0)}


def lllite(config: Any) -> dict[str, Tensor]:
    """kohya's layout: the query of the first level's self-attention."""
    name = "lllite_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    width, state = config.model_channels, {}
    for i, (into, out, kernel) in enumerate(((3, 8, 4), (8, 16, 4))):
        state[f"{name}.conditioning1.{2 * i}.weight"] = random(out, into, kernel, kernel, seed=i, scale=0.3)
        state[f"{name}.conditioning1.{2 * i}.bias"] = random(out, seed=i)
    for part, out, into in (("down", 8, width), ("mid", 8, 24), ("up", width, 8)):
        state[f"{name}.{part}.0.weight"] = random(out, into, seed=out, scale=0.3)
        state[f"{name}.{part}.0.bias"] = random(out, seed=into)
    return state


def t2i(config: Any) -> dict[str, Tensor]:
    return filled(T2IAdapter(T2IConfig(3, 8, tuple(config.widths), 2, 1)), 4).state_dict()


def controlnet(config: Any) -> dict[str, Tensor]:
    return filled(ControlNet(config, (*HINT[:-1], config.model_channels)), 2).state_dict()


MADE = {
    "controlnet": controlnet,
    "control-lora": control_lora,
    "difference": differences,
    "t2i": t2i,
    "lllite": lllite,
    "ip": lambda config: random_adapter("ipadapter_sd15", config),
    "face": lambda config: random_adapter("ipadapter-faceid_sd15", config, loras=True),
}
# kind -> where an exception is raised in it, in the middle of the UNet's evaluation or before it
INSIDE: dict[str, tuple[type, str]] = {
    "controlnet": (ControlNet, "forward"),
    "control-lora": (ControlNet, "enter"),
    "difference": (ControlNet, "between"),
    "t2i": (T2IAdapter, "forward"),
    "lllite": (LLLiteActing, "_shifted"),
    "reference": (Reference, "_own"),
    "reference_adain": (Reference, "_styled"),
    "ip": (ImageTerm, "__call__"),
    "face": (ImageTerm, "_prepare"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind for the small model, and as wide-KIND for one twice as wide."""
    made = tmp_path_factory.mktemp("mistakes")
    for kind, make in MADE.items():
        for name, config in ((kind, UNET), (f"wide-{kind}", WIDE)):
            saved_adapter(dict(make(config)), made / f"{name}.safetensors")
    image_encoder().save_pretrained(made / "image_encoder")
    picture(0).save(made / "a.png")
    Image.new("L", (64, 64)).save(made / "black.png")
    Image.new("RGBA", (64, 64), (255, 255, 255, 0)).save(made / "clear.png")
    torch.save(random(1, 512, seed=0), made / "face.pt")
    return made


def asked(folder: Path, kind: str, file: str | None = None, more: str = "") -> dict[str, Any]:
    """The setting that asks for it."""
    place = f"{folder}/{file or kind}.safetensors"
    if kind == "face":
        return {"ip_adapter": [f"{place}::face={folder}/face.pt{more}"]}
    if kind == "ip":
        return {"ip_adapter": [f"{place}:{folder}/a.png{more}"]}
    return {"control": [f"{kind if 'reference' in kind else f'none:{place}'}:{folder}/a.png{more}"]}


def drawn(pipe: Pipeline, **more: Any) -> Tensor:
    return pipe("a circle", **{**SETTINGS, **more}).latents


def fingerprint(pipe: Pipeline) -> tuple[str, int, list[str]]:
    """Of all weights; how many hooks there are; what of the modules is replaced."""
    digest, hooks, replaced = hashlib.sha256(), 0, []
    for part in (pipe.model.unet, *pipe.model.texts):
        for name, value in part.state_dict().items():
            digest.update(name.encode() + value.numpy().tobytes())
        for name, module in part.named_modules():
            hooks += len(module._forward_hooks) + len(module._forward_pre_hooks)
            replaced += [name] * ("forward" in vars(module))
    return digest.hexdigest(), hooks, replaced


@pytest.fixture(scope="module")
def before(pipe: Pipeline) -> tuple[Tensor, tuple[str, int, list[str]]]:
    """A run and the model before any adapter was there."""
    return drawn(pipe), fingerprint(pipe)


@pytest.fixture
def untouched(pipe: Pipeline, before: tuple[Tensor, tuple[str, int, list[str]]]) -> Iterator[None]:
    """The next run is the one before, and the model is what it was, tensor by tensor."""
    yield
    assert torch.equal(drawn(pipe), before[0])
    assert fingerprint(pipe) == before[1]


class Broken(Exception):
    """Raised inside a hook."""


@pytest.mark.parametrize("kind", INSIDE)
@pytest.mark.usefixtures("untouched")
def test_an_exception_inside_a_hook_leaves_no_trace(
    pipe: Pipeline, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise Broken

    with monkeypatch.context() as patched:
        patched.setattr(*INSIDE[kind], fail)
        with pytest.raises(Broken):
            drawn(pipe, **asked(folder, kind))


@pytest.mark.usefixtures("untouched")
def test_an_exception_inside_the_model_leaves_no_trace_of_any_of_them(pipe: Pipeline, folder: Path) -> None:
    """All kinds act at once, and the network fails in its last block."""
    given: dict[str, list[str]] = {"control": [], "ip_adapter": []}
    for kind in INSIDE:
        for name, texts in asked(folder, kind).items():
            given[name] += texts

    def fail(*_: Any) -> None:
        raise Broken

    handle = pipe.model.unet.output_blocks[-1].register_forward_hook(fail)
    try:
        with pytest.raises(Broken):
            drawn(pipe, **given)
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.usefixtures("untouched")
def test_an_adapter_of_another_family_is_refused(pipe: Pipeline, folder: Path, kind: str) -> None:
    with pytest.raises(REFUSED, match=r"family|the model's is|wide|width"):
        drawn(pipe, **asked(folder, kind, f"wide-{kind}"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"control": "none:{0}/ip.safetensors:{0}/a.png"}, "IP-Adapter"),
        ({"ip_adapter": "{0}/controlnet.safetensors:{0}/a.png"}, "ControlNet"),
        ({"control": "none:{0}/controlnet.safetensors:{0}/a.png:mask={0}/black.png"}, "all black"),
        ({"control": "none:{0}/controlnet.safetensors:{0}/a.png:mask={0}/clear.png"}, "all black"),
        ({"ip_adapter": "{0}/ip.safetensors:{0}/a.png:mask={0}/clear.png"}, "all black"),
        (
            {"control": "none:{0}/controlnet.safetensors:{0}/a.png:weights=1,1"},
            "2 control weights .expected 5",
        ),
        ({"control": "none:{0}/t2i.safetensors:{0}/a.png:weights=1"}, "1 .*weights .expected"),
        ({"ip_adapter": "{0}/ip.safetensors:{0}/a.png:weight=1,2", "batch": 3}, "2 weights for 3"),
        ({"ip_adapter": "{0}/face.safetensors:{0}/a.png"}, "no face was found in picture 1"),
        ({"ip_adapter": "{0}/face.safetensors::face={0}/a.png"}, "a.png"),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_a_mistake_is_named(
    pipe: Pipeline, folder: Path, given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = ModuleType("insightface.app")
    blind.FaceAnalysis = Blind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "insightface.app", blind)
    ip_face._analysis.cache_clear()
    texts = {name: text.format(folder) if isinstance(text, str) else text for name, text in given.items()}
    try:
        with pytest.raises(REFUSED, match=words):
            drawn(pipe, **texts)
    finally:
        ip_face._analysis.cache_clear()


class Blind:
    """A stand-in for insightface that finds no face."""

    def __init__(self, **_: object) -> None: ...

    def prepare(self, **_: object) -> None: ...

    def get(self, bgr: np.ndarray) -> list[object]:
        return []


@pytest.mark.parametrize("kind", ["controlnet", "t2i", "ip"])
@pytest.mark.usefixtures("untouched")
def test_two_on_one_block_add_up(pipe: Pipeline, folder: Path, kind: str) -> None:
    """The same one twice at half its strength is the one; another beside it is not lost, in either order."""
    name, texts = next(iter(asked(folder, kind).items()))
    word = "weight" if kind == "ip" else "strength"
    half = f"{texts[0]}:{word}=0.5"
    alone = drawn(pipe, **{name: texts})
    torch.testing.assert_close(drawn(pipe, **{name: [half, half]}), alone, atol=1e-4, rtol=1e-4)
    other = f"{texts[0]}:{word}=0.2"
    both = drawn(pipe, **{name: [texts[0], other]})
    assert (both - alone).abs().max() > 1e-4
    torch.testing.assert_close(drawn(pipe, **{name: [other, texts[0]]}), both, atol=1e-4, rtol=1e-4)
