"""Inside a real ComfyUI: a batch under our motion nodes against the runner's clip on the same weights.

python motion_inside.py ROOT_OF_COMFYUI FOLDER_FOR_FILES -> a line of JSON, name of a check -> what was found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import control_inside as inside
import torch

from sigmagraft.animate.acting import MotionActing
from sigmagraft.animate.files import diffusers_name, open_motion
from sigmagraft.animate.network import MIDDLE, ModuleSizes, Motion, MotionConfig, places
from sigmagraft.animate.norms import over_frames
from sigmagraft.animate.windows import Plan
from sigmagraft.samplers.levels import NoiseLevels
from sigmagraft.standalone.animate_run import ClipDenoiser

FOLDER = inside.FILES / "models" / "animatediff_models"
FRAMES = 5


def write(name: str, middle: bool) -> None:
    """Random motion modules for the tiny model, in the node's folder."""
    torch.manual_seed(4)
    sizes = {
        path: ModuleSizes(width, 8)
        for path, (_, width) in places(inside.CONFIG).items()
        if middle or path != MIDDLE
    }
    network = Motion(MotionConfig(sizes))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    tensors = {diffusers_name(key): value for key, value in network.state_dict().items()}
    inside.files.save(FOLDER, name, tensors)


def moving(name: str, **given: Any) -> Any:
    loaded = inside.node("SigmaGraftMotionLoader", file=f"{name}.safetensors")
    return inside.node("SigmaGraftMotionApply", model=inside.MODEL, motion=loaded, **given)


def clip(name: str, plan: Plan | None = None, joint: bool = False) -> Any:
    """The runner's walk of the same clip, on the levels that the modules know."""
    network = open_motion(FOLDER / f"{name}.safetensors").build(torch.device("cpu"), torch.float32)
    asked = [lambda host: [MotionActing(network, inside.CONFIG, joint=joint)]]
    made: list[ClipDenoiser] = []

    def denoiser(*given: Any) -> ClipDenoiser:
        made.append(ClipDenoiser(*given))
        made[-1].plan, made[-1].sigmas = plan, walk
        return made[-1]

    model = moving(name)
    sampling = model.get_model_object("model_sampling")
    walk = inside.comfy.samplers.calculate_sigmas(sampling, "simple", inside.STEPS).tolist()
    before = inside.MODEL, inside.Denoiser, inside.LEVELS
    inside.MODEL, inside.Denoiser = model, denoiser
    inside.LEVELS = NoiseLevels.discrete(beta_schedule="linear")
    try:
        if name == "v1" and not joint:
            with over_frames(inside.OURS, lambda: made[-1].sequences):
                return inside.our_walk(asked, FRAMES)
        return inside.our_walk(asked, FRAMES)
    finally:
        inside.MODEL, inside.Denoiser, inside.LEVELS = before


def far(model: Any, ours: Any) -> float:
    return inside.apart(inside.host_walk(model, FRAMES), ours)


def checks() -> Any:
    for name in ("v1", "v2"):
        write(name, middle=name == "v2")
        plain = inside.host_walk(inside.MODEL, FRAMES)
        yield f"{name} moves", far(moving(name), plain)
        yield name, far(moving(name), clip(name))
        yield f"{name} as diffusers", far(moving(name, norms="diffusers"), clip(name, joint=True))
    for kind in ("static", "looped"):
        plan = Plan(3, 1, kind, fuse="flat")
        model = moving("v2", windows=kind, length=3, overlap=1, fuse="flat")
        yield f"{kind} windows", far(model, clip("v2", plan))
    still = moving("v2", strength=0.0, betas="model", length=2, overlap=1)
    pictures = inside.image(*(inside.files.picture(k) for k in range(FRAMES)))
    alone = inside.host_walk(inside.applied(inside.MODEL, "cn", image=pictures), FRAMES)
    yield "a control for each frame after", far(inside.applied(still, "cn", image=pictures), alone)
    yield "state", inside.state() == BEFORE


BEFORE = inside.state()
if __name__ == "__main__":
    print("CHECKS " + json.dumps(dict(checks())), flush=True)
