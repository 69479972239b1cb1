"""`sigmagraft compare` as a user runs it, on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sigmagraft.standalone.cli.compare import counts, methods

from .conftest import Answer, Loaded

Run = Callable[..., Answer]
QUICK = ("--reference-steps", 12, "--seed", 3, "--cfg", 2)


def test_grid_plot_and_numbers(run: Run, loaded: Loaded) -> None:
    words = ("--samplers", "euler,heun,ddim:eta=1", "--schedules", "karras,normal", "--steps", "3,5")
    answer = run("compare", *words, *QUICK, "a", "circle")
    assert answer.code == 0, answer.err
    folder = Path("outputs/compare-3")
    assert answer.out.splitlines()[-3:] == [str(folder / n) for n in ("grid.png", "plot.png", "compare.json")]
    found = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    assert (found["prompt"], found["seed"], found["cfg"]) == ("a circle", 3, 2.0)
    assert (found["reference"]["sampler"], found["reference"]["evaluations"]) == ("dpmpp_2m", 12)
    assert len(found["entries"]) == 12
    heun = [entry for entry in found["entries"] if entry["sampler"] == "heun"]
    assert [entry["evaluations"] for entry in heun] == [5, 9, 5, 9]
    assert [entry["schedule"] for entry in heun] == ["karras", "karras", "normal", "normal"]
    assert all(
        entry["distance"] > 0 and entry["psnr"] > 0 and entry["seconds"] > 0 for entry in found["entries"]
    )
    assert {entry["sampler"]: entry["stochastic"] for entry in found["entries"]} == {
        "euler": False,
        "heun": False,
        "ddim": True,
    }
    for name in ("grid.png", "plot.png"):
        with Image.open(folder / name) as image:
            assert min(image.size) > 300
    for entry in heun:
        assert f"{entry['distance']:.3g}" in answer.out


def test_a_second_run_replaces_nothing(run: Run, loaded: Loaded) -> None:
    words = ("compare", "--samplers", "euler", "--steps", 2, *QUICK, "--json", "a")
    first, second = run(*words), run(*words)
    kept = [{k: v for k, v in entry.items() if k != "seconds"} for entry in json.loads(first.out)["entries"]]
    again = [
        {k: v for k, v in entry.items() if k != "seconds"} for entry in json.loads(second.out)["entries"]
    ]
    assert kept == again
    assert sorted(path.name for path in Path("outputs").iterdir()) == ["compare-3", "compare-3-2"]


def test_equal_evaluations(run: Run, loaded: Loaded) -> None:
    answer = run(
        "compare", "--samplers", "euler,heun,dpm_2", "--equal-nfe", "7,1", *QUICK, "--json", "--out", "x", "a"
    )
    assert answer.code == 0, answer.err
    entries = json.loads(answer.out)["entries"]
    assert [(entry["steps"], entry["evaluations"]) for entry in entries] == [
        (7, 7),
        (1, 1),
        (4, 7),
        (1, 1),
        (4, 7),
        (1, 1),
    ]
    assert (Path("x") / "grid.png").exists()


def test_a_sampler_with_steps_of_its_own_walks_once(run: Run, loaded: Loaded) -> None:
    answer = run("compare", "--samplers", "dpm_adaptive,euler", "--equal-nfe", "2,3", *QUICK, "--json", "a")
    assert [e["sampler"] for e in json.loads(answer.out)["entries"]] == ["dpm_adaptive", "euler", "euler"]


def test_one_that_fails_does_not_stop_the_others(run: Run, loaded: Loaded) -> None:
    answer = run(
        "compare",
        "--samplers",
        "dpm_adaptive,euler",
        "--steps",
        2,
        "--guidance",
        "cfg++",
        *QUICK,
        "--json",
        "a",
    )
    assert answer.code == 0, answer.err
    errors = [entry["error"] for entry in json.loads(answer.out)["entries"]]
    assert "cfg++" in errors[0]
    assert errors[1] is None


def test_reading_lists() -> None:
    assert methods("euler:s_churn=1,s_noise=1.1,heun, k_diffusion:lms:order=3,ddim") == [
        ("euler", {"s_churn": "1", "s_noise": "1.1"}),
        ("heun", {}),
        ("k_diffusion:lms", {"order": "3"}),
        ("ddim", {}),
    ]
    assert counts("8, 20") == [8, 20]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--samplers eular", ["unknown sampler 'eular'", "'euler'"]),
        ("--samplers euler:churn=1", ["'churn'", "'s_churn'"]),
        ("--samplers euler,euler", ["twice"]),
        ("--schedules karas", ["'karras'"]),
        ("--schedules karras:rh=5", ["'rho'"]),
        ("--steps 8,0", ["--steps", "'0'"]),
        ("--steps 8 --equal-nfe 8", ["one of them"]),
        ("--reference huen", ["'heun'"]),
        ("--cfg 9 --guidance cfg++", ["0 to 3"]),
        ("--sampler euler", ["unknown option --sampler", "'--samplers'"]),
    ],
)
def test_mistakes(run: Run, loaded: Loaded, words: str, parts: list[str]) -> None:
    answer = run("compare", *words.split(), "a cat")
    assert (answer.code, answer.out) == (2, "")
    assert loaded.options == {}
    assert not Path("outputs").exists()
    for part in parts:
        assert part in answer.err, answer.err


def test_stopped_keeps_what_is_done(run: Run, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    from sigmagraft.standalone.compare import Comparison

    real, done = Comparison.entry, []

    def entry(self, *args):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(self, *args)

    monkeypatch.setattr(Comparison, "entry", entry)
    answer = run("compare", "--samplers", "euler", "--steps", "2,3", *QUICK, "a")
    assert answer.code == 130
    assert len(json.loads(Path("outputs/compare-3/compare.json").read_text())["entries"]) == 1
