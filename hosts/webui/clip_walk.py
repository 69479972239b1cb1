"""A clip in a walk of a web UI: motion modules in its UNet, which sees one window of the frames at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...animate.files import MotionFile, open_motion
from ...animate.network import Motion
from ...animate.norms import over_frames
from ...animate.windows import Plan, Window, fused
from ...core.errors import OptionError
from ...loras.curve import place_of
from ..control_entry import Given
from ..motion import MotionAsk
from ..picking import picked
from .clip_choice import KEY, Clip
from .clip_levels import levelled
from .control_files import MOTION, path_of
from .control_model import dtype_of
from .control_plan import Shelf
from .walk import Walk
from .walk_pass import Part

SHELF = Shelf()


def opened(clip: Clip) -> MotionFile:
    """Its motion modules. FileError for a name that is not there, or what is none."""
    return open_motion(path_of(clip.file, MOTION))


def part_of(p: Any, clip: Clip) -> Part:
    """What makes the images of a batch the frames of a clip. SigmaGraftError where it cannot be."""
    file = opened(clip)
    plan = clip.plan(file.config.length)
    network = SHELF.made(file, dtype_of(p))
    assert isinstance(network, Motion)
    ask = MotionAsk(network, file, clip.joint, clip.strength, clip.free_noise)

    def begin(walk: Walk) -> None:
        walk.run.add(ask)
        walk.stack.enter_context(_windowed(walk, plan))
        if ask.volume:
            walk.stack.enter_context(over_frames(walk.unet, lambda: len(walk.branches or ("cond",))))

    betas = file.betas if clip.words()["betas"] == "motion" else None
    return Part(begin, [network], levelled(p, betas))


def rescheduled(clip: Clip, p: Any, noise: Tensor) -> None:
    """FreeNoise's order of the frames' noise, in the place of their own."""
    if clip.free_noise is not None:
        source = torch.Generator().manual_seed(int(p.seeds[0]) % 2**63)
        made = clip.free_noise.rescheduled(noise, 0, lambda n: torch.randperm(n, generator=source))
        noise.copy_(made)


@contextmanager
def _windowed(walk: Walk, plan: Plan | None) -> Iterator[None]:
    """Around every other hook of the UNet, so that all that acts sees a window as it sees a batch."""
    windows = _Windows(walk, plan)
    unet = walk.unet
    before = unet.register_forward_pre_hook(windows.before, with_kwargs=True, prepend=True)
    after = unet.register_forward_hook(windows.after)
    try:
        yield
    finally:
        before.remove()
        after.remove()
        walk.window, walk.branches = (), None


class _Windows:
    """One call of the UNet [parts * frames]: the host's own sees the first window, further ones follow it."""

    def __init__(self, walk: Walk, plan: Plan | None) -> None:
        self.walk, self.plan = walk, plan
        self.given: Given = ((), {})
        self.windows: list[Window] = []
        self.count, self.following = 0, False

    def before(self, module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Given | None:
        if self.following:
            return None
        options, x = given.get("transformer_options", {}), args[0] if args else given["x"]
        self.walk.window, self.walk.branches = (), None
        parts = self.walk.parts(options, len(x))
        if not self.walk.patched and self.walk.rows.mixed:
            raise OptionError("AND in the prompts of a clip", KEY, todo="leave it out in this web UI")
        self.walk.branches, self.count = parts or ("cond",), len(x)
        frames = len(x) // len(self.walk.branches)
        self.windows = self.plan.windows(frames, self._step(options, args, given)) if self.plan else []
        if len(self.windows) < 2:
            self.windows = []
            return None
        self.given = args, given
        return self._seen(self.windows[0])

    def after(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if self.following or not self.windows:
            return None
        parts, found = len(self.walk.branches or ()), [output]
        self.following = True
        try:
            for window in self.windows[1:]:
                own, named = self._seen(window)
                found.append(module(*own, **named))
        finally:
            self.following = False
        like = output.new_empty(parts, self.count // parts, *output.shape[1:])
        by = dict(zip(map(id, self.windows), found, strict=True))
        return fused(self.windows, lambda one: by[id(one)].unflatten(0, (parts, -1)), like, 1).flatten(0, 1)

    def _seen(self, window: Window) -> Given:
        """The call as this window has it."""
        self.walk.window = window.rows
        args, given = self.given
        parts = len(self.walk.branches or ())
        frames = self.count // parts
        rows = [part * frames + row for part in range(parts) for row in window.rows]
        named = {name: value for name, value in given.items() if name != "transformer_options"}
        kept = {name: given[name] for name in given if name not in named}
        return tuple(picked(list(args), rows, self.count)), picked(named, rows, self.count) | kept

    def _step(self, options: Mapping[str, Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> int:
        """Of the walk, counted as the runner does: between two of its levels the one that is come to."""
        if self.walk.patched:
            sigma = float(options["sigmas"].flatten()[0])
        else:
            sigma = self.walk.levels.sigma(float((args[1] if len(args) > 1 else given["timesteps"])[0]))
        return math.ceil(place_of(sigma, self.walk.sigmas).step - 1e-3)
