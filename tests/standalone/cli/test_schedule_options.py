"""Schedules, lists and sizes on the command line, and read back from the picture that was made with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Answer, Loaded

Run = Callable[..., Answer]
NAMES = ("schedule", "schedule_options", "sigmas", "timesteps", "steps", "options")
QUICK = ("--cfg", "1", "--size", "32", "--seed", 1)


def asked(loaded: Loaded) -> dict[str, Any]:
    """What the pipeline was last told of the steps."""
    return {name: loaded.calls[-1][name] for name in NAMES if loaded.calls[-1].get(name)}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--schedule", "karras:rho=5", "--steps", 2],
            {"schedule": "karras", "schedule_options": {"rho": 5.0}},
        ),
        (["--schedule-option", "rho=5", "--steps", 2], {"schedule_options": {"rho": 5.0}}),
        (
            [
                "--schedule",
                "Beta (A1111)",
                "--schedule-option",
                "alpha=0.5",
                "--schedule-option",
                "beta=2",
                "--steps",
                2,
            ],
            {"schedule": "beta@a1111", "schedule_options": {"alpha": 0.5, "beta": 2.0}},
        ),
        (
            ["--schedule", "ays:table=sdxl", "--steps", 2],
            {"schedule": "align_your_steps", "schedule_options": {"table": "sdxl"}},
        ),
        (["--sigmas", "14.6, 3,1"], {"sigmas": [14.6, 3.0, 1.0]}),
        (["--timesteps", "999,500"], {"timesteps": [999.0, 500.0]}),
        (
            ["--sampler", "euler", "--sampler-option", "s_churn=1", "--steps", 2],
            {"options": {"s_churn": 1.0}},
        ),
    ],
)
def test_given_and_read_back(run: Run, loaded: Loaded, words: list[Any], expected: dict[str, Any]) -> None:
    answer = run("a cat", *words, *QUICK, "--out", "cat")
    assert answer.code == 0, answer.err
    first = asked(loaded)
    assert {name: first.get(name) for name in expected} == expected
    assert run("--from-image", "cat.png", "--out", "again").code == 0
    again = asked(loaded)
    default = {} if "schedule" in again and "schedule" in first else {"schedule": again.get("schedule")}
    own = (
        {"steps": len(again["sigmas" if "sigmas" in again else "timesteps"])} if "steps" not in first else {}
    )
    assert again == first | own | {name: value for name, value in default.items() if value}


def test_another_schedule_than_the_pictures(run: Run, loaded: Loaded) -> None:
    """What belonged to the picture's schedule goes with it."""
    assert run("a cat", "--schedule", "karras:rho=5", "--steps", 3, *QUICK, "--out", "cat").code == 0
    assert (
        run("--from-image", "cat.png", "--schedule", "karras", "--schedule-option", "sigma_min=0.1").code == 0
    )
    assert asked(loaded)["schedule_options"] == {"rho": 5.0, "sigma_min": 0.1}
    assert run("--from-image", "cat.png", "--schedule", "beta").code == 0
    assert asked(loaded) == {"schedule": "beta", "steps": 3}
    assert run("--from-image", "cat.png", "--sigmas", "10,1").code == 0
    assert asked(loaded) == {"sigmas": [10.0, 1.0]}
    assert run("a cat", "--sigmas", "10,1", *QUICK, "--out", "own").code == 0
    assert run("--from-image", "own.png", "--steps", 2).code == 0
    assert asked(loaded) == {"steps": 2}


def test_file_name_of_a_picture_without_a_schedule(run: Run, loaded: Loaded) -> None:
    answer = run("a cat", "--sigmas", "10,1", *QUICK, "--out", "{schedule}-{steps}")
    assert answer.code == 0, answer.err
    assert answer.out == "own-2.png\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--sigmas 3,x", "'3,x' is not a list of numbers"),
        ("--sigmas 3,1 --schedule karras", "--sigmas and --schedule together"),
        ("--sigmas 3,1 --schedule-option rho=3", "--schedule-option with --sigmas"),
        ("--sigmas 3,1 --steps 5", "steps 5 with 2 steps"),
        ("--sigmas 1,3", "rises"),
        ("--timesteps 1200,5", "timestep 1200"),
        ("--schedule karras:rho=0", "rho='0'"),
        ("--schedule simple:rho=2", "unknown option 'rho'; it takes none"),
        ("--schedule flux2", "cannot serve this model"),
        ("--crop 4", "'4' is not two numbers"),
        ("--crop 0,0", "crop on a model of family sd1"),
        ("--aesthetic-score 11", "from 0 to 10"),
    ],
)
def test_what_cannot_work(run: Run, loaded: Loaded, words: str, told: str) -> None:
    answer = run("a cat", *words.split(), *QUICK)
    assert answer.code == 2, answer.err
    assert told in answer.err


@pytest.mark.parametrize("given", ["14,,1", "14,1,", ",14", " , ", "14,one"])
def test_a_list_with_a_gap_is_refused(run: Run, loaded: Loaded, given: str) -> None:
    answer = run("a cat", "--sigmas", given, *QUICK)
    assert answer.code == 2
    assert f"{given!r} is not a list of numbers such as 14.6,3,1" in answer.err
