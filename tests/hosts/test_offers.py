"""A host keeps the names it has and gets the others, each once."""

from __future__ import annotations

import pytest

from sigmagraft.core.registry import fold
from sigmagraft.hosts.offers import EXACT_ON_FLOW, kept, sampler_offers, schedule_offers
from sigmagraft.samplers import SAMPLERS, SCHEDULES

COMFYUI = ["euler", "euler_ancestral", "dpmpp_2m", "ddim", "uni_pc", "lcm", "someone_elses"]
WEBUI = ["Euler", "Euler a", "DPM++ 2M", "DDIM", "UniPC", "LCM", "IPNDM_V"]


@pytest.mark.parametrize("taken", [COMFYUI, WEBUI, []], ids=["comfyui", "webui", "none"])
def test_a_host_gets_every_method_it_lacks_and_none_it_has(taken: list[str]) -> None:
    offers = sampler_offers(taken)
    had = {SAMPLERS[name].name for name in taken if name in SAMPLERS}
    plain = {offer.spec.name for offer in offers if offer.name == offer.spec.name}
    assert plain == set(SAMPLERS.names()) - had
    assert set(kept(taken)) == had
    names = [fold(offer.name) for offer in offers] + [fold(name) for name in taken]
    assert len(names) == len(set(names))


def test_what_differs_on_purpose_is_offered_under_a_name_that_says_so() -> None:
    offers = {offer.name: offer for offer in sampler_offers(COMFYUI)}
    assert offers["dpmpp_2m_exact"].spec is SAMPLERS["dpmpp_2m"]
    assert offers["dpmpp_2m_exact"].label == "DPM++ 2M exact"
    assert "euler_exact" not in offers
    assert not any(name.endswith("_exact") for name in (offer.name for offer in sampler_offers([])))
    assert all(name in SAMPLERS for name in EXACT_ON_FLOW)


def test_a_name_the_host_gains_is_given_up() -> None:
    assert "tcd" in {offer.name for offer in sampler_offers(COMFYUI)}
    assert "tcd" not in {offer.name for offer in sampler_offers([*COMFYUI, "tcd"])}
    assert "dpmpp_2m_exact" not in {offer.name for offer in sampler_offers([*COMFYUI, "dpmpp_2m_exact"])}


@pytest.mark.parametrize(
    "taken", [["karras", "beta", "simple"], ["Karras", "Beta", "Align Your Steps GITS"], []]
)
def test_each_base_schedule_a_host_lacks_is_offered_once(taken: list[str]) -> None:
    offers = schedule_offers(iter(taken))
    had = {SCHEDULES[name].base for name in taken if name in SCHEDULES}
    assert {offer.name for offer in offers} == {spec.base for spec in SCHEDULES} - had
    assert len({offer.name for offer in offers}) == len(offers)
    for offer in offers:
        if offer.name in SCHEDULES.names():
            assert offer.spec is SCHEDULES[offer.name], "the plain one before name@system"
