"""Inside Forge or Forge Neo, without starting it: guidance and a clip on its own patcher, UNet and sampling function.

python forge_inside.py ROOT_OF_THE_HOST FOLDER_FOR_FILES FOLDER_OF_PYTEST -> a line of JSON, name of a check ->
what was found.
"""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT, FILES, TOOLS = map(Path, sys.argv[1:4])
REPOSITORY = Path(__file__).resolve().parents[3]
sys.argv = [
    "launch.py",
    "--cpu" if (ROOT / "modules_forge" / "packages" / "comfy").exists() else "--always-cpu",
]
PACKAGES = ("modules_forge/packages", "packages_3rdparty")
sys.path[:0] = [str(ROOT), *(str(ROOT / name) for name in PACKAGES)]

import torch  # noqa: E402
from backend.args import dynamic_args  # noqa: E402
from backend.modules.k_prediction import Prediction  # noqa: E402
from backend.nn.unet import IntegratedUNet2DConditionModel  # noqa: E402
from backend.patcher.unet import UnetPatcher  # noqa: E402
from backend.sampling.sampling_function import sampling_function  # noqa: E402

if hasattr(dynamic_args, "ops"):
    dynamic_args.ops = "Float32"  # as Forge Neo's loader names what a model's layers are made of
sys.path += [str(REPOSITORY), str(TOOLS)]
runpy.run_path(str(REPOSITORY / "bootstrap.py"))["load"]()
from tests.hosts.webui import walks  # noqa: E402
from tests.hosts.webui.double import WebUI  # noqa: E402

WebUI("forge").install(sys.modules.__setitem__)

from sigmagraft.animate.windows import Plan  # noqa: E402
from sigmagraft.guidance import read_guidances  # noqa: E402
from sigmagraft.hosts.webui import clip_choice, clip_walk, control_files, guidance_walk, walk_pass  # noqa: E402
from tests.animate.files import random_motion  # noqa: E402
from tests.hosts.webui import test_clip, test_guidance  # noqa: E402


class Linker(torch.nn.Module):
    """What stands between the host's sampler and its levels."""

    def __init__(self, predictor: Any, model: Any) -> None:
        super().__init__()
        self.predictor, self.inner_model = predictor, model

    @property
    def sigmas(self) -> Any:
        return self.predictor.sigmas


class Denoiser(torch.nn.Module):
    """The host's, as far as it asks its UNet."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner_model = Linker(model.forge_objects.unet.model.predictor, model)
        self.p = SimpleNamespace(seeds=[1])

    def forward(self, x: Any, sigma: Any, uncond: Any, cond: Any, cond_scale: float) -> Any:
        told = SimpleNamespace(x=x, sigma=sigma, image_cond=None, text_uncond=uncond)
        told.text_cond = torch.cat([image[0][0] for image in cond.batch])
        parts = [[(row, 1.0)] for row in range(len(x))]
        return sampling_function(self, told, cond_scale, parts)[0]


def processing() -> tuple[Any, Any, Any]:
    """(p, its denoiser, its UNet)."""
    config = walks.CONFIG
    unet = IntegratedUNet2DConditionModel(
        in_channels=4, out_channels=4, model_channels=config.model_channels, num_res_blocks=[1, 1],
        channel_mult=[1, 2], num_heads=8, use_spatial_transformer=True, transformer_depth=[1, 1],
        transformer_depth_output=[1, 1, 1, 1], transformer_depth_middle=1, context_dim=config.context_dim,
    )  # fmt: skip
    unet.load_state_dict(walks.unets()[0].state_dict())
    unet.eval().requires_grad_(False)
    unet.storage_dtype = unet.computation_dtype = torch.float32
    unet.load_device = unet.offload_device = unet.initial_device = torch.device("cpu")
    predictor = Prediction(1.0, "epsilon", "linear", 0.00085, 0.012, 1000)
    patcher = UnetPatcher.from_model(
        unet, None, SimpleNamespace(memory_usage_factor=1.0), k_predictor=predictor
    )
    model = SimpleNamespace(forge_objects=SimpleNamespace(unet=patcher), is_inpaint=False)
    denoiser = Denoiser(model)
    sampler = SimpleNamespace(func=walks.euler, model_wrap=denoiser.inner_model, model_wrap_cfg=denoiser)
    return SimpleNamespace(steps=3, sampler=sampler, seeds=[1, 2], sd_model=model), denoiser, unet


def state(p: Any, unet: Any) -> Any:
    patcher = p.sd_model.forge_objects.unet
    return id(patcher), repr(patcher.model_options), id(patcher.model.predictor), walks.hooks(unet)


def walk_on(levels: Any) -> None:
    """Walks on entries of a table: the host rounds a sigma to one."""
    walks.SIGMAS[:3] = [float(levels[k]) for k in (980, 600, 300)]


def guided() -> Any:
    walk_on(walks.TABLE)
    texts, x = test_guidance.ALL, test_guidance.start()
    negatives = torch.cat(test_guidance.NEGATIVES)
    p, model, unet = processing()
    before, plain = state(p, unet), walks.walked(p, model, x, test_guidance.SINGLE, negatives)
    for name, chosen in {"all": texts, **{text: [text] for text in ("pag", "sag", "apg:eta=0.5")}}.items():
        p.sampler.func = walks.euler
        part = walk_pass.Part(partial(guidance_walk.begin, read_guidances(chosen)))
        walk_pass.pass_of(p).put("guidance", part, x)
        found = walks.walked(p, model, x, test_guidance.SINGLE, negatives)
        wanted = test_guidance.runner(
            walks.unets()[0], chosen, test_guidance.PROMPTS, test_guidance.NEGATIVES, x
        )
        yield name, test_guidance.apart(found, wanted)
        yield f"{name} moves", test_guidance.apart(found, plain)
    p.sampler.func = walks.euler
    yield (
        "the walk after",
        bool(torch.equal(plain, walks.walked(p, model, x, test_guidance.SINGLE, negatives))),
    )
    yield "guidance leaves", state(p, unet) == before


def clips() -> Any:
    walk_on(test_clip.LINEAR.sigmas)
    folder = FILES / "models" / "sigmagraft" / "motion"
    folder.mkdir(parents=True)
    sys.modules["modules.paths"].models_path = str(FILES / "models")
    sys.modules["modules"].paths = sys.modules["modules.paths"]
    assert control_files.motion_names() == ["None"]
    for name in ("v1", "v2"):
        random_motion(folder / f"{name}.safetensors", walks.CONFIG, 4, middle=name == "v2")
        p, model, unet = processing()
        before, noise = state(p, unet), test_clip.start()
        clip = clip_choice.clip_of([{"file": name, "frames": test_clip.FRAMES}])
        walk_pass.pass_of(p).put("clip", clip_walk.part_of(p, clip), noise)
        found = test_clip.drawn(p, model, noise)
        wanted = test_clip.runner(folder / f"{name}.safetensors", noise, Plan(4, 3))
        yield f"clip {name}", test_clip.apart(found, wanted)
        yield f"clip {name} leaves", state(p, unet) == before


if __name__ == "__main__":
    with torch.inference_mode():
        print("CHECKS " + json.dumps(dict([*guided(), *clips()])), flush=True)
