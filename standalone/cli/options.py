"""The options of the commands that make pictures. Their names are the names of the settings throughout.

Nothing has a default here: what is not given is absent, so that a picture's own settings (--from-image) and
below them DEFAULTS can fill in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..images import RESIZE
from ..like import LIKE
from ..naming import FIELDS, FORMATS
from .control_options import add_control
from .ip_adapter_options import add_ip_adapter
from .lora_options import add_loras
from .parser import Parser, assignment, choice, named, number, size
from .pass_options import SETTINGS as PASSES
from .pass_options import add_passes
from .schedule_options import SCHEDULE, SIZES, add_schedule, add_sizes
from .state import add_stop

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("fp32", "fp16", "bf16", "float32", "float16", "bfloat16")
PREDICTIONS = ("eps", "v", "x0", "flow", "edm")
NOISE = ("cpu", "device", "nv")

DEFAULTS: dict[str, Any] = {
    "model": "bundled",
    "negative": "",
    "cfg_rescale": 0.0,
    "sampler": "dpmpp_2m",
    "emphasis": "a1111",
    "noise": "cpu",
    "resize": "crop",
}
LOADING = (
    "vae",
    "text_encoder",
    "prediction",
    "shift",
    "variant",
    "subfolder",
    "revision",
    "embeddings",
    "lora_dir",
    "dtype",
)
STARTING = ("device", "token", "offline", "compile", "offload")  # of the load as well, and of no picture
DRAWING = (
    "negative",
    "size",
    "steps",
    "guidance",
    "cfg",
    "cfg_rescale",
    "cfg_interval",
    "sampler",
    *SCHEDULE,
    "options",
    "clip_skip",
    "loras",
    "ip_adapter",
    "control",
    *SIZES,
    *PASSES,
    "emphasis",
    "noise",
    "step_noise",
    "noise_type",
    "ensd",
    "like",
)
PAINTING = ("strength", "mask_blur", "only_masked", "soft")


def parser(command: str, description: str) -> Parser:
    """A parser with every option that txt2img, img2img and inpaint share."""
    made = Parser(command, description)
    made.add_argument("prompt", nargs="*", metavar="PROMPT", help="what the picture shows")
    made.add_argument(
        "--like",
        type=choice(tuple(LIKE)),
        metavar="SYSTEM",
        help=f"the picture of another system, in all that is not said otherwise: {', '.join(LIKE)}",
    )
    add_prompts(made)
    drawing = made.add_argument_group("drawing").add_argument
    add_canvas(drawing)
    add_method(drawing)
    add_noise(drawing)
    add_sizes(made)
    add_passes(made)
    add_loras(made)
    add_ip_adapter(made)
    add_control(made)
    add_model(made)
    add_running(made)
    _how_many(add_output(made))
    add_stop(made)
    return made


def add_prompts(parser: Parser) -> None:
    """What is drawn."""
    add = parser.add_argument_group("prompts").add_argument
    add("--negative", metavar="TEXT", help="what it should not show")
    add(
        "--prompt-file",
        metavar="FILE",
        help="one prompt a line, a picture each; empty lines and lines from # are skipped",
    )
    add(
        "--from-image",
        metavar="FILE",
        help="take all settings from a picture; options given here override them",
    )
    add(
        "--clip-skip",
        type=number(int, 1, 32),
        metavar="N",
        help="text encoder layer: 1 is the last; default: the model's own",
    )
    add(
        "--emphasis",
        metavar="NAME",
        help="how (words:1.2) weigh: a1111 (default), a1111-no-norm, comfyui, diffusers, none",
    )
    add(
        "--embeddings",
        action="append",
        metavar="PATH",
        help="textual inversion file or folder of them; may be repeated",
    )


def add_canvas(add: Callable[..., Any]) -> None:
    """Size, guidance, seed and noise."""
    add(
        "--size",
        type=size,
        metavar="WxH",
        help="pixels, both divisible by 8; default: the model's own, or the image's",
    )
    _guidance(add)
    add(
        "--seed",
        type=number(int, 0, 2**64 - 1),
        metavar="N",
        help="of the first picture, counting up; default: random",
    )
    add(
        "--noise",
        type=choice(NOISE),
        metavar="NAME",
        help="cpu (default, same everywhere), device, nv (as an NVIDIA card)",
    )


def add_method(add: Callable[..., Any]) -> None:
    """The sampler and its schedule."""
    add("--steps", type=number(int, 1, 1000), metavar="N", help="1 to 1000; default 20")
    add(
        "--sampler",
        type=named,
        metavar="NAME",
        help="see `sigmagraft samplers`; NAME:option=value,... sets options; k_diffusion:NAME is the package's",
    )
    add(
        "--option",
        "--sampler-option",
        type=assignment,
        action="append",
        metavar="K=V",
        help="an option of the sampler; may be repeated",
    )
    add_schedule(add)


def add_noise(add: Callable[..., Any]) -> None:
    """Of the steps."""
    add(
        "--step-noise",
        type=choice(NOISE),
        metavar="NAME",
        help="generator of the noise that a sampler adds to its steps: cpu, device, nv; default: as --noise",
    )
    add(
        "--noise-type",
        metavar="NAME",
        help="of the steps' noise, see `sigmagraft noises`; NAME:option=value,... sets options",
    )
    add(
        "--ensd",
        type=number(int, 0, 2**64 - 1),
        metavar="N",
        help="added to the seeds of the steps' noise (A1111's eta noise seed delta)",
    )


def _guidance(add: Callable[..., Any]) -> None:
    add(
        "--cfg",
        type=number(float, -100, 1000),
        metavar="X",
        help="weight of the prompt; default 7, with cfg++ 0.6; 0 and 1 cost half",
    )
    add(
        "--guidance",
        action="append",
        metavar="NAME",
        help="cfg (default) or cfg++, whose --cfg is 0 to 3; others, see `sigmagraft guidances`; "
        "NAME:option=value,... sets options; may be repeated",
    )
    add(
        "--cfg-rescale",
        type=number(float, 0, 1),
        metavar="X",
        help="0 to 1, against over-saturation; default 0",
    )
    add(
        "--cfg-interval",
        metavar="A-B",
        help="guide only there: sigmas such as 0.3-5.4, or steps such as 20%%-80%%",
    )


def add_model(parser: Parser) -> None:
    """Which model draws."""
    add = parser.add_argument_group("model").add_argument
    add(
        "--model",
        metavar="SOURCE",
        help="checkpoint file, diffusers folder or hub id; default: the bundled model",
    )
    add("--vae", metavar="SOURCE", help="a VAE instead of the checkpoint's")
    add("--text-encoder", metavar="SOURCE", help="a text encoder instead of the checkpoint's")
    add(
        "--prediction",
        type=choice(PREDICTIONS),
        metavar="NAME",
        help="eps, v, x0, flow or edm, against what the file says",
    )
    add(
        "--shift", type=number(float, 0.01, 100), metavar="X", help="timestep shift of a rectified-flow model"
    )
    add("--variant", metavar="NAME", help="such as fp16 or non_ema, of a folder or hub id")
    add("--subfolder", metavar="NAME", help="where in the folder or repository the model is")
    add("--revision", metavar="NAME", help="branch, tag or commit of a hub id")
    add("--token", metavar="TOKEN", help="for the hub")
    add("--offline", action="store_true", help="never ask the hub; use what is cached")


def add_running(parser: Parser) -> None:
    """Where it runs."""
    add = parser.add_argument_group("running").add_argument
    add(
        "--device",
        type=choice(DEVICES, r"(cuda|mps|cpu):\d+"),
        metavar="NAME",
        help="cuda, cuda:1, mps, cpu; default: best",
    )
    add(
        "--dtype",
        type=choice(DTYPES),
        metavar="NAME",
        help="fp32, fp16, bf16; default: fp16, on the CPU fp32",
    )
    add("--compile", action="store_true", help="compile the UNet: a slow first picture, faster ones after")
    add(
        "--offload",
        type=choice(("model", "sequential")),
        metavar="HOW",
        help="networks off the card while they do not run: model, or sequential (a layer at a time)",
    )
    add("--quiet", action="store_true", help="only errors")


def add_output(parser: Parser) -> Callable[..., Any]:
    """What becomes of the pictures. Gives what adds to this group of options."""
    add = parser.add_argument_group("output").add_argument
    fields = " ".join(f"{{{name}}}" for name in FIELDS)
    add(
        "--out",
        metavar="PATTERN",
        help=f"file name or folder; default outputs/{{prompt}}-{{seed}}; fields: {fields}",
    )
    add(
        "--format",
        type=choice(FORMATS),
        metavar="NAME",
        help="png (default), jpeg, webp; or by the extension of --out",
    )
    add(
        "--quality",
        type=number(int, 1, 100),
        metavar="N",
        help="of JPEG and WebP, default 95; WebP 100 is lossless",
    )
    add("--grid", action="store_true", help="also save all pictures on one sheet")
    add(
        "--preview",
        type=number(int, 1, 1000),
        metavar="N",
        help="show every N-th step (default 1) as sigmagraft-preview.png, removed at the end",
    )
    add("--json", action="store_true", help="print the result as JSON")
    return add


def _how_many(add: Callable[..., Any]) -> None:
    add(
        "--count",
        type=number(int, 1, 100_000),
        metavar="N",
        help="pictures in all; default: one a prompt, or --batch",
    )
    add("--batch", type=number(int, 1, 4096), metavar="N", help="pictures made at once; default 1")


def add_image(parser: Parser) -> None:
    """The picture to start from."""
    add = parser.add_argument_group("image").add_argument
    add("--image", metavar="FILE", help="the picture to start from")
    add(
        "--strength",
        type=number(float, 0.001, 1),
        metavar="X",
        help="how much is redrawn, up to 1; default 0.75",
    )
    add("--resize", type=choice(RESIZE), metavar="NAME", help="to --size by: crop (default), stretch, fill")


def add_mask(parser: Parser) -> None:
    """The part to repaint."""
    add = parser.add_argument_group("mask").add_argument
    add(
        "--mask",
        metavar="FILE",
        help="white is repainted, black kept; default: what is transparent in the image",
    )
    add("--invert-mask", action="store_true", help="black is repainted")
    add_soft(add)
    add("--resize-mask", action="store_true", help="scale a mask of another size to the image")
    add_blur(add)
    add(
        "--only-masked",
        type=number(int, 0, 4096),
        metavar="PX",
        help="work on the mask's surroundings alone, PX (32) around it",
    )


def add_blur(add: Callable[..., Any]) -> None:
    """How soft the mask's edge is made."""
    add("--mask-blur", type=number(float, 0, 256), metavar="PX", help="softens the mask's edge; default 4")


def add_soft(add: Callable[..., Any]) -> None:
    """What the mask's grey means."""
    add(
        "--soft",
        action="store_true",
        help="the mask's grey says how much is repainted (differential diffusion)",
    )
