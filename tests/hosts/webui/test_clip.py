"""Clips in the web UIs: what is asked and read back, walks that end where the runner's end, the file that comes out."""

from __future__ import annotations

import base64
import importlib
import io
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from sigmagraft.animate.acting import MotionActing
from sigmagraft.animate.files import open_motion
from sigmagraft.animate.free_noise import FreeNoise
from sigmagraft.animate.norms import over_frames
from sigmagraft.animate.windows import Plan
from sigmagraft.core.adapters import hooks_of
from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.samplers import SAMPLERS, drive
from sigmagraft.samplers.levels import NoiseLevels
from sigmagraft.standalone.animate_run import ClipDenoiser
from sigmagraft.standalone.guidance import guided

from ...animate.files import random_motion
from . import walks
from .double import WebUI
from .walks import CONFIG, FORGE, SIGMAS, contexts, hooks, processing, walked

OURS = "sigmagraft.hosts.webui"
FAMILIES = ("a1111", "forge")
FRAMES, LONGEST = 5, 4
LINEAR = NoiseLevels.discrete(beta_schedule="linear")
PROMPT, NEGATIVE = contexts(1, 1), contexts(1, 2)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A web UI's folder of models with motion modules, of v2 and of v1, for the small UNet; and for another."""
    folder = tmp_path / "models" / "sigmagraft" / "motion"
    folder.mkdir(parents=True)
    random_motion(folder / "v2.safetensors", CONFIG, LONGEST)
    random_motion(folder / "v1.safetensors", CONFIG, LONGEST, middle=False)
    other = UNetConfig(4, 4, 64, (1, 2), (1, 1), (1, 1), 1, 16, None, False, 8, None)
    random_motion(folder / "other.safetensors", other, LONGEST)
    monkeypatch.setitem(
        walks.sys.modules,
        "modules.paths",
        SimpleNamespace(models_path=tmp_path / "models", script_path=tmp_path),
    )
    return folder


@pytest.fixture
def ours(models: Path, make: Callable[..., WebUI], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A module of ours against the doubles."""
    make("a1111")
    monkeypatch.setitem(walks.sys.modules, FORGE, None)
    devices = SimpleNamespace(device="cpu", dtype_inference=torch.float32, dtype_unet=torch.float32)
    monkeypatch.setitem(walks.sys.modules, "modules.devices", devices)
    walks.sys.modules["modules"].devices = devices  # type: ignore[attr-defined]
    return lambda name: importlib.import_module(f"{OURS}.{name}")


def put(ours: Any, p: Any, model: Any, noise: Any, **clip: Any) -> None:
    """What the panel does as a pass begins."""
    p.sampler.model_wrap, p.sampler.model_wrap_cfg = model.inner_model, model
    asked = ours("clip_choice").clip_of([clip])
    ours("clip_walk").rescheduled(asked, p, noise)
    ours("walk_pass").pass_of(p).put("clip", ours("clip_walk").part_of(p, asked), noise)


def runner(
    path: Path, x: Any, plan: Any = None, norms: str = "authors", free: Any = None, scale: float = 4.0
) -> Any:
    """The runner's clip, on the levels of the modules."""
    unet, file = walks.unets()[0], open_motion(path)
    network = file.build(torch.device("cpu"), torch.float32)
    denoiser = ClipDenoiser(unet, LINEAR, "eps", torch.float32)
    denoiser.plan, denoiser.sigmas = plan, SIGMAS
    over = free.over if free else None
    denoiser.hooks = hooks_of([MotionActing(network, CONFIG, joint=norms == "diffusers", over=over)])
    denoise = guided(denoiser, *walks.sides(PROMPT * FRAMES, NEGATIVE * FRAMES), scale)
    volume = norms == "authors" and file.config.version == "v1"
    with torch.no_grad(), over_frames(unet, lambda: denoiser.sequences) if volume else nullcontext():
        return drive(SAMPLERS["euler"], denoise, x * SIGMAS[0], SIGMAS, levels=LINEAR, options={})


def start() -> Any:
    return torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(5))


def apart(one: Any, other: Any) -> float:
    return float((one - other).abs().max() / other.abs().max())


def drawn(p: Any, model: Any, noise: Any, scale: float = 4.0) -> Any:
    prompts = [[(PROMPT[0], 1.0)]] * FRAMES
    return walked(p, model, noise * SIGMAS[0], prompts, torch.cat(NEGATIVE * FRAMES), scale)


WAYS = {
    "windows": ({"windows": "automatic"}, {"plan": Plan(4, 3)}),
    "looped": ({"windows": "looped", "length": 3, "overlap": 1}, {"plan": Plan(3, 1, "looped")}),
    "stride": (
        {"windows": "uniform", "length": 2, "overlap": 1, "settings": "stride=2; fuse=flat"},
        {"plan": Plan(2, 1, "uniform", 2, "flat")},
    ),
    "v1": ({"file": "v1", "windows": "static", "length": 3, "overlap": 1}, {"plan": Plan(3, 1, "static")}),
    "diffusers": (
        {"file": "v1", "length": 4, "settings": "norms=diffusers"},
        {"plan": Plan(4, 3), "norms": "diffusers"},
    ),
    "alone": ({"windows": "automatic"}, {"plan": Plan(4, 3), "scale": 1.0}),
}


@pytest.mark.parametrize(
    ("family", "way"),
    [
        *(("a1111", way) for way in ("windows", "looped", "v1", "alone")),
        *(("forge", way) for way in ("windows", "stride", "v1", "diffusers")),
    ],
)
def test_a_clip_ends_where_the_runners_ends(ours: Any, models: Path, family: str, way: str) -> None:
    asked, wanted = WAYS[way]
    given = {"file": "v2", "frames": FRAMES, **asked}
    p, model, unet = processing(family)
    scale, before = wanted.get("scale", 4.0), hooks(unet)
    plain = drawn(p, model, start(), scale)
    put(ours, p, model, start(), **given)
    found = drawn(p, model, start(), scale)
    assert apart(found, runner(models / f"{given['file']}.safetensors", start(), **wanted)) < 2e-5
    assert apart(found, plain) > 1e-3
    assert hooks(unet) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_free_noise_and_calls_apart(ours: Any, models: Path, family: str) -> None:
    p, model, _ = processing(family, **({"together": False} if family == "a1111" else {}))
    p.seeds = [3]
    noise, free = start(), FreeNoise(4, 2)
    put(ours, p, model, noise, file="v2", frames=FRAMES, windows="FreeNoise", length=4, settings="stride=2")
    source = torch.Generator().manual_seed(3)
    wanted = free.rescheduled(start(), 0, lambda n: torch.randperm(n, generator=source))
    assert torch.equal(noise, wanted)
    assert apart(drawn(p, model, noise), runner(models / "v2.safetensors", wanted, free=free)) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_levels_and_network_are_the_hosts_again(ours: Any, family: str) -> None:
    p, model, unet = processing(family)
    before, ours_now = hooks(unet), []
    owner = p.sd_model if family == "a1111" else p.sd_model.forge_objects.unet.model
    name = "alphas_cumprod" if family == "a1111" else "predictor"
    setattr(owner, name, torch.linspace(1, 0.1, 1000) if family == "a1111" else walks.Predictor())
    kept = getattr(owner, name)

    def interrupted(*_: Any, **__: Any) -> Any:
        ours_now.append(getattr(owner, name))
        raise KeyboardInterrupt

    p.sampler.func = interrupted
    put(ours, p, model, start(), file="v2", frames=FRAMES)
    with pytest.raises(KeyboardInterrupt):
        drawn(p, model, start())
    assert ours_now[0] is not kept
    assert getattr(owner, name) is kept
    assert hooks(unet) == before


@pytest.mark.parametrize(
    ("clip", "error", "said"),
    [
        ({"frames": 0}, OptionError, "frames"),
        ({"fps": 1000}, OptionError, "fps"),
        ({"format": "TIFF"}, OptionError, "GIF"),
        ({"windows": "round"}, OptionError, "looped"),
        ({"windows": "static", "length": 5}, OptionError, "at most 4"),
        ({"windows": "none"}, OptionError, "at most 4"),
        ({"windows": "static", "length": 3, "overlap": 3}, OptionError, "overlap"),
        ({"settings": "strid=2"}, OptionError, "did you mean 'stride'"),
        ({"settings": "stride=99"}, OptionError, "0 to 64"),
        ({"fraems": 3}, OptionError, "did you mean 'frames'"),
        ({"file": "v3"}, FileError, "models/sigmagraft/motion"),
        ({"file": "other"}, FileError, "another model"),
    ],
)
def test_what_cannot_be_is_said(ours: Any, clip: dict[str, Any], error: type, said: str) -> None:
    p, model, _ = processing("a1111")

    def asked() -> None:
        put(ours, p, model, start(), **({"file": "v2", "frames": FRAMES} | clip))
        drawn(p, model, start())

    with pytest.raises(error, match=said):
        asked()


def panel(host: WebUI) -> Any:
    return next(kind for kind in host.scripts if kind.__name__ == "SigmaGraftClip")()


def generated(script: Any, p: Any, *args: Any) -> Any:
    for event in (script.before_process, script.process):
        event(p, *args)
    pictures = [Image.new("RGB", (8, 8), (40 * k, 0, 0)) for k in range(p.batch_size * p.n_iter)]
    done = SimpleNamespace(
        images=pictures, infotexts=[f"text {k}" for k in range(len(pictures))], comments=""
    )
    done.index_of_first_image, done.all_seeds = 0, list(range(len(pictures)))
    script.postprocess(p, done, *args)
    return done


def request(tmp_path: Path, **more: Any) -> Any:
    usual = {
        "batch_size": 1,
        "n_iter": 1,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
        "is_api": True,
    }
    return SimpleNamespace(
        extra_generation_params={}, outpath_samples=str(tmp_path / "out"), **(usual | more)
    )


def test_nothing_chosen_leaves_all_as_it_is(models: Path, host: WebUI, tmp_path: Path) -> None:
    script = panel(host)
    assert script.show(True) is False
    fields = script.ui(False)
    for args in ([], [field.value for field in fields], [{"frames": 7}]):
        p = request(tmp_path)
        kept = dict(vars(p))
        assert len(generated(script, p, *args).images) == 1
        assert {name: value for name, value in vars(p).items() if not name.startswith("sigmagraft")} == kept
        assert p.extra_generation_params == {}


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_a_generation_gives_one_clip(models: Path, one_host: WebUI, tmp_path: Path, format: str) -> None:
    script = panel(one_host)
    fields = script.ui(False)
    p = request(tmp_path, n_iter=2)
    done = generated(
        script, p, {"file": "v2", "frames": 3, "format": format, "fps": 4, "settings": "norms=diffusers"}
    )
    assert (p.batch_size, p.do_not_save_grid, p.do_not_save_samples) == (3, True, True)
    assert done.index_of_first_image == 2
    assert done.infotexts[:3] == ["text 0", "text 3", "text 0"]
    with Image.open(io.BytesIO(base64.b64decode(done.images[1]))) as clip:
        assert (clip.format, clip.n_frames) == (format, 3)  # type: ignore[attr-defined]
    written = sorted((tmp_path / "out" / "clips").iterdir())
    assert [path.name for path in written] == [f"0.{format.lower()}", f"3.{format.lower()}"]
    pasted = [value(p.extra_generation_params) for _, value in script.infotext_fields]
    assert pasted == ["v2", 3, 4.0, format, "automatic", 16, 4, 1.0, "norms=diffusers"]
    assert [value({}) for _, value in script.infotext_fields] == [field.value for field in fields]


def test_the_api_writes_no_file_unless_it_is_asked_to(models: Path, one_host: WebUI, tmp_path: Path) -> None:
    script = panel(one_host)
    done = generated(script, request(tmp_path, do_not_save_samples=True), {"file": "v2", "frames": 2})
    assert isinstance(done.images[0], str)
    assert not (tmp_path / "out").exists()
    frames = generated(script, request(tmp_path), {"file": "v2", "frames": 2, "format": "frames"})
    assert len(frames.images) == 2
    shown = generated(script, request(tmp_path, is_api=False), {"file": "v2", "frames": 2})
    assert Path(shown.images[0]).read_bytes()[:3] == b"GIF"
