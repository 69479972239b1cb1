"""--like on the command line: what it sets, what wins over it, how it is kept in the picture and read back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sigmagraft.standalone.like import LIKE

from .conftest import Answer, Loaded

Run = Callable[..., Answer]
QUICK = ("--size", "64x64", "--steps", 2, "--seed", 3)


@pytest.mark.parametrize("name", list(LIKE))
def test_it_is_kept_in_the_picture_and_read_back(name: str, run: Run, loaded: Loaded) -> None:
    assert run("a (cat:1.2)", "--like", name, *QUICK, "--out", "one.png").code == 0
    found = json.loads(run("inspect", "one.png", "--json").out)["settings"]
    assert found["like"] == name
    assert {name: found[name] for name in LIKE[name].settings} == LIKE[name].settings
    assert run("--from-image", "one.png", "--out", "two.png").code == 0
    first, second = loaded.calls
    same = {key: value for key, value in second.items() if key not in ("callback", "decoded")}
    assert {key: first.get(key, same[key]) for key in same} == same
    assert json.loads(run("inspect", "two.png", "--json").out)["settings"] == found


def test_what_is_said_wins(run: Run, loaded: Loaded) -> None:
    words = ("--like", "comfyui", "--emphasis", "none", "--noise", "nv", "--schedule", "karras")
    assert run("a", *words, *QUICK, "--out", "one.png").code == 0
    found = json.loads(run("inspect", "one.png", "--json").out)["settings"]
    assert (found["emphasis"], found["noise"], found["schedule"]) == ("none", "nv", "karras")


def test_a_picture_of_another_system(run: Run, loaded: Loaded) -> None:
    """What the picture only had by default is the new system's; what its maker chose stays."""
    assert run("a", "--like", "comfyui", *QUICK, "--out", "one.png").code == 0
    assert run("--from-image", "one.png", "--like", "diffusers", "--out", "two.png").code == 0
    assert loaded.calls[1]["emphasis"] == "diffusers"
    assert run("a", "--noise", "nv", *QUICK, "--out", "three.png").code == 0
    assert run("--from-image", "three.png", "--like", "comfyui", "--out", "four.png").code == 0
    assert (loaded.calls[3]["noise"], loaded.calls[3]["emphasis"]) == ("nv", "comfyui")


def test_an_unknown_system(run: Run, loaded: Loaded) -> None:
    answer = run("a", "--like", "comfy", *QUICK)
    assert answer.code == 2
    assert "comfyui" in answer.err


def test_the_option_named_is_the_one_that_was_given(run: Run, loaded: Loaded) -> None:
    assert run("a", "--sampler", "euler:schurn=1").err.startswith("sigmagraft: --sampler:")
    assert run("a", "--sampler", "euler", "--option", "schurn=1").err.startswith("sigmagraft: --option:")


def test_an_infinite_default_is_a_word_that_is_taken(run: Run, loaded: Loaded) -> None:
    for spec in json.loads(run("samplers", "--json").out):
        for option in spec["options"]:
            assert option["default"] is not None, (spec["name"], option["name"])
            if option["default"] == "inf":
                assert run("a", "--sampler", f"{spec['name']}:{option['name']}=inf", *QUICK).code == 0


def test_steps_of_its_own_stand_in_a_column_of_their_own(run: Run, loaded: Loaded) -> None:
    answer = run(
        "compare", "--samplers", "dpm_adaptive,euler", "--equal-nfe", "2", "--size", "64x64",
        "--reference-steps", "3", "--out", "x", "a",
    )  # fmt: skip
    told = [line for line in answer.err.splitlines() if "dpm_adaptive" in line]
    assert answer.code == 0
    assert told
    assert all("2 evaluations" not in line for line in told)
