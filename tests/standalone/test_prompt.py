"""Prompt syntax: what each convention makes of brackets, weights, escapes, BREAK and mistakes."""

from __future__ import annotations

import math
import random

import pytest

from sigmagraft.standalone.prompt import Segment, parse_a1111, parse_comfyui, parse_none

BREAK = (None, 1.0)
A1111 = {
    "": [("", 1)],
    "normal text": [("normal text", 1)],
    "an (important) word": [("an ", 1), ("important", 1.1), (" word", 1)],
    "(a:1.2)": [("a", 1.2)],
    "(a: 1.2 )": [("a", 1.2)],
    "(a:-0.5)(b:+.5)": [("a", -0.5), ("b", 0.5)],
    "[a]": [("a", 1 / 1.1)],
    "((a))": [("a", 1.21)],
    "[[a] b]": [("a", 1 / 1.21), (" b", 1 / 1.1)],
    "((a:1.5) b:2)": [("a", 3.0), (" b", 2.0)],
    "(un)(necessary)": [("unnecessary", 1.1)],
    r"\(literal\] \[x\) \\": [("(literal] [x) \\", 1)],
    "lone \\ backslash\\": [("lone  backslash", 1)],
    "(unbalanced": [("unbalanced", 1.1)],
    "[unbalanced (twice": [("unbalanced ", 1 / 1.1), ("twice", 1)],
    "a) b] c:1.2)": [("a) b] c:1.2)", 1)],
    "(a [b) c]": [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)],
    "(a:1.2.3)": [("a", 1.1)],
    "(a:" + "9" * 400 + ")": [("a", 1.1)],
    "time 12:30, ratio 1:2": [("time 12:30, ratio 1:2", 1)],
    "()": [("", 1)],
    "a BREAK b": [("a", 1), BREAK, ("b", 1)],
    "aBREAK break": [("aBREAK break", 1)],
    "BREAK": [("", 1), BREAK, ("", 1)],
    "a BREAK\nBREAK b": [("a", 1), BREAK, ("", 1), BREAK, ("b", 1)],
    "(a BREAK b:1.2) c": [("a", 1.2), BREAK, ("b", 1.2), (" c", 1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ],
}
COMFYUI = {
    "": [("", 1)],
    "(foo)": [("foo", 1.1)],
    "((foo))": [("foo", 1.21)],
    "(foo:2.0)": [("foo", 2)],
    "((foo):1.3)": [("foo", 1.43)],
    "((foo:1.3))": [("foo", 1.3)],
    "((a:1.5) b:2)": [("a", 1.5), (" b", 2)],
    "[a] BREAK b": [("[a] BREAK b", 1)],
    r"\(a\) (b\(c\):2)": [("(a) ", 1), ("b(c)", 2)],
    "back\\slash": [("back\\slash", 1)],
    "(unbalanced": [("(unbalanced", 1)],
    "a) (b:1.2)": [("a) (b:1.2)", 1)],
    "(a (b:1.2)": [("a ", 1.2), ("(b", 1.2)],
    "(a:nan)(b:inf)(c:)(:1.2)": [("a:nan", 1.1), ("b:inf", 1.1), ("c:", 1.1), (":1.2", 1.1)],
    "(embedding:foo:1.2)": [("embedding:foo", 1.2)],
    "()": [("", 1)],
    "foo ((((lol (cat:666) attack:100)))) baz": [
        ("foo ", 1),
        ("lol ", 100),
        ("cat", 666),
        (" attack", 100),
        (" baz", 1),
    ],
}


def close(found: list[Segment], wanted: list[tuple[str | None, float]]) -> bool:
    return [s.text for s in found] == [text for text, _ in wanted] and all(
        math.isclose(s.weight, weight, rel_tol=1e-9) for s, (_, weight) in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize(("prompt", "wanted"), A1111.items())
def test_a1111(prompt, wanted):
    assert close(parse_a1111(prompt), wanted), parse_a1111(prompt)


@pytest.mark.parametrize(("prompt", "wanted"), COMFYUI.items())
def test_comfyui(prompt, wanted):
    assert close(parse_comfyui(prompt), wanted), parse_comfyui(prompt)


def test_none_reads_nothing():
    prompt = r"(a:1.2) [b] \( BREAK"
    assert parse_none(prompt) == [Segment(prompt)]


class Tree:
    """A random prompt whose letters' weights are known because it was built from them."""

    def __init__(self, seed: int, nested: bool) -> None:
        self.draw, self.nested = random.Random(seed), nested

    def build(self, weight: float, depth: int) -> tuple[str, list[tuple[str, float]]]:
        text, letters = "", []
        for _ in range(self.draw.randint(1, 3)):
            kind = self.draw.choice(["word", "round", "number", "square"] if depth else ["word"])
            if kind == "word":
                word = "".join(self.draw.choices("abc, ", k=4)) + "x"
                text += word
                letters += [(c, weight) for c in word]
                continue
            number = self.draw.choice([0.0, 0.5, 1.3, 2.0])
            factor = {"round": 1.1, "square": 1 / 1.1, "number": number}[kind]
            if not self.nested:
                factor = 1.0 if kind == "square" else factor
            inner = number if kind == "number" and not self.nested else weight * factor
            inside, more = self.build(inner, depth - 1)
            mark = {"round": "({})", "square": "[{}]", "number": "({}:%s)" % number}[kind]  # noqa: UP031
            if kind == "square" and not self.nested:
                more = [("[", weight), *more, ("]", weight)]
            text += mark.format(inside)
            letters += more
        return text, letters


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(("parse", "nested"), [(parse_a1111, True), (parse_comfyui, False)])
def test_every_letter_of_a_random_prompt_has_its_weight(parse, nested, seed):
    text, wanted = Tree(seed, nested).build(1.0, 4)
    found = [(letter, segment.weight) for segment in parse(text) for letter in segment.text or ""]
    assert [letter for letter, _ in found] == [letter for letter, _ in wanted], text
    assert [w for _, w in found] == pytest.approx([w for _, w in wanted])


@pytest.mark.parametrize("parse", [parse_a1111, parse_comfyui, parse_none])
def test_no_prompt_is_an_error(parse):
    draw = random.Random(1)
    prompts = ["".join(draw.choices("ab ()[]:\\1.,BREAK \n", k=30)) for _ in range(500)]
    for prompt in [*prompts, "(" * 1500 + "a" + ")" * 1500, ")" * 3000, "\0\1(\0\2"]:
        segments = parse(prompt)
        assert segments
        assert all(math.isfinite(segment.weight) or len(prompt) > 1000 for segment in segments)
