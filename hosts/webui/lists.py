"""Our entries in a web UI's lists of samplers and schedules: put in, replaced by a later start, taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from modules import sd_samplers, sd_schedulers, shared

from ..log import say_once
from ..offers import SamplerOffer, ScheduleOffer, kept, sampler_offers, schedule_offers
from .calibration import fitted_offers
from .labels import ends_in, readable
from .sampler import sampler_data
from .schedule import scheduler

MARK = "sigmagraft_offer"  # the attribute that tells our entries from everybody else's, over reloads too


def fill(families: Iterable[str] = (), schedules: Iterable[str] = ()) -> tuple[int, int]:
    """Put what the host lacks into its lists; `families` and `schedules` are left out. How many of each were added."""
    clear()
    offered = [o for o in _schedules() if o.label not in set(schedules)]
    _add_schedulers(offered)
    samplers = [o for o in _samplers() if o.spec.family not in set(families)]
    _add_samplers(samplers)
    return len(samplers), len(offered)


def clear() -> None:
    """Leave the host's lists as they were without us."""
    for entries in _scheduler_lists():
        _drop(entries)
    for key in [key for key, entry in sd_schedulers.schedulers_map.items() if is_ours(entry)]:
        del sd_schedulers.schedulers_map[key]
    _drop(sd_samplers.all_samplers)
    for key in [key for key, entry in sd_samplers.all_samplers_map.items() if is_ours(entry)]:
        del sd_samplers.all_samplers_map[key]
    for entry in sd_samplers.all_samplers:  # one that came with the name of one of ours
        sd_samplers.all_samplers_map.setdefault(entry.name, entry)
    _renew()


def is_ours(entry: Any) -> bool:
    return hasattr(entry, MARK)


def offer_of(name: str | None) -> SamplerOffer | None:
    """Our sampler that the host lists under this name; None for one of the host's or of another extension."""
    return getattr(sd_samplers.all_samplers_map.get(name), MARK, None)


def schedule_of(name: str | None) -> ScheduleOffer | None:
    """Our schedule that the host lists under this name or label."""
    return getattr(sd_schedulers.schedulers_map.get(name), MARK, None)


def all_families() -> list[str]:
    """The headings of our samplers that the host lacks, for the settings."""
    return list(dict.fromkeys(offer.spec.family for offer in _samplers()))


def all_schedules() -> list[str]:
    """The labels of our schedules that the host lacks."""
    return [offer.label for offer in _schedules()]


def _samplers() -> list[SamplerOffer]:
    taken = [name for s in sd_samplers.all_samplers if not is_ours(s) for name in (s.name, *s.aliases)]
    if staying := kept(taken):
        say_once(f"SigmaGraft: of these samplers the host's own stay: {', '.join(staying)}")
    return [*sampler_offers(taken), *fitted_offers(taken)]


def _schedules() -> list[ScheduleOffer]:
    taken = [word for entry in _all_schedulers() if not is_ours(entry) for word in _words(entry)]
    offers = schedule_offers(taken)
    samplers = [s.name for s in sd_samplers.all_samplers]
    # "DPM fast" must not become a sampler "DPM" under a schedule "fast"
    return [o for o in offers if not any(ends_in(name, (o.name, o.label)) for name in samplers)]


def _add_samplers(offers: Iterable[SamplerOffer]) -> None:
    words = [word for entry in _all_schedulers() for word in _words(entry)]
    for offer in offers:
        data = sampler_data(offer, readable(offer.name, offer.label, words))
        setattr(data, MARK, offer)
        sd_samplers.all_samplers.append(data)
        sd_samplers.all_samplers_map[data.name] = data
    _renew()


def _add_schedulers(offers: Iterable[ScheduleOffer]) -> None:
    hidden = set(getattr(shared.opts, "hide_schedulers", None) or ())
    for offer in offers:
        entry = scheduler(offer)
        setattr(entry, MARK, offer)
        shown = offer.label not in hidden
        for entries in _scheduler_lists():
            if shown or entries is not sd_schedulers.schedulers:
                entries.append(entry)
        if shown:
            sd_schedulers.schedulers_map.update({entry.name: entry, entry.label: entry})


def _scheduler_lists() -> list[list[Any]]:
    """The list that is shown, and where the host hides some of them the whole one too."""
    whole = getattr(sd_schedulers, "all_schedulers", sd_schedulers.schedulers)
    return (
        [sd_schedulers.schedulers] if whole is sd_schedulers.schedulers else [sd_schedulers.schedulers, whole]
    )


def _all_schedulers() -> list[Any]:
    return _scheduler_lists()[-1]


def _words(entry: Any) -> list[str]:
    return [entry.name, entry.label, *(entry.aliases or ())]


def _drop(entries: list[Any]) -> None:
    entries[:] = [entry for entry in entries if not is_ours(entry)]


def _renew() -> None:
    """Have the host rebuild what it derives from its lists."""
    sd_samplers.set_samplers()
    forget: Callable[[], None] | None = getattr(sd_samplers.get_sampler_and_scheduler, "cache_clear", None)
    if forget is not None:
        forget()
