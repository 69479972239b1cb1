"""Controls around one walk of a web UI's sampler: put on as it begins, off as it ends, however it ends."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ...core.errors import SigmaGraftError
from ...core.patch import Branch, Inputs, StepInfo
from .. import control_options
from ..control_entry import Given, entered
from ..control_run import Ask, ControlRun
from . import control_ldm
from .control_model import Levels, device_of, host_of, patcher_of, unet_of
from .control_rows import Rows


def install(p: Any, asks: Sequence[Ask], networks: Sequence[nn.Module], noise: Tensor) -> None:
    """Has the walk that comes next do what is asked."""
    kept = _lent(p, networks)

    def around(func: Any, model: Any, x: Tensor, *args: Any, **named: Any) -> Any:
        with ExitStack() as stack:
            stack.callback(kept)
            for network in networks:
                network.to(device_of(p))
                stack.callback(network.to, "cpu")
            stack.enter_context(_controlled(p, model, asks, noise, named))
            return func(model, x, *args, **named)

    _wrap(p, around)


def refuse(p: Any, error: SigmaGraftError) -> None:
    """Has the walk that comes next end with our message: a host swallows what a script raises."""

    def around(func: Any, *args: Any, **named: Any) -> Any:
        raise error

    _wrap(p, around)


def _wrap(p: Any, around: Any) -> None:
    """The sampler's function is this pass's own object, so nothing of it stays."""
    func = p.sampler.func

    @functools.wraps(func)  # hosts look at its signature for what to hand over
    def walk(*args: Any, **named: Any) -> Any:
        return around(func, *args, **named)

    p.sampler.func = walk


def _lent(p: Any, networks: Sequence[nn.Module]) -> Any:
    """Counts the networks in the Forges' memory while they sample; a function that gives all back."""
    patcher = patcher_of(p)
    if patcher is None or not networks:
        return lambda: None
    lent = patcher.clone()
    lent.add_extra_torch_module_during_sampling(nn.ModuleList(networks), cast_to_unet_dtype=False)
    p.sd_model.forge_objects.unet = lent

    def give_back() -> None:
        if p.sd_model.forge_objects.unet is lent:
            p.sd_model.forge_objects.unet = patcher

    return give_back


@contextmanager
def _controlled(
    p: Any, model: Any, asks: Sequence[Ask], noise: Tensor, named: Mapping[str, Any]
) -> Iterator[None]:
    levels = Levels.of(p, model.inner_model)
    sigmas = _sigmas(p, levels, named)
    unet, patched = unet_of(p), patcher_of(p) is not None
    graft = control_options.grafted if patched else control_ldm.grafted
    run = ControlRun(lambda evaluate: host_of(p, levels, sigmas, noise, evaluate), graft)
    for ask in asks:
        run.add(ask)
    rows = Rows()

    @contextmanager
    def around(args: tuple[Any, ...], given: dict[str, Any]) -> Iterator[Given]:
        inputs, options = _inputs(args, given), given.get("transformer_options", {})
        sigma = float(options["sigmas"].flatten()[0]) if patched else levels.sigma(float(inputs.timesteps[0]))
        branches = _branches(options) if patched else rows.branches(len(inputs.x))
        rest = {name: value for name, value in given.items() if name not in (*_NAMES, "control")}

        def call(seen: Inputs, told: Any) -> Any:
            own = rest | ({"transformer_options": told} if patched else {})
            vector = {} if seen.vector is None else {"y": seen.vector}
            return unet.forward(seen.x, seen.timesteps, context=seen.context, **vector, **own)

        info = StepInfo(sigma, branches=branches, inputs=inputs)
        with run.around(unet, info, options, call) as told:
            yield args, given | ({"transformer_options": told} if patched else {})

    with entered(unet, around), rows.counted(model):
        yield


_NAMES = ("x", "timesteps", "context", "y")


def _inputs(args: tuple[Any, ...], given: Mapping[str, Any]) -> Inputs:
    """What a UNet of LDM's is called with, by place or by name."""
    found = dict(zip(_NAMES, args, strict=False)) | {name: given[name] for name in _NAMES if name in given}
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
