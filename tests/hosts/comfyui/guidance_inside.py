"""Inside a real ComfyUI: our guidance nodes against the host's own nodes of that name, on one random model.

python guidance_inside.py ROOT_OF_COMFYUI FOLDER_FOR_FILES -> a line of JSON, name of a check -> what was found.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT, FILES = Path(sys.argv[1]), Path(sys.argv[2])
TESTS = Path(__file__).resolve().parents[2]
PACK, TINY = str(TESTS.parent), str(TESTS / "hosts" / "comfyui" / "tiny_model")
DYNTHRES = os.environ.get("SIGMAGRAFT_DYNTHRES")  # a checkout of sd-dynamic-thresholding
sys.argv = ["main.py", "--cpu", "--disable-all-custom-nodes", "--base-directory", str(FILES)]
sys.path.insert(0, str(ROOT))
os.chdir(ROOT)
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
importlib.import_module("utils.extra_config")  # before a wheel's own `utils` gets the name
import nodes  # noqa: E402
import server  # noqa: E402
import torch  # noqa: E402


async def load() -> None:
    server.PromptServer(asyncio.get_running_loop())
    await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
    for pack in (TINY, PACK, *filter(None, [DYNTHRES])):
        assert await nodes.load_custom_node(pack), pack


asyncio.run(load())
NODE = nodes.NODE_CLASS_MAPPINGS
torch.set_num_threads(1)
MODEL, POS, NEG = NODE["TinyModel"]().make("eps", 0.0)


def ours(name: str, model: Any = None, **given: Any) -> Any:
    kind = NODE[f"SigmaGraftGuidance_{name}"]
    fields = kind.INPUT_TYPES()["required"]
    values = {
        field: told.get("default", kinds[0])
        for field, (kinds, told) in fields.items()
        if isinstance(kinds, list) or "default" in told
    }
    return kind().make(model=model or MODEL, **(values | given))[0]


def theirs(name: str, **given: Any) -> Any:
    kind = NODE[name]
    if hasattr(kind, "execute"):
        return kind.execute(MODEL, **given)[0]
    return getattr(kind(), kind.FUNCTION)(MODEL, **given)[0]


def walk(model: Any, cfg: float = 4.0, sampler: str = "euler") -> Any:
    latent = {"samples": torch.zeros(2, 4, 16, 24)}
    with torch.inference_mode():
        made = nodes.common_ksampler(model, 5, 3, cfg, sampler, "normal", POS, NEG, latent)
    return made[0]["samples"]


def apart(one: Any, other: Any) -> float:
    return ((one - other).abs().max() / other.abs().max()).item()


FREEU = {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2}
PAIRS: dict[str, tuple[Any, Any]] = {
    "pag": (lambda: ours("pag", scale=3.0), lambda: theirs("PerturbedAttentionGuidance", scale=3.0)),
    "sag": (
        lambda: ours("sag", scale=2.0, blur=2.0),
        lambda: theirs("SelfAttentionGuidance", scale=2.0, blur_sigma=2.0),
    ),
    "freeu": (lambda: ours("freeu", version=1, **FREEU), lambda: theirs("FreeU", **FREEU)),
    "freeu v2": (lambda: ours("freeu", **FREEU), lambda: theirs("FreeU_V2", **FREEU)),
    "apg": (
        lambda: ours("apg", eta=0.5, norm=5.0, momentum=0.25),
        lambda: theirs("APG", eta=0.5, norm_threshold=5.0, momentum=0.25),
    ),
}


def thresholded(measure: str, percentile: float) -> tuple[Any, Any]:
    """Ours, and the node of the extension with constant scales and channels apart."""
    fixed = {"mimic_mode": "Constant", "mimic_scale_min": 0.0, "cfg_mode": "Constant", "cfg_scale_min": 0.0}
    fixed |= {"sched_val": 1.0, "separate_feature_channels": "enable", "scaling_startpoint": "MEAN"}
    fixed |= {"variability_measure": {"range": "AD", "deviation": "STD"}[measure]}
    values = {"mimic_scale": 2.0, "threshold_percentile": percentile, "interpolate_phi": 0.8}
    return (
        lambda: ours("dynamic_threshold", mimic=2.0, percentile=percentile, share=0.8, measure=measure),
        lambda: theirs("DynamicThresholdingFull", **values, **fixed),
    )


if DYNTHRES:
    PAIRS |= {
        "dynamic threshold": thresholded("range", 0.95),
        "dynamic threshold by deviation": thresholded("deviation", 1.0),
    }
found: dict[str, Any] = {}
plain = walk(MODEL)
for name, (mine, host) in PAIRS.items():
    drawn = walk(mine())
    # the host's APG adds w times the pull to cond where the paper adds w - 1 times
    found[name] = apart(drawn, walk(host(), cfg=3.0 if name == "apg" else 4.0))
    found[f"{name} moves"] = apart(drawn, plain)
    if name in ("pag", "freeu v2"):
        first = walk(ours(name.partition(" ")[0], stop=0.34))
        found[f"{name} in a part"] = [apart(first, plain), apart(first, walk(ours(name.partition(" ")[0])))]
every = MODEL
for name in ("rescale", "cfg_zero", "apg", "dynamic_threshold", "pag", "sag", "freeu"):
    found[f"{name} moves alone"] = apart(walk(ours(name)), plain)
    every = ours(name, every)
found["all at once is finite"] = bool(walk(every, sampler="dpmpp_2m").isfinite().all())
found["at cfg 1"] = bool(walk(every, cfg=1.0).isfinite().all())
found["nothing stays"] = bool(torch.equal(walk(MODEL), plain))
try:
    ours("pag", ours("pag"))
except Exception as error:
    found["twice"] = str(error)
print("CHECKS " + json.dumps(found))
