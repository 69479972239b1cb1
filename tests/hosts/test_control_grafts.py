"""Patches in a host's UNet do what the runner's UNet does with them, fold with others', and are gone afterwards."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.controlnet.ip_adapter import IPAdapter
from sigmagraft.controlnet.ip_apply import image_adapters
from sigmagraft.controlnet.ip_features import Features
from sigmagraft.controlnet.ip_settings import ImagePrompt
from sigmagraft.controlnet.model import ControlModel
from sigmagraft.controlnet.settings import Control
from sigmagraft.controlnet.strength import Timeline
from sigmagraft.core.adapters import patches_of
from sigmagraft.core.errors import OptionError
from sigmagraft.core.patch import BlockPatch, Hooks, Inputs, OutputPatch, SkipPatch, StepInfo
from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.hosts import control_options
from sigmagraft.hosts.control_config import config_of
from sigmagraft.hosts.control_entry import entered
from sigmagraft.hosts.control_run import ControlAsk, ControlRun, ImageAsk
from sigmagraft.hosts.webui import control_ldm
from sigmagraft.standalone.unet import UNet

from ..controlnet.peers import host_of
from . import control_files as files
from .patched_unet import PatchedUNet

CONFIG = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 16, None, False, 8, None)
BRANCHES = ("uncond", "cond")
KINDS = (
    "controlnet",
    "t2i",
    "lllite",
    "union",
    "control_lora",
    "reference",
    "reference_adain",
    "reference_both",
)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return files.filled(UNet(CONFIG), 1)


@pytest.fixture(scope="module")
def unet(state: dict[str, Tensor]) -> UNet:
    made = UNet(CONFIG)
    made.load_state_dict(state)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def patched(state: dict[str, Tensor]) -> PatchedUNet:
    made = PatchedUNet(CONFIG)
    made.load_state_dict(state)
    return made.eval().requires_grad_(False)


def inputs() -> Inputs:
    g = torch.Generator().manual_seed(3)
    x, context = torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 5, 16, generator=g)
    return Inputs(x, torch.full((2,), 601.0), context)


INFO = StepInfo(5.0, branches=BRANCHES, inputs=inputs())


def asked(kind: str, folder: Path) -> Any:
    """An ask of this kind with a picture."""
    if kind == "ip-adapter":
        weights = IPAdapter.load(files.save(folder, kind, files.ip_adapter(CONFIG)))
        features = Features(pooled=torch.randn(1, 24, generator=torch.Generator().manual_seed(4)))
        prompt = ImagePrompt(features=features, weight=0.7)
        return ImageAsk(image_adapters(weights, CONFIG, Timeline([1.0, 0.0]), prompt, None))  # type: ignore[arg-type]
    if kind.startswith("reference"):
        return ControlAsk(Control(model=kind, image=files.picture(1)))
    model = ControlModel.load(files.save(folder, kind, getattr(files, kind)(CONFIG)))
    types = {"types": ["canny"]} if kind == "union" else {}
    return ControlAsk(Control(model=model, image=files.picture(1), strength=0.8, **types))  # type: ignore[arg-type]


def runner(unet: UNet, *asks: Any) -> Tensor:
    """What the runner's UNet answers."""
    patches = patches_of([one for ask in asks for one in ask(host_of(unet))])(INFO)
    assert patches
    assert INFO.inputs is not None
    given = INFO.inputs
    return unet(given.x, given.timesteps, given.context, None, Hooks(patches, INFO))


def run_of(unet: UNet, graft: Any, *asks: Any) -> ControlRun:
    run = ControlRun(lambda evaluate: host_of(unet, evaluate=evaluate), graft)
    for ask in asks:
        run.add(ask)
    return run


def by_options(unet: PatchedUNet, *asks: Any, options: Any = None, control: Any = None) -> Tensor:
    """What a host with transformer_options answers."""
    assert INFO.inputs is not None
    given = INFO.inputs

    def call(seen: Inputs, told: Any) -> Tensor:
        return unet(seen.x, seen.timesteps, seen.context, transformer_options=told)

    with run_of(unet, control_options.grafted, *asks).around(unet, INFO, options or {}, call) as told:
        return unet(given.x, given.timesteps, given.context, control=control, transformer_options=told)


def by_hooks(unet: UNet, *asks: Any) -> Tensor:
    """What a host without them answers."""
    assert INFO.inputs is not None
    given = INFO.inputs

    def call(seen: Inputs, told: Any) -> Tensor:
        return unet.forward(seen.x, seen.timesteps, seen.context)

    run = run_of(unet, control_ldm.grafted, *asks)

    def around(args: Any, named: Any) -> Any:
        return _kept(run.around(unet, INFO, {}, call), (args, named))

    with entered(unet, around):
        return unet(given.x, given.timesteps, given.context)


class _kept:
    def __init__(self, inner: Any, answer: Any) -> None:
        self.inner, self.answer = inner, answer

    def __enter__(self) -> Any:
        self.inner.__enter__()
        return self.answer

    def __exit__(self, *error: Any) -> Any:
        return self.inner.__exit__(*error)


def hooks_in(unet: UNet) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())


def plain(unet: UNet) -> Tensor:
    assert INFO.inputs is not None
    return unet(INFO.inputs.x, INFO.inputs.timesteps, INFO.inputs.context)


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "ip-adapter"])
def test_a_hosts_unet_answers_what_ours_does(
    kind: str, unet: UNet, patched: PatchedUNet, tmp_path: Path
) -> None:
    before = plain(unet)
    wanted = runner(unet, asked(kind, tmp_path))
    assert not same(wanted, before)
    assert same(by_options(patched, asked(kind, tmp_path)), wanted)
    assert same(by_hooks(unet, asked(kind, tmp_path)), wanted)
    assert hooks_in(unet) == hooks_in(patched) == 0
    assert torch.equal(plain(unet), before)


def test_several_at_once(unet: UNet, patched: PatchedUNet, tmp_path: Path) -> None:
    asks = [asked(kind, tmp_path) for kind in ("controlnet", "t2i", "lllite", "ip-adapter", "reference_both")]
    wanted = runner(unet, *asks)
    assert same(by_options(patched, *asks), wanted)
    assert same(by_hooks(unet, *asks), wanted)


class Other:
    """Patches of kinds that controls do not use, as guidance and motion do."""

    def active(self, info: StepInfo) -> bool:
        return True

    def patches(self) -> list[Any]:
        return [
            OutputPatch(("input", 1), 0, "attn1", lambda out, q, k, v, info: out * 0.5 + v),
            SkipPatch(("output", 1), lambda x, skip, info: (x * 1.1, skip * 0.9)),
            BlockPatch(("middle", 0), lambda x, info: x * 0.8, inside=True),
            BlockPatch(("output", 3), lambda x, info: x * 1.2),
        ]


def test_every_kind_of_patch(unet: UNet, patched: PatchedUNet) -> None:
    ask = lambda host: [Other()]  # noqa: E731
    wanted = runner(unet, ask)
    assert not same(wanted, plain(unet))
    assert same(by_options(patched, ask), wanted)
    assert same(by_hooks(unet, ask), wanted)


def test_others_lists_act_and_stay_as_they_were(patched: PatchedUNet, tmp_path: Path) -> None:
    """The host's own ControlNet, FreeU and a change of projections, with ours between them."""
    seen: list[str] = []

    def free(h: Tensor, skip: Tensor, told: Any) -> tuple[Tensor, Tensor]:
        seen.append("free")
        return h * 1.1, skip * 0.9

    def project(q: Tensor, k: Tensor, v: Tensor, told: Any) -> tuple[Tensor, Tensor, Tensor]:
        seen.append("project")
        return q, k * 1.2, v

    options = {"patches": {"output_block_patch": [free], "attn2_patch": [project]}}
    before = repr(options)
    first, second = asked("controlnet", tmp_path), asked("lllite", tmp_path)
    assert INFO.inputs is not None
    given = INFO.inputs
    host = host_of(patched)
    patches = patches_of([one for ask in (first, second) for one in ask(host)])(INFO)
    hooks = Hooks(patches, INFO)
    zero = [torch.zeros(1)] * 5
    own = {
        "output": [hooks.residual(("output", n), zero[n]) for n in reversed(range(4))],
        "middle": [hooks.residual(("middle", 0), zero[4])],
    }
    alone = {
        **options,
        "patches": {**options["patches"], "attn1_patch": [control_options._projecting("attn1", hooks)]},
    }
    alone["patches"]["attn2_patch"] = [project, control_options._projecting("attn2", hooks)]
    wanted = patched(given.x, given.timesteps, given.context, control=own, transformer_options=alone)
    got = by_options(patched, first, second, options=options)
    assert same(got, wanted)
    assert set(seen) == {"free", "project"}
    assert repr(options) == before


@pytest.mark.parametrize("way", ["options", "hooks"])
def test_an_exception_leaves_nothing(way: str, unet: UNet, patched: PatchedUNet, tmp_path: Path) -> None:
    host = patched if way == "options" else unet
    before = plain(host)

    class Breaks(Other):
        def patches(self) -> list[Any]:
            def fail(x: Tensor, info: StepInfo) -> Tensor:
                raise OptionError("no more")

            return [*super().patches(), BlockPatch(("output", 0), fail)]

    asks = [asked("lllite", tmp_path), lambda host: [Breaks()]]
    with pytest.raises(OptionError, match="no more"):
        by_options(patched, *asks) if way == "options" else by_hooks(unet, *asks)
    assert hooks_in(host) == 0
    assert torch.equal(plain(host), before)


def test_out_of_its_range_nothing_is_put_in(patched: PatchedUNet, tmp_path: Path) -> None:
    model = ControlModel.load(files.save(tmp_path, "cn", files.controlnet(CONFIG)))
    ask = ControlAsk(Control(model=model, image=files.picture(1), sigma_end=6.0))
    options: dict[str, Any] = {"patches": {}}
    with run_of(patched, control_options.grafted, ask).around(
        patched, INFO, options, lambda *_: None
    ) as told:
        assert told == options
        assert hooks_in(patched) == 0


def test_sizes_are_read_off_the_modules(unet: UNet) -> None:
    assert config_of(unet) == CONFIG
    xl = UNetConfig(4, 4, 64, (1, 2), (1, 1), (1, 2), 2, 16, 12, True, None, 64)
    assert config_of(UNet(xl)) == xl
    with pytest.raises(OptionError, match="another kind"):
        config_of(torch.nn.Linear(2, 2))


def test_a_host_that_calls_twice_is_entered_twice(unet: UNet) -> None:
    calls: list[int] = []

    def around(args: Any, named: Any) -> Any:
        calls.append(1)
        return nullcontext((args, named))

    with entered(unet, around):
        plain(unet)
        plain(unet)
    plain(unet)
    assert len(calls) == 2
