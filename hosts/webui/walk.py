"""One walk of a web UI's sampler: what acts in each evaluation of its UNet, put on at its start, off at any end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

from torch import Tensor

from ...core.patch import Branch, Inputs, StepInfo
from .. import control_options
from ..control_entry import Given, entered
from ..control_run import ControlRun
from . import control_ldm
from .control_model import Levels, host_of, patcher_of, unet_of
from .control_rows import Rows


class Walk:
    """A walk under way.

    Attributes:
        model: the host's denoiser.
        stack: what is undone when the walk ends.
        patched: whether the UNet takes ComfyUI's options, as the Forges' do.
        rows: whose rows are whose where the host does not say it.
        window: the rows of each part that an evaluation sees; () for all.
        branches: of a call that is evaluated in windows; None where it is evaluated at once.
    """

    def __init__(self, p: Any, model: Any, noise: Tensor, named: Mapping[str, Any], stack: ExitStack) -> None:
        self.p, self.model, self.noise, self.stack = p, model, noise, stack
        self.patched = patcher_of(p) is not None
        self.unet = unet_of(p)
        self.levels = Levels.of(p, model.inner_model)
        self.sigmas = _sigmas(p, self.levels, named)
        self.rows = Rows()
        self.window: tuple[int, ...] = ()
        self.branches: tuple[Branch, ...] | None = None

    @cached_property
    def run(self) -> ControlRun:
        """What acts in evaluations of the UNet. OptionError for a model that is no latent-diffusion UNet."""
        graft = control_options.grafted if self.patched else control_ldm.grafted
        run = ControlRun(
            lambda evaluate: host_of(self.p, self.levels, self.sigmas, self.noise, evaluate), graft
        )
        self.stack.enter_context(entered(self.unet, self._evaluation))
        self.stack.enter_context(self.rows.counted(self.model))
        return run

    def parts(self, options: Mapping[str, Any], count: int) -> tuple[Branch, ...]:
        """Whose equal parts the rows of a call are."""
        if self.branches is not None:
            return self.branches
        return _branches(options) if self.patched else self.rows.branches(count)

    @contextmanager
    def _evaluation(self, args: tuple[Any, ...], given: dict[str, Any]) -> Iterator[Given]:
        inputs, options = _inputs(args, given), given.get("transformer_options", {})
        first = options["sigmas"] if self.patched else inputs.timesteps
        sigma = float(first.flatten()[0]) if self.patched else self.levels.sigma(float(first[0]))
        rest = {name: value for name, value in given.items() if name not in (*NAMES, "control")}

        def call(seen: Inputs, told: Any) -> Any:
            own = rest | ({"transformer_options": told} if self.patched else {})
            vector = {} if seen.vector is None else {"y": seen.vector}
            return self.unet.forward(seen.x, seen.timesteps, context=seen.context, **vector, **own)

        branches = self.parts(options, len(inputs.x))
        info = StepInfo(sigma, branches=branches, inputs=inputs, rows=self.window)
        with self.run.around(self.unet, info, options, call) as told:
            yield args, given | ({"transformer_options": told} if self.patched else {})


NAMES = ("x", "timesteps", "context", "y")


def _inputs(args: tuple[Any, ...], given: Mapping[str, Any]) -> Inputs:
    """What a UNet of LDM's is called with, by place or by name."""
    found = dict(zip(NAMES, args, strict=False)) | {name: given[name] for name in NAMES if name in given}
    return Inputs(found["x"], found["timesteps"], found["context"], found.get("y"))


def _branches(options: Mapping[str, Any]) -> tuple[Branch, ...]:
    return tuple("uncond" if number else "cond" for number in options.get("cond_or_uncond", (0,)))


def _sigmas(p: Any, levels: Levels, named: Mapping[str, Any]) -> list[float]:
    """The walk's levels: given as such, as timesteps rising, or, where a sampler chooses its own, the schedule's."""
    if (sigmas := named.get("sigmas")) is not None:
        return [float(sigma) for sigma in sigmas]
    if (timesteps := named.get("timesteps")) is not None:
        return [levels.sigma(float(t)) for t in reversed(list(timesteps))] + [0.0]
    return [float(sigma) for sigma in p.sampler.get_sigmas(p, named.get("n", p.steps))]
