"""A registry is ordered, has unique names, says what clashes and is unchanged when adding fails."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.core.registry import Registry


@dataclass(frozen=True)
class Thing:
    name: str
    label: str = ""
    aliases: tuple[str, ...] = ()


@pytest.fixture
def registry() -> Registry[Thing]:
    registry: Registry[Thing] = Registry("thing")
    registry.add(Thing("zebra", "The Zebra", ("Horse ++",)))
    registry.add(Thing("antelope", "Antelope"))
    return registry


def test_order_of_registration_is_kept(registry: Registry[Thing]) -> None:
    assert registry.names() == ["zebra", "antelope"]
    assert [thing.name for thing in registry] == ["zebra", "antelope"]
    assert len(registry) == 2


@pytest.mark.parametrize("name", ["zebra", "Zebra", " ZEBRA ", "Horse ++", "horse-PP", "the zebra"])
def test_found_by_name_and_alias(registry: Registry[Thing], name: str) -> None:
    assert registry[name].name == "zebra"
    assert name in registry


@pytest.mark.parametrize(
    "thing",
    [
        Thing("antelope", "x"),
        Thing("gnu", "x", ("Antelope",)),
        Thing("gnu", "Zebra"),
        Thing("gnu", "", ("cow", "horse ++")),
    ],
)
def test_clash_names_both_and_changes_nothing(registry: Registry[Thing], thing: Thing) -> None:
    with pytest.raises(OptionError, match="already taken by") as caught:
        registry.add(thing)
    assert thing.name in str(caught.value)
    assert registry.names() == ["zebra", "antelope"]
    assert "gnu" not in registry
    assert "cow" not in registry


def test_unknown_name_offers_the_nearest(registry: Registry[Thing]) -> None:
    with pytest.raises(OptionError, match=r"unknown thing 'zebro'.*did you mean 'zebra'"):
        registry["zebro"]
