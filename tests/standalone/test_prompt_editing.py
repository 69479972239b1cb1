"""Prompt editing, alternation and AND: A1111's documented examples, a reader written another way, and pictures."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import sys
from pathlib import Path

import pytest
import torch

from sigmagraft.standalone.pipeline import Pipeline
from sigmagraft.standalone.prompt_course import ByEvaluation, by_step
from sigmagraft.standalone.prompt_editing import Count, read_editing
from sigmagraft.standalone.prompt_parts import read_parts

from .small import small_model

LANDSCAPE = (
    "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
    "[: in background:0.25] [shoddy:masterful:0.5]"
)
# prompt, steps, {last step: words}; the wiki's and the program's own examples
DOCUMENTED = [
    (
        LANDSCAPE,
        100,
        {
            25: "fantasy landscape with a mountain and an oak in foreground shoddy",
            50: "fantasy landscape with a lake and an oak in foreground in background shoddy",
            60: "fantasy landscape with a lake and an oak in foreground in background masterful",
            75: "fantasy landscape with a lake and an oak in background masterful",
            100: "fantasy landscape with a lake and a christmas tree in background masterful",
        },
    ),
    ("test", 10, {10: "test"}),
    ("a [b: 3]", 10, {3: "a ", 10: "a b"}),
    ("a [[[b]]:2]", 10, {2: "a ", 10: "a [[b]]"}),
    ("[(a:2):3]", 10, {3: "", 10: "(a:2)"}),
    ("a [b : c : 1] d", 10, {1: "a b  d", 10: "a  c  d"}),
    ("a[b:[c:d:2]:1]e", 10, {1: "abe", 2: "ace", 10: "ade"}),
    ("a [unbalanced", 10, {10: "a [unbalanced"}),
    ("a [b:.5] c", 10, {5: "a  c", 10: "a b c"}),
    ("((a][:b:c [d:3]", 10, {3: "((a][:b:c ", 10: "((a][:b:c d"}),
    ("[a|(b:1.1)]", 4, {1: "a", 2: "(b:1.1)", 3: "a", 4: "(b:1.1)"}),
    ("[fe|||]male", 5, {1: "female", 4: "male", 5: "female"}),
    ("[cow|horse] in a field", 2, {1: "cow in a field", 2: "horse in a field"}),
    ("cat | dog [a:b:1]", 2, {2: "cat | dog [a:b:1]"}),
    ("[a:b]", 3, {3: "[a:b]"}),
    ("a [b:c:3]\\", 5, {5: "a [b:c:3]\\"}),
    ("[(x:y:z):w:2]", 5, {5: "[(x:y:z):w:2]"}),
    ("[a\\]|b]", 2, {1: "a\\]", 2: "b"}),
]


@pytest.mark.parametrize(("prompt", "steps", "expected"), DOCUMENTED, ids=[row[0][:20] for row in DOCUMENTED])
def test_documented_examples(prompt: str, steps: int, expected: dict[int, str]) -> None:
    read, last = read_editing(prompt), 0
    for end, words in expected.items():
        assert {read.at(step, Count(steps)) for step in range(last + 1, end + 1)} == {words}
        last = end


def test_a_second_pass_counts_on() -> None:
    assert read_editing("a [b:.5] c").at(1, Count(10, 10)) == "a b c"
    halves = [read_editing("a [b:1.5] c").at(step, Count(10, 10)) for step in (5, 6)]
    assert halves == ["a  c", "a b c"]
    assert [read_editing("[x:y:13]").at(step, Count(10, 10)) for step in (3, 4)] == ["x", "y"]


TEXT = r"(?:[^\\\[\]():|]|\\.)"
INNER = re.compile(rf"(?<!\\)\[(?P<body>(?:{TEXT}|[:|])*)\]|(?<!\\)\((?P<round>(?:{TEXT}|:)*)\)")


def rewritten(prompt: str, step: int, count: Count) -> str:
    """Brackets that match, innermost first, each replaced by what it says in this step."""
    kept: list[str] = []

    def keep(text: str) -> str:
        kept.append(text)
        return f"\x00{len(kept) - 1}\x01"

    def value(found: re.Match[str]) -> str:
        if found["round"] is not None:
            return keep(f"({found['round']})")
        body = re.split(r"(?<!\\)([:|])", found["body"])
        if "|" in body:
            choices = found["body"].replace("\\|", "\x02").split("|")
            return keep(choices[(step - 1) % len(choices)].replace("\x02", "\\|"))
        if len(body) == 1:
            return keep(f"[{body[0]}]")
        *words, when = body[::2]
        before, after = words if len(words) == 2 else ("", words[0])
        limit = float(when) * count.steps if "." in when else float(when)
        return keep(before if step <= int(min(limit, count.steps)) else after)

    while INNER.search(prompt):
        prompt = INNER.sub(value, prompt)
    while "\x00" in prompt:
        prompt = re.sub("\x00(\\d+)\x01", lambda found: kept[int(found[1])], prompt)
    return prompt


def made_up(rng: random.Random, depth: int) -> str:
    """A prompt whose brackets match."""
    pieces = []
    for _ in range(rng.randint(1, 3)):
        kind = rng.random() if depth else 0.0
        inner = [made_up(rng, depth - 1) if depth else "" for _ in range(3)]
        if kind < 0.4:
            pieces.append(rng.choice(["a", "b c", " ", "\\[x\\]", "red, ", "\\|"]))
        elif kind < 0.55:
            pieces.append(rng.choice([f"({inner[0]})", f"({inner[0]}:1.2)", f"[{inner[0]}]"]))
        elif kind < 0.8:
            when = rng.choice(["3", "0.5", ".25", " 1e1 ", "0.99"])
            pieces.append(rng.choice([f"[{inner[0]}:{inner[1]}:{when}]", f"[{inner[0]}:{when}]"]))
        else:
            pieces.append(f"[{inner[0]}|{inner[1]}|{inner[2]}]")
    return "".join(pieces)


PROMPTS = [made_up(random.Random(seed), 3) for seed in range(200)]


def test_a_reader_written_another_way_agrees() -> None:
    count, changing = Count(10), 0
    for prompt in PROMPTS:
        read = read_editing(prompt)
        words = [read.at(step, count) for step in range(1, 11)]
        assert words == [rewritten(prompt, step, count) for step in range(1, 11)], prompt
        changing += len(set(words)) > 1
    assert changing > 100


@pytest.mark.slow
@pytest.mark.skipif("SIGMAGRAFT_A1111" not in os.environ, reason="needs SIGMAGRAFT_A1111")
def test_a1111_itself_agrees() -> None:
    root = Path(os.environ["SIGMAGRAFT_A1111"])
    sys.path += [str(path) for path in root.glob("venv/lib/*/site-packages")]
    spec = importlib.util.spec_from_file_location("a1111_prompts", root / "modules" / "prompt_parser.py")
    assert spec
    assert spec.loader
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    for prompt in PROMPTS:
        for count in (Count(10), Count(7, 10)):
            steps = (10,) if count.before is None else (10, 7)
            (wanted,) = theirs.get_learned_conditioning_prompt_schedules([prompt], *steps)
            step = ByEvaluation(count.steps, 0)
            for evaluation in range(count.steps + 2):
                index = next((i for i, (end, _) in enumerate(wanted) if evaluation <= end), 0)
                assert read_editing(prompt).at(step(0.0), count) == wanted[index][1], (prompt, evaluation)


def test_no_depth_is_too_much() -> None:
    deep = "[" * 5000 + "a" + ":3]" * 5000
    assert [read_editing(deep).at(step, Count(10)) for step in (3, 4)] == ["", "a"]
    assert read_editing("[" * 5000).at(1, Count(1)) == "[" * 5000


def test_and_and_its_weights() -> None:
    def of(prompt: str, alone: bool = False) -> list[tuple[str, float]]:
        return [(part.at(1, Count(1)), part.weight) for part in read_parts(prompt, alone)]

    assert of("a cat :1.2 AND a dog AND a penguin :2.2") == [
        ("a cat", 1.2),
        (" a dog", 1.0),
        (" a penguin", 2.2),
    ]
    assert of("SAND, a :-0.5 AND b:.5") == [("SAND, a", -0.5), (" b", 0.5)]
    assert of("at 16:9") == [("at 16:9", 1.0)]
    assert of("at 16:9", alone=True) == [("at 16", 9.0)]
    assert of("<lora:x:0.5>a AND b") == [("a", 1.0), (" b", 1.0)]


def test_steps_by_sigma_and_by_evaluation() -> None:
    step = by_step([8.0, 4.0, 2.0, 0.0])
    assert [step(sigma) for sigma in (9.0, 8.0, 7.0, 4.0 - 1e-9, 4.0, 2.0, 1.0, 0.0)] == [
        1,
        1,
        1,
        2,
        2,
        3,
        3,
        3,
    ]
    count = ByEvaluation(3, 0)
    assert [count(0.0) for _ in range(6)] == [1, 1, 2, 3, 1, 1]


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


STEPS = {"steps": 4, "seed": 1, "cfg": 3.0, "sampler": "euler"}


def latents(pipe: Pipeline, prompt: str | list[str], **settings: object) -> torch.Tensor:
    return pipe(prompt, **{**STEPS, **settings}).latents


def test_a_switch_is_a_run_that_goes_on_with_other_words(pipe: Pipeline) -> None:
    from sigmagraft.samplers import schedule

    switched = latents(pipe, "a [red:blue:2] circle")
    told: list[torch.Tensor] = []
    unet = pipe.model.unet
    handle = unet.register_forward_pre_hook(lambda module, args: told.append(args[2][:1]))
    latents(pipe, "a [red:blue:2] circle")
    handle.remove()
    red, blue = (context(pipe, f"a {word} circle") for word in ("red", "blue"))
    assert len(told) == len(schedule("karras", 4, pipe.levels)) - 1
    for index, seen in enumerate(told):
        torch.testing.assert_close(seen, (red, red, blue, blue)[index])
    assert not torch.equal(switched, latents(pipe, "a red circle"))


def context(pipe: Pipeline, prompt: str) -> torch.Tensor:
    from sigmagraft.standalone.encode import encode_prompts

    return encode_prompts(pipe.model, [prompt]).context


def test_a1111_counts_evaluations(pipe: Pipeline) -> None:
    """Under --like a1111 the first words hold one evaluation longer, and Heun has two a step."""
    for sampler, counts in (("euler", [3, 1]), ("heun", [3, 4])):
        told: list[bool] = []
        red = context(pipe, "a red circle")
        handle = pipe.model.unet.register_forward_pre_hook(
            lambda module, args, red=red, told=told: told.append(bool(torch.equal(args[2][:1], red)))
        )
        latents(pipe, "a [red:blue:2] circle", sampler=sampler, like="a1111")
        handle.remove()
        assert (told.count(True), told.count(False)) == tuple(counts)


def test_and_is_the_sum_of_pulls(pipe: Pipeline) -> None:
    """denoised = u + w (1.2 (a - u) - 0.5 (b - u)), each side evaluated alone."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    one_step = {"steps": 1, "seed": 3, "sampler": "euler"}
    handle = pipe.model.unet.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    composed = pipe("a red circle :1.2 AND a blue square :-0.5", cfg=4.0, **one_step).latents
    parts = [pipe(text, cfg=1.0, **one_step).latents for text in ("a red circle", " a blue square", "")]
    handle.remove()
    a, b, uncond = parts
    expected = uncond + 4.0 * (1.2 * (a - uncond) - 0.5 * (b - uncond))
    torch.testing.assert_close(composed, expected, rtol=1e-4, atol=1e-4)
    assert len(seen[0][0]) == 3  # both parts and the negative prompt in one evaluation
    unguided = pipe("a red circle :1.2 AND a blue square :-0.5", cfg=0.0, **one_step).latents
    torch.testing.assert_close(
        unguided, uncond + 1.2 * (a - uncond) - 0.5 * (b - uncond), rtol=1e-4, atol=1e-4
    )


def test_a_batch_of_different_parts_is_each_image_alone(pipe: Pipeline) -> None:
    prompts = ["a [red:blue:0.5] circle", "a dog AND [a|b] cat :0.7"]
    both = latents(pipe, prompts, seed=5)
    for k, prompt in enumerate(prompts):
        alone = latents(pipe, prompt, seed=5 + k)
        torch.testing.assert_close(both[k : k + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("emphasis", ["comfyui", "none", "diffusers"])
def test_other_conventions_read_text(pipe: Pipeline, emphasis: str) -> None:
    from sigmagraft.standalone.prompt_run import Speech
    from sigmagraft.standalone.request import Request

    speech = Speech(pipe.model, Request.of("[a:b:0.5] AND [c|d]", {"emphasis": emphasis}))
    ((part,),) = speech.sides[0]
    assert {part.at(step, Count(4)) for step in (1, 4)} == {"[a:b:0.5] AND [c|d]"}


def test_negative_prompts_change_too(pipe: Pipeline) -> None:
    changing = latents(pipe, "a cat", negative="[red:blue:2]")
    fixed = [latents(pipe, "a cat", negative=word) for word in ("red", "blue")]
    assert all(not torch.allclose(changing, other, atol=1e-5) for other in fixed)
    as_text = latents(pipe, "a cat", negative="red AND blue")
    assert not torch.allclose(as_text, latents(pipe, "a cat", negative="red"), atol=1e-6)
