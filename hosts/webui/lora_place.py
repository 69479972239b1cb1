"""Where in its walk an evaluation stands, in all web UIs: the sigma it is told, among those of its sampler."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ...loras.curve import Place, place_of


class _Walk:
    """The walk under way: its denoiser, what that is told now, its sigmas; a host generates one thing at a time."""

    denoiser: Any = None
    told: Any = None
    sigmas: tuple[float, ...] | None = None  # not read yet


def follow(params: Any) -> None:
    """What the host calls before every evaluation (on_cfg_denoiser): nothing is read before something of ours asks."""
    denoiser = params.denoiser
    if denoiser is not _Walk.denoiser or denoiser.step == 0:
        _Walk.denoiser, _Walk.sigmas = denoiser, None
    _Walk.told = params.sigma


def place() -> Place:
    """Where the evaluation under way stands."""
    denoiser = _Walk.denoiser
    if denoiser is None:
        return Place(0.0)
    if _Walk.sigmas is None:
        _Walk.sigmas = ()
        with suppress(Exception):  # a sampler that keeps no list of sigmas: its steps are counted
            _Walk.sigmas = _sigmas(denoiser)
    sigma = _sigma(denoiser, float(_Walk.told.flatten()[0]))
    if len(_Walk.sigmas) > 1:
        return place_of(sigma, _Walk.sigmas)
    return Place(sigma, float(denoiser.step), denoiser.total_steps or 1)


def forget() -> None:
    """The walk is over."""
    _Walk.denoiser = _Walk.told = _Walk.sigmas = None


def _sigmas(denoiser: Any) -> tuple[float, ...]:
    """The sigmas that the sampler walks, down to 0: of a picture that is changed only the end of the list."""
    sampler, steps = denoiser.sampler, _steps(denoiser)
    if hasattr(sampler, "get_timesteps"):
        times = sampler.get_timesteps(denoiser.p, steps).tolist()
        return (*(_of_time(denoiser, t) for t in reversed(times[: denoiser.steps])), 0.0)
    return tuple(sampler.get_sigmas(denoiser.p, steps).tolist()[-(denoiser.steps + 1) :])


def _steps(denoiser: Any) -> int:
    """How many steps the whole list has, of which a walk from a picture takes the last ones."""
    from modules import sd_samplers_common

    p = denoiser.p
    if denoiser.init_latent is None:
        return denoiser.steps
    second = getattr(p, "is_hr_pass", False)
    asked = (getattr(p, "hr_second_pass_steps", 0) or p.steps) if second else None
    return sd_samplers_common.setup_img2img_steps(p, asked)[0]


def _sigma(denoiser: Any, told: float) -> float:
    """The sigma of an evaluation; Automatic1111 tells samplers of timesteps those."""
    if not hasattr(denoiser.sampler, "get_timesteps") or getattr(
        denoiser, "classic_ddim_eps_estimation", False
    ):
        return told
    return _of_time(denoiser, told)


def _of_time(denoiser: Any, t: float) -> float:
    from modules import shared

    kept = float(shared.sd_model.alphas_cumprod[round(t)])
    return ((1 - kept) / kept) ** 0.5
