"""Inside a real ComfyUI, without its server: our nodes on its model against this package's runner on the same weights.

python control_inside.py ROOT_OF_COMFYUI FOLDER_FOR_FILES -> a line of JSON, name of a check -> what was found.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import math
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT, FILES = Path(sys.argv[1]), Path(sys.argv[2])
TESTS = Path(__file__).resolve().parents[2]
PACK, TINY = str(TESTS.parent), str(TESTS / "hosts" / "comfyui" / "tiny_model")


def start() -> Any:
    """ComfyUI with its nodes and this pack."""
    sys.argv = ["main.py", "--cpu", "--disable-all-custom-nodes", "--base-directory", str(FILES)]
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    import comfy.options

    comfy.options.enable_args_parsing()
    importlib.import_module("utils.extra_config")  # before a wheel's own `utils` gets the name
    import nodes
    import server

    async def load() -> None:
        server.PromptServer(asyncio.get_running_loop())
        await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
        for pack in (TINY, PACK):
            assert await nodes.load_custom_node(pack), pack

    asyncio.run(load())
    return nodes


sys.path.insert(0, str(FILES / "path"))  # holds `sigmagraft`, a link to the checkout
(FILES / "path").mkdir(parents=True, exist_ok=True)
if not (FILES / "path" / "sigmagraft").exists():
    (FILES / "path" / "sigmagraft").symlink_to(PACK, target_is_directory=True)
sys.path.insert(1, str(TESTS / "hosts"))
NODES = start()
NODE = NODES.NODE_CLASS_MAPPINGS

import comfy.samplers  # noqa: E402
import control_files as files  # noqa: E402
import torch  # noqa: E402

from sigmagraft.controlnet.clip_vision import ImageEncoder  # noqa: E402
from sigmagraft.controlnet.host import Host  # noqa: E402
from sigmagraft.controlnet.ip_adapter import IPAdapter  # noqa: E402
from sigmagraft.controlnet.ip_apply import image_adapters  # noqa: E402
from sigmagraft.controlnet.ip_settings import ImagePrompt  # noqa: E402
from sigmagraft.controlnet.model import ControlModel, acting  # noqa: E402
from sigmagraft.controlnet.settings import REFERENCE, Control  # noqa: E402
from sigmagraft.controlnet.strength import Timeline  # noqa: E402
from sigmagraft.core.adapters import hooks_of  # noqa: E402
from sigmagraft.core.patch import Hooks  # noqa: E402
from sigmagraft.core.unet_config import UNetConfig  # noqa: E402
from sigmagraft.samplers import SAMPLERS, drive  # noqa: E402
from sigmagraft.standalone.conditioning import Conditioning  # noqa: E402
from sigmagraft.standalone.denoiser import Denoiser  # noqa: E402
from sigmagraft.standalone.guidance import guided  # noqa: E402
from sigmagraft.standalone.levels import levels_of  # noqa: E402
from sigmagraft.standalone.model import ModelInfo  # noqa: E402
from sigmagraft.standalone.unet import UNet  # noqa: E402

STEPS, CFG, SEED, SCALE = 4, 3.0, 5, 0.18215
LEVELS = levels_of(ModelInfo(family="sd1"))
CONFIG = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 16, None, False, 8, None)


def node(name: str, **given: Any) -> Any:
    """What a node gives, its other widgets at their defaults."""
    kind = NODE[name]
    fields = kind.INPUT_TYPES()
    values = {}
    for field, (kinds, told) in {**fields.get("required", {}), **fields.get("optional", {})}.items():
        if isinstance(kinds, list) or "default" in told:
            values[field] = told.get("default", kinds[0] if isinstance(kinds, list) else None)
    return kind().make(**(values | given))[0]


def image(*pictures: Any) -> Any:
    return torch.cat(
        [torch.tensor(__import__("numpy").asarray(one) / 255.0).float()[None] for one in pictures]
    )


class Vae:
    """Averages of 8 by 8 pixels as latents."""

    def encode(self, pixels: Any) -> Any:
        return averaged(pixels.movedim(-1, 1) * 2 - 1) / SCALE


def averaged(pixels: Any) -> Any:
    small = torch.nn.functional.avg_pool2d(pixels, 8)
    return torch.cat([small, small[:, :1]], dim=1)


def host_walk(model: Any, batch: int = 1, cfg: float = CFG) -> Any:
    """The host's KSampler."""
    latent = {"samples": torch.zeros(batch, 4, 8, 8)}
    with torch.inference_mode():
        return NODES.common_ksampler(model, SEED, STEPS, cfg, "euler", "simple", POS, NEG, latent)[0][
            "samples"
        ]


def our_walk(asked: Any, batch: int = 1, cfg: float = CFG) -> Any:
    """The runner's, from the same noise on the same levels."""
    sampling = MODEL.get_model_object("model_sampling")
    walk = comfy.samplers.calculate_sigmas(sampling, "simple", STEPS).tolist()
    noise = torch.randn(1 * batch, 4, 8, 8, generator=torch.manual_seed(SEED))
    conds = [Conditioning(cond[0][0].repeat(batch, 1, 1), None) for cond in (POS, NEG)]

    def noised(latent: Any, info: Any) -> Any:
        _, _, c_in = LEVELS.scalings("eps", info.sigma)
        return (latent + noise * info.sigma) * c_in

    def evaluate(info: Any, patches: Any) -> None:
        given = info.inputs
        OURS(given.x, given.timesteps, given.context, given.vector, Hooks(patches, info))

    host = Host(CONFIG, Timeline(walk), 8, OURS.state_dict, averaged, noised, evaluate)
    denoiser = Denoiser(OURS, LEVELS, "eps", torch.float32)
    denoiser.hooks = hooks_of([one for ask in asked for one in ask(host)])
    denoise = guided(denoiser, *conds, cfg)
    with torch.no_grad():
        x = drive(
            SAMPLERS["euler"], denoise, noise * math.hypot(1.0, walk[0]), walk, levels=LEVELS, options={}
        )
    return x / SCALE


def control(name: str | None, **settings: Any) -> Any:
    """The runner's control."""
    loaded = ControlModel.load(FILES / "models" / "controlnet" / f"{name}.safetensors") if name else None
    return lambda host: [acting(Control(**({"model": loaded} | settings)), host)]


def applied(model: Any, name: str, **given: Any) -> Any:
    """The same by our nodes."""
    loaded = node("SigmaGraftControlLoader", file=f"{name}.safetensors")
    return node("SigmaGraftControlApply", model=model, control=loaded, **given)


def prompt(**settings: Any) -> Any:
    weights = IPAdapter.load(FILES / "models" / "ipadapter" / "ip.safetensors")
    encoder = ImageEncoder.load(FILES / "models" / "clip_vision" / "tiny.safetensors")
    return lambda host: image_adapters(
        weights, CONFIG, host.timeline, ImagePrompt(**settings), encoder.encode
    )


def prompted(model: Any, **given: Any) -> Any:
    loaded = node("SigmaGraftIPAdapterLoader", file="ip.safetensors", image_encoder="tiny.safetensors")
    return node("SigmaGraftIPAdapterApply", model=model, ipadapter=loaded, **given)


def write() -> None:
    """The files that the checks are about."""
    made = {"cn": files.controlnet, "t2i": files.t2i, "lllite": files.lllite, "union": files.union}
    made["lora"] = files.control_lora
    for name, make in made.items():
        files.save(FILES / "models" / "controlnet", name, make(CONFIG))
    files.save(FILES / "models" / "ipadapter", "ip", files.ip_adapter(CONFIG))
    files.save(FILES / "models" / "ipadapter", "face", files.ip_adapter(CONFIG, face=True))
    files.save(FILES / "input", "someone", {"face": torch.randn(1, 512, generator=torch.manual_seed(1)) / 22})
    tensors, said = files.image_encoder()
    files.save(FILES / "models" / "clip_vision", "tiny", tensors, {"clip_vision": json.dumps(said)})


write()
torch.set_num_threads(1)
MODEL, POS, NEG = NODE["TinyModel"]().make("eps", 0.0)
OURS = UNet(CONFIG).eval()
OURS.load_state_dict(MODEL.model.diffusion_model.state_dict())
A, B = files.picture(1), files.picture(2)
MASK = torch.zeros(1, 64, 64)
MASK[:, :, 32:] = 1.0
WHITE = files.Image.fromarray((MASK[0].numpy() * 255).astype("uint8"))


def apart(x: Any, y: Any) -> float:
    """The largest difference, relative to the size."""
    return float((x - y).abs().max() / y.abs().max())


def difference(model: Any, *asked: Any, batch: int = 1, cfg: float = CFG) -> float:
    """Between the two walks' ends."""
    return apart(host_walk(model, batch, cfg), our_walk(asked, batch, cfg))


def moved(model: Any) -> float:
    """How far from the walk without anything."""
    return apart(host_walk(model), host_walk(MODEL))


def state() -> Any:
    """Everything of the UNet and of the options that a patch could leave changed."""
    unet = MODEL.model.diffusion_model
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())
    return hooks, repr(MODEL.model_options), sum(float(p.double().sum()) for p in unet.parameters())


def checks() -> Any:
    yield "plain", difference(MODEL)
    one = {"image": image(A), "preprocessor": "canny", "options": "low=50", "strength": 0.8}
    ours = {"image": A, "preprocess": "canny", "options": {"low": 50}, "strength": 0.8}
    cn = applied(MODEL, "cn", **one)
    yield "controlnet moves", moved(cn)
    yield "controlnet", difference(cn, control("cn", **ours))
    yield "controlnet at cfg 1", difference(cn, control("cn", **ours), cfg=1.0)
    for name in ("t2i", "lllite", "lora"):
        yield f"{name} moves", moved(applied(MODEL, name, image=image(A)))
        yield name, difference(applied(MODEL, name, image=image(A)), control(name, image=A))
    hints = node("SigmaGraftControlHints", image=image(A), preprocessor="canny", options="", type="canny")
    hints = node(
        "SigmaGraftControlHints", image=image(B), preprocessor="none", options="", type="depth", hints=hints
    )
    two = {"image": [A, B], "preprocess": "canny+none", "types": ["canny", "depth"], "strength": 0.7}
    yield "union", difference(applied(MODEL, "union", hints=hints, strength=0.7), control("union", **two))
    when = {"start": 0.25, "end": 0.75, "mode": "control", "mask": MASK, "block_weights": "1,0.5,1,0.2,2"}
    same = {"start": 0.25, "end": 0.75, "mode": "control", "mask": WHITE, "weights": [1, 0.5, 1, 0.2, 2]}
    yield "settings", difference(applied(MODEL, "cn", **(one | when)), control("cn", **(ours | same)))
    keyed = {"keyframes": "0@1, 0.5@0.3", "interpolate": True, "mode": "guess"}
    same = {"keyframes": [(0, 1), (0.5, 0.3)], "interpolate": True, "mode": "guess"}
    yield "keyframes", difference(applied(MODEL, "cn", **(one | keyed)), control("cn", **(ours | same)))
    pair = {"image": image(A, B)}
    yield "batch", difference(applied(MODEL, "cn", **pair), control("cn", image=[A, B]), batch=2)
    chained = applied(applied(cn, "t2i", image=image(B)), "lllite", image=image(B), end=0.5)
    asked = control("cn", **ours), control("t2i", image=B), control("lllite", image=B, end=0.5)
    yield "three at once", difference(chained, *asked)
    for method in REFERENCE:
        seen = node("SigmaGraftReference", model=MODEL, image=image(A), vae=Vae(), method=method)
        yield f"{method} moves", moved(seen)
        yield method, difference(seen, control(None, model=method, image=A))
    ip = prompted(MODEL, image=image(A, B), weight=0.7, weight_type="ease-in", mask=MASK)
    same = {"images": [A, B], "weight": 0.7, "weight_type": "ease-in", "mask": WHITE}
    yield "ip-adapter moves", moved(ip)
    yield "ip-adapter", difference(ip, prompt(**same))
    yield (
        "ip-adapter tiled",
        difference(prompted(MODEL, image=image(A), tiled=True), prompt(images=[A], tiled=True)),
    )
    yield from encoded()
    both = applied(ip, "cn", **one)
    yield "both", difference(both, control("cn", **ours), prompt(**same))
    yield from neighbours(cn, ip)
    yield from order(one)
    yield from failures(cn)


def encoded() -> Any:
    """The host's own image encoder, embeds in files, faces."""
    loaded = node("SigmaGraftIPAdapterLoader", file="ip.safetensors")
    given = {"model": MODEL, "ipadapter": loaded, "image": image(A), "clip_vision": vision()}
    yield "the host's CLIP vision", difference(node("SigmaGraftIPAdapterApply", **given), prompt(images=[A]))
    own = node("SigmaGraftIPAdapterLoader", file="ip.safetensors", image_encoder="tiny.safetensors")
    first, second = (node("SigmaGraftIPAdapterEncode", ipadapter=own, image=image(one)) for one in (A, B))
    joint = node("SigmaGraftIPAdapterCombine", first=first, second=second, method="average")
    NODE["SigmaGraftIPAdapterSave"]().make(joint, "both of them")
    again = node("SigmaGraftIPAdapterLoad", file="both_of_them_00001.safetensors")
    by_embeds = node("SigmaGraftIPAdapterApply", model=MODEL, ipadapter=loaded, embeds=again)
    yield "embeds", difference(by_embeds, prompt(images=[A, B], combine="average"))
    face = node("SigmaGraftIPAdapterLoad", file="someone.safetensors")
    loaded = node("SigmaGraftIPAdapterLoader", file="face.safetensors")
    made = node("SigmaGraftIPAdapterApply", model=MODEL, ipadapter=loaded, face=face, lora_strength=0.5)
    with changed(0.5) as weights:
        same = ImagePrompt(face=face.face)
        yield (
            "face",
            difference(made, lambda host: image_adapters(weights, CONFIG, host.timeline, same, None)),
        )


@contextmanager
def changed(strength: float) -> Any:
    """The runner's UNet with FaceID's change of weights in it."""
    weights = IPAdapter.load(FILES / "models" / "ipadapter" / "face.safetensors")
    before = {name: value.clone() for name, value in OURS.state_dict().items()}
    for patch in weights.weight_patches(CONFIG):
        parameter = OURS.get_parameter(patch.key)
        parameter.data = parameter.data + patch.delta.delta(parameter.data) * strength
    try:
        yield weights
    finally:
        OURS.load_state_dict(before)


def vision() -> Any:
    """The file as the host's CLIP_VISION; its loader knows published sizes alone."""
    import comfy.clip_vision
    from safetensors.torch import load_file

    said = files.image_encoder()[1] | {
        "model_type": "clip_vision_model",
        "num_channels": 3,
        "layer_norm_eps": 1e-5,
    }
    path = FILES / "vision.json"
    path.write_text(json.dumps(said))
    made = comfy.clip_vision.ClipVisionModel(str(path))
    made.load_sd(load_file(FILES / "models" / "clip_vision" / "tiny.safetensors"))
    return made


def hosts_own() -> Any:
    """The host's own ControlNet with the weights of the file; its loader knows published sizes alone."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops
    from safetensors.torch import load_file

    tiny = NODE["TinyModel"].make.__globals__
    sizes = {name: value for name, value in tiny["UNET"].items() if name not in ("out_channels", "num_heads")}
    network = comfy.cldm.cldm.ControlNet(
        **sizes, num_heads=8, hint_channels=3, operations=comfy.ops.disable_weight_init
    )
    network.load_state_dict(load_file(FILES / "models" / "controlnet" / "cn.safetensors"))
    cpu = torch.device("cpu")
    return comfy.controlnet.ControlNet(network.eval(), load_device=cpu, manual_cast_dtype=None)


def neighbours(cn: Any, ip: Any) -> Any:
    """Beside the host's own ControlNet and other packs' patches."""
    theirs = hosts_own()
    global POS, NEG
    before = POS, NEG
    apply = NODE["ControlNetApplyAdvanced"]()
    both = host_walk(applied(cn, "cn", image=image(B), strength=0.6))
    POS, NEG = apply.apply_controlnet(POS, NEG, theirs, image(B), 0.6, 0.0, 1.0)
    yield "beside the host's ControlNet", apart(host_walk(cn), both)
    POS, NEG = before
    told: list[str] = []

    def wrap(apply_model: Any, given: Any) -> Any:
        told.append("wrapper")
        return apply_model(given["input"], given["timestep"], **given["c"])

    def replace(q: Any, k: Any, v: Any, extra: Any) -> Any:
        told.append("replace")
        return comfy.ldm.modules.attention.optimized_attention(q, k, v, extra["n_heads"])

    def output(h: Any, skip: Any, extra: Any) -> Any:
        told.append("output")
        return h, skip

    def project(q: Any, k: Any, v: Any, extra: Any) -> Any:
        told.append("project")
        return q, k, v

    other = ip.clone()
    other.set_model_unet_function_wrapper(wrap)
    other.set_model_attn2_replace(replace, "input", 1)
    other.set_model_output_block_patch(output)
    other.set_model_attn2_patch(project)
    other.set_model_attn1_patch(project)
    after = applied(applied(other, "lllite", image=image(A)), "cn", image=image(A))
    plain = applied(applied(ip, "lllite", image=image(A)), "cn", image=image(A))
    yield "beside other patches", apart(host_walk(after), host_walk(plain))
    yield "others acted", sorted(set(told))


def order(one: Any) -> Any:
    """Nodes in another order, and the run after."""
    first = applied(prompted(MODEL, image=image(A)), "cn", **one)
    second = prompted(applied(MODEL, "cn", **one), image=image(A))
    yield "another order", apart(host_walk(first), host_walk(second))
    yield (
        "a copy of the model",
        apart(host_walk(first), host_walk(copy.deepcopy(first.clone().model_options) and first.clone())),
    )


def failures(cn: Any) -> Any:
    """What raises leaves nothing behind, and the next run is the run before."""
    before, plain = state(), host_walk(MODEL)
    host_walk(cn)
    yield "state after a run", bool(state() == before)
    yield "run after a run", bool(torch.equal(host_walk(MODEL), plain))
    for name, wrong in {
        "two hints for three": lambda: host_walk(applied(MODEL, "cn", image=image(A, B)), 3),
        "another family": lambda: host_walk(applied(MODEL, "cn", image=image(A), block_weights="1,2")),
        "no image": lambda: applied(MODEL, "cn"),
        "no encoder": lambda: node(
            "SigmaGraftIPAdapterApply",
            model=MODEL,
            ipadapter=node("SigmaGraftIPAdapterLoader", file="ip.safetensors"),
            image=image(A),
        ),
    }.items():
        try:
            wrong()
            yield f"error: {name}", "nothing was raised"
        except Exception as error:
            yield f"error: {name}", f"{type(error).__name__}: {error}"
    yield "state after errors", state() == before
    yield "run after errors", bool(torch.equal(host_walk(MODEL), plain))


if __name__ == "__main__":
    found = {}
    for name, value in checks():
        found[name] = value
        print(f"{name}: {value}", file=sys.stderr, flush=True)
    print("CHECKS " + json.dumps(found))
