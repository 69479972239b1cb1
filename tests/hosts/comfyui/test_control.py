"""Controls on a double of ComfyUI's MODEL: who is asked when, what clones share, what a walk leaves behind."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.controlnet.model import ControlModel, acting
from sigmagraft.controlnet.preprocess import PREPROCESSORS, preprocess
from sigmagraft.controlnet.settings import Control
from sigmagraft.controlnet.strength import Timeline, output_weights
from sigmagraft.controlnet.written import keyframes, numbers
from sigmagraft.core.adapters import hooks_of
from sigmagraft.core.errors import OptionError
from sigmagraft.core.patch import Inputs, StepInfo
from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.hosts.comfyui.control_hint_nodes import AnyPreprocessor, CollectHints, preprocessor_node
from sigmagraft.hosts.comfyui.control_networks import control_network
from sigmagraft.hosts.comfyui.control_nodes import ApplyControl
from sigmagraft.hosts.comfyui.control_patch import KEY
from sigmagraft.hosts.comfyui.control_pictures import mask_picture, pictures, tensor_of
from sigmagraft.hosts.comfyui.control_text_nodes import BlockWeights, Keyframe

from ...controlnet.peers import host_of
from .. import control_files as files
from ..patched_unet import PatchedUNet
from . import double

CONFIG = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 16, None, False, 8, None)
SIGMAS = [10.0, 4.0, 1.0, 0.0]
A = files.picture(1)


class Patcher(double.Patcher):
    """MODEL around a UNet that knows transformer_options."""

    def __init__(self, base: Any) -> None:
        self.model, self.wrappers, self.models = base, {}, {}
        self.patches: dict[str, Any] = {}
        self.backup: dict[str, Any] = {}

    def clone(self) -> Patcher:
        made = Patcher(self.model)
        made.wrappers = {
            kind: {key: list(w) for key, w in keys.items()} for kind, keys in self.wrappers.items()
        }
        made.models = dict(self.models)
        return made

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Any) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def get_wrappers(self, kind: str, key: str) -> list[Any]:
        return self.wrappers.get(kind, {}).get(key, [])

    def get_additional_models_with_key(self, key: str) -> list[Any]:
        return self.models.get(key, [])

    def set_additional_models(self, key: str, models: list[Any]) -> None:
        self.models[key] = models

    def get_model_object(self, name: str) -> Any:
        return self.model.model_sampling

    def all_of(self, kind: str) -> list[Any]:
        return [wrapper for listed in self.wrappers.get(kind, {}).values() for wrapper in listed]


class Sampling(double.Discrete):
    def percent_to_sigma(self, percent: float) -> float:
        return 14.6 * (1 - percent)


@pytest.fixture
def model(host: dict[str, ModuleType]) -> Patcher:
    wrappers: Any = host["comfy.patcher_extension"].WrappersMP
    wrappers.DIFFUSION_MODEL = "diffusion_model"
    management: Any = host["comfy.model_management"]
    management.unet_offload_device = lambda: torch.device("cpu")
    patcher: Any = ModuleType("comfy.model_patcher")
    patcher.ModelPatcher = lambda module, load_device, offload_device: SimpleNamespace(model=module)
    host["comfy.model_patcher"] = patcher
    import sys

    sys.modules["comfy.model_patcher"] = patcher
    unet = PatchedUNet(CONFIG)
    unet.load_state_dict(files.filled(PatchedUNet(CONFIG), 1))
    base = SimpleNamespace(
        diffusion_model=unet.eval().requires_grad_(False),
        model_sampling=Sampling(),
        latent_format=SimpleNamespace(spacial_downscale_ratio=8),
        get_dtype=lambda: torch.float32,
    )
    return Patcher(base)


def given() -> Inputs:
    g = torch.Generator().manual_seed(3)
    return Inputs(
        torch.randn(2, 4, 8, 8, generator=g), torch.full((2,), 601.0), torch.randn(2, 5, 16, generator=g)
    )


ROLES = {"positive": [{"uuid": "p"}], "negative": [{"uuid": "n"}]}


def walk(model: Patcher, order: tuple[str, ...] = ("n", "p"), roles: Any = None) -> list[Tensor]:
    """What the UNet answers at each level of a walk, the way the host calls it."""
    guider = SimpleNamespace(model_patcher=model, inner_model=model.model, conds=roles or ROLES)
    extra = {"model_options": {"transformer_options": {}}, "seed": 1}
    unet, inputs, found = model.model.diffusion_model, given(), []

    def sample(
        guider: Any, sigmas: Tensor, extra_args: Any, callback: Any, noise: Tensor, *rest: Any
    ) -> None:
        for sigma in sigmas[:-1]:
            told = copy.deepcopy(
                extra_args["model_options"]["transformer_options"]
            )  # hosts copy their options
            told |= {"cond_or_uncond": [1 if name == "n" else 0 for name in order], "uuids": list(order)}
            told["sigmas"] = sigma[None]
            call = double.Executor(unet.forward, unet, model.all_of("diffusion_model"))
            found.append(call(inputs.x, inputs.timesteps, inputs.context, None, None, told))

    wrappers = model.all_of("sampler_sample")
    noise = torch.randn(1, 4, 8, 8)
    double.Executor(sample, None, wrappers)(
        guider, torch.tensor(SIGMAS), extra, None, noise, None, None, True
    )
    return found


def expected(
    model: Patcher, control: Control, branches: tuple[Any, ...] = ("uncond", "cond")
) -> list[Tensor]:
    """The same by the runner's hooks."""
    from sigmagraft.standalone.unet import UNet

    unet = UNet(CONFIG)
    unet.load_state_dict(model.model.diffusion_model.state_dict())
    hooks = hooks_of([acting(control, host_of(unet, timeline=Timeline(SIGMAS)))])
    inputs = given()
    with torch.no_grad():
        return [
            unet(
                inputs.x,
                inputs.timesteps,
                inputs.context,
                None,
                hooks(StepInfo(s, branches=branches, inputs=inputs)),
            )
            for s in SIGMAS[:-1]
        ]


def image(*shown: Any) -> Tensor:
    return tensor_of(shown or [A])


def applied(model: Any, folder: Path, kind: str = "controlnet", **more: Any) -> Any:
    path = folder / f"{kind}.safetensors"
    if not path.exists():
        files.save(folder, kind, getattr(files, kind)(CONFIG))
    fields = ApplyControl.INPUT_TYPES()
    usual = {
        name: told.get("default", of[0] if isinstance(of, list) else None)
        for name, (of, told) in {**fields["required"], **fields["optional"]}.items()
        if isinstance(of, list) or "default" in told
    }
    made = {"model": model, "control": control_network(path), "image": image()} | more
    return ApplyControl().make(**(usual | made))[0]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.allclose(x, y, rtol=1e-5, atol=1e-5) for x, y in zip(a, b, strict=True))


def test_a_walk_is_the_runners(model: Patcher, tmp_path: Path) -> None:
    plain = walk(model)
    settings: dict[str, Any] = {"strength": 0.7, "end": 0.67, "mode": "control"}
    controlled = applied(model, tmp_path, **settings)
    loaded = ControlModel.load(tmp_path / "controlnet.safetensors")
    found = walk(controlled)
    assert same(found, expected(model, Control(model=loaded, image=A, **settings)))
    assert not same(found[:2], plain[:2])
    assert same(found[2:], plain[2:])
    # the prompt's half is told by whose conditioning it is, not by its place or number
    assert same(
        walk(controlled, order=("p", "n")),
        expected(model, Control(model=loaded, image=A, **settings), ("cond", "uncond")),
    )
    assert all(torch.equal(a, b) for a, b in zip(walk(model), plain, strict=True))


def test_the_whole_schedule_as_a_range(model: Patcher, tmp_path: Path) -> None:
    """start and end by the schedule are noise levels: 0.5 of it is sigma 7.3 here."""
    found = walk(applied(model, tmp_path, start=0.0, end=0.5, range="schedule"))
    plain = walk(model)
    assert not same(found[:1], plain[:1])
    assert same(found[1:], plain[1:])
    assert same(walk(applied(model, tmp_path, sigma_start=5.0, sigma_end=2.0))[::2], plain[::2])


def test_nodes_stand_in_any_order_and_clones_keep_to_themselves(model: Patcher, tmp_path: Path) -> None:
    first = applied(applied(model, tmp_path), tmp_path, "t2i", strength=0.5)
    second = applied(applied(model, tmp_path, "t2i", strength=0.5), tmp_path)
    assert same(walk(first), walk(second))
    assert len(first.get_wrappers("diffusion_model", KEY)) == 1
    assert len(first.get_additional_models_with_key(KEY)) == 2
    alone = applied(model, tmp_path)
    applied(alone, tmp_path, "t2i")  # a branch of the workflow that goes elsewhere
    assert same(walk(alone), walk(applied(model, tmp_path)))
    assert model.wrappers == model.models == {}


def test_what_raises_leaves_nothing(model: Patcher, tmp_path: Path) -> None:
    plain = walk(model)
    wrong = applied(applied(model, tmp_path, "lllite"), tmp_path, image=image(A, files.picture(2)))
    with pytest.raises(OptionError, match="2 control pictures for 1 images"):
        walk(wrong)
    unet = model.model.diffusion_model
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())
    assert all(torch.equal(a, b) for a, b in zip(walk(model), plain, strict=True))


def test_a_union_takes_its_types_from_the_hints(model: Patcher, tmp_path: Path) -> None:
    hints = CollectHints().make(image(), "canny", "low=50", "canny")[0]
    hints = CollectHints().make(image(files.picture(2)), "none", "", "depth", hints)[0]
    found = walk(applied(model, tmp_path, "union", image=None, hints=hints))
    loaded = ControlModel.load(tmp_path / "union.safetensors")
    shown = [preprocess("canny", A, {"low": 50}), files.picture(2)]
    assert same(found, expected(model, Control(model=loaded, image=shown, types=["canny", "depth"])))
    with pytest.raises(OptionError, match="with and without a type"):
        CollectHints().make(image(), "none", "", "none", hints)
    with pytest.raises(OptionError, match="both image and hints"):
        applied(model, tmp_path, "union", hints=hints)


def test_lists_are_written_by_nodes() -> None:
    first = Keyframe().make(0.0, 1.0)[0]
    second = Keyframe().make(0.5, 0.25, first)[0]
    assert ApplyControl.VALIDATE_INPUTS(keyframes=second) is True
    assert keyframes("keyframes", second) == [(0.0, 1.0), (0.5, 0.25)]
    soft = numbers("weights", BlockWeights().make("SD1, SD2", 0.825, 1.0, 1.0, 1.0)[0])
    assert soft == pytest.approx(output_weights(Control(model="", mode="prompt"), 13), rel=1e-5)
    parts = numbers("weights", BlockWeights().make("SDXL", 1.0, 0.0, 0.5, 2.0)[0])
    assert parts == [0.0] * 5 + [0.5] * 4 + [2.0]


def test_widgets_are_refused_before_anything_runs() -> None:
    assert ApplyControl.VALIDATE_INPUTS() is True
    assert "start" in str(ApplyControl.VALIDATE_INPUTS(start=0.8, end=0.2))
    assert "keyframes" in str(ApplyControl.VALIDATE_INPUTS(keyframes="0.5@1, 0@1"))
    assert "a number" in str(ApplyControl.VALIDATE_INPUTS(block_weights="one"))
    assert "lwo" in str(ApplyControl.VALIDATE_INPUTS(preprocessor="canny", options="lwo=3"))
    assert "low" in str(AnyPreprocessor.VALIDATE_INPUTS("canny", "low=x"))


@pytest.mark.parametrize("name", ["canny", "invert", "tile", "none"])
def test_a_preprocessors_node_gives_its_hint(name: str) -> None:
    node = preprocessor_node(PREPROCESSORS[name])
    (found,) = node().make(image=image(A, files.picture(2)))
    assert torch.equal(found, tensor_of([preprocess(name, one) for one in (A, files.picture(2))]))


def test_holes_travel_as_pixels_of_minus_one() -> None:
    mask = torch.zeros(1, 64, 64)
    mask[:, :32] = 1.0
    node = preprocessor_node(PREPROCESSORS["inpaint"])
    (found,) = node().make(image=image(), mask=mask)
    assert (found[:, :32] == -1).all()
    assert torch.equal(found[:, 32:], image()[:, 32:])
    (picture,) = pictures(found)
    assert picture.mode == "RGBA"
    assert torch.equal(tensor_of([picture]), found)
    shown = mask_picture(mask)
    assert shown is not None
    assert shown.getextrema() == (0, 255)
