"""`sigmagraft animate PROMPT --motion FILE`: a clip, all frames drawn together by motion modules of AnimateDiff."""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import FileError, OptionError
from .. import metadata, naming, output
from ..progress import Progress
from . import generate, lora_options, options, recipe
from .parser import Parser, choice, number

if TYPE_CHECKING:
    from PIL import Image

    from ..animate import Clip
    from ..pipeline import Pipeline

FORMATS = ("gif", "webp", "png", "apng", "mp4", "frames")
CLIP = ("frames", "fps", "windows", "loop", "free_init", "free_noise", "motion_strength", "norms", "betas")
Settings = dict[str, Any]


def run(argv: Sequence[str]) -> int:
    """Parse, draw, save."""
    settings, notes = recipe.settings_of(_parser().parse(argv, words="prompt"))
    with Progress(quiet=settings.get("quiet", False)) as progress:
        for note in notes:
            progress.note(note)
        if "motion" not in settings:
            raise OptionError(
                "no motion modules", expected="--motion FILE, a folder, a hub id or a bundled name"
            )
        prompt, video = _prompt(settings), _video(settings)
        target = _target(settings)
        recipe.check_names(settings)
        _check(settings)
        output.check_folder(target.folder)
        clip = _draw(settings, prompt, video, progress)
        progress.close()
        _save(clip, settings, target)
    return 0


def _parser() -> Parser:
    made = Parser("animate", "Draw a clip from a prompt with motion modules of AnimateDiff.")
    made.add_argument("prompt", nargs="*", metavar="PROMPT", help="what the clip shows")
    options.add_prompts(made)
    _add_motion(made)
    drawing = made.add_argument_group("drawing").add_argument
    options.add_canvas(drawing)
    options.add_method(drawing)
    options.add_noise(drawing)
    options.add_sizes(made)
    options.add_loras(made)
    options.add_ip_adapter(made)
    options.add_control(made)
    options.add_model(made)
    options.add_running(made)
    _add_output(made)
    return made


def _add_motion(parser: Parser) -> None:
    add = parser.add_argument_group("motion").add_argument
    add(
        "--motion",
        metavar="SOURCE",
        help="motion modules: a file, a folder of diffusers', a hub id or a bundled name",
    )
    add(
        "--frames",
        type=number(int, 1, 4096),
        metavar="N",
        help="of the clip; default 16, or as many as there are positions for",
    )
    add(
        "--at",
        action="append",
        type=_at,
        metavar="FRAME:PROMPT",
        help="another prompt from this frame on, the words going over; may be repeated; frames count from 0",
    )
    add(
        "--windows",
        metavar="KIND[:NAME=VALUE...]",
        help="how a clip is cut that is longer than the modules see at once: uniform (default), looped, static, none; "
        "length=16, overlap=4, stride=1, fuse=pyramid (or flat)",
    )
    add("--loop", action="store_true", help="let the end of the clip go over into its beginning")
    add(
        "--free-init",
        metavar="ROUNDS[:NAME=VALUE...]",
        help="walk again from noise with the clip's low frequencies; method=butterworth, order=4, spatial=0.25, "
        "temporal=0.25, coarse=false",
    )
    add(
        "--free-noise",
        metavar="LENGTH[:NAME=VALUE...]",
        help="a long clip in one: noise reordered, attention in windows; stride=4, fuse=pyramid, "
        "noise=shuffle_context",
    )
    add("--motion-strength", type=number(float, -10, 10), metavar="X", help="of the modules; default 1")
    add(
        "--norms",
        type=choice(("authors", "diffusers")),
        metavar="NAME",
        help="group norms as authors or diffusers",
    )
    add(
        "--betas",
        type=choice(("motion", "model")),
        metavar="NAME",
        help="noise levels of the modules or the model",
    )
    add("--video", metavar="PATH", help="a GIF, WebP, APNG or folder of pictures to start from")
    add(
        "--strength",
        type=number(float, 0.001, 1),
        metavar="X",
        help="how much of the video is redrawn; default 0.75",
    )


def _add_output(parser: Parser) -> None:
    add = parser.add_argument_group("output").add_argument
    add(
        "--out",
        metavar="PATTERN",
        help="file name or folder; default outputs/{prompt}-{seed}; fields as in txt2img",
    )
    add(
        "--format",
        type=choice(FORMATS),
        metavar="NAME",
        help="gif (default), webp, png (animated), mp4 (needs the package av), frames (a PNG each)",
    )
    add("--quality", type=number(int, 1, 100), metavar="N", help="of WebP and MP4")
    add("--fps", type=number(float, 0.1, 240), metavar="X", help="frames a second; default 8")
    add("--json", action="store_true", help="print the result as JSON")


def _at(text: str) -> tuple[int, str]:
    frame, colon, prompt = text.partition(":")
    if not colon or not frame.strip().isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not FRAME:PROMPT")
    return int(frame), prompt.strip()


def _prompt(settings: Settings) -> str | list[str] | dict[int, str]:
    """One, one for each frame of a file, or those at frames."""
    prompts = recipe.prompts_of(settings)
    if "at" in settings:
        return {0: prompts[0], **dict(settings["at"])}
    if len(prompts) == 1:
        return prompts[0]
    settings.setdefault("frames", len(prompts))
    return prompts


def _video(settings: Settings) -> list[Image.Image] | None:
    """The pictures to start from, as many as frames are asked for. FileError where they are fewer."""
    if "video" not in settings:
        return None
    from ..clip_files import read_frames

    pictures = read_frames(settings["video"])
    wanted = settings.setdefault("frames", len(pictures))
    if len(pictures) < wanted:
        raise FileError(f"{len(pictures)} pictures", settings["video"], f"{wanted}, a picture for each frame")
    return pictures[:wanted]


def _target(settings: Settings) -> naming.Target:
    from .. import clip_files

    asked = (settings.get("out"), settings.get("format"), settings.get("quality"))
    target = naming.target(*asked, clip_files.FORMATS)
    if target.format == "MP4":
        clip_files.codec()
    return target


def _check(settings: Settings) -> None:
    """Before any model loads: OptionError for a clip that cannot be, FileError for a local file without modules."""
    from ..animate_settings import ClipSettings
    from ..motion import local_motion

    clip = ClipSettings.taken({name: settings[name] for name in CLIP if name in settings})
    if (file := local_motion(settings["motion"])) is not None:
        clip.resolve(file.config.length)


def _draw(
    settings: Settings,
    prompt: str | list[str] | dict[int, str],
    video: list[Image.Image] | None,
    progress: Progress,
) -> Clip:
    loading = {name: settings[name] for name in options.LOADING if name in settings}
    loading |= {n: settings[n] for n in options.STARTING if n in settings}
    pipe: Pipeline = generate.load_pipeline(source=settings["model"], progress=progress.loading, **loading)
    progress.close()
    pipe.load_motion(settings["motion"])
    lora_options.use(pipe, settings, progress.note)
    drawing = {name: settings[name] for name in (*options.DRAWING, *CLIP) if name in settings}
    if video is not None:
        drawing |= {"video": video, "strength": settings.get("strength", 0.75)}
    progress.pictures = settings.get("frames", 16)
    seed = settings.get("seed", secrets.randbelow(2**32))
    return pipe.animate(prompt, seed=seed, callback=progress.step, decoded=progress.decoded, **drawing)


def _save(clip: Clip, settings: Settings, target: naming.Target) -> None:
    from .. import clip_files

    kept = {name: value for name, value in clip.settings.items() if name != "batch"}
    prompt = kept["prompt"] if isinstance(kept["prompt"], str) else " | ".join(kept["prompt"])
    kept |= {"prompt": prompt, "model": recipe.portable(settings["model"])}
    width, height = kept["size"]
    values = kept | {"width": width, "height": height, "index": 1, "model": Path(settings["model"]).stem}
    path = clip_files.save(clip.frames, target.path(values), target, clip.fps, metadata.to_text(kept))
    if settings.get("json"):
        print(json.dumps({"path": str(path), **kept}, indent=2, ensure_ascii=False))
    elif not settings.get("quiet"):
        print(path, flush=True)
