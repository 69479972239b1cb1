"""The parameters text against an independent parser of A1111's documented rules, and our own round trip."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sigmagraft.samplers import SAMPLERS, SCHEDULES
from sigmagraft.standalone import metadata

SETTINGS = {
    "prompt": "a red circle",
    "negative": "blurry",
    "steps": 20,
    "sampler": "dpmpp_2m",
    "schedule": "karras",
    "cfg": 7.5,
    "seed": 2**64 - 1,
    "size": [512, 768],
    "model_hash": "0123456789",
    "model_name": "dreams",
    "model": "~/models/dreams.safetensors",
    "noise": "cpu",
    "emphasis": "a1111",
    "cfg_rescale": 0.0,
    "options": {},
}

AWKWARD = [
    "plain",
    "commas, colons: and (weights:1.2), [brackets]",
    'a sign that says "stop, now": yes',
    "two\nlines",
    "a blank\n\nline between",
    "  spaces around  ",
    "\nleading newline",
    "Negative prompt: a trap",
    "first\nNegative prompt: a trap\nafter",
    "first\n   Negative prompt: an indented trap",
    "Steps: 3, Sampler: Euler, CFG scale: 1, Seed: 5, Size: 8x8",
    "first\nSteps: 3, Sampler: Euler, CFG scale: 1, Seed: 5, Size: 8x8",
    "Снег и 夜, emoji 🌄, accents é ü",
    "back\\slash \\(escaped\\) and \\",
    "SigmaGraft: {}",
    "tab\tand\u2028separators\x85end",
    "<lora:thing:0.5>, BREAK, {a|b}",
    '"',
    "a" * 3000,
]


def a1111(text: str) -> dict[str, str]:
    """A1111 1.10's rules, written from their description: lines stripped; the last line's pairs if there are at
    least three; values bare up to a comma or JSON strings; sizes split in two."""
    lines = text.strip().split("\n")
    pair = r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)'
    settings = re.findall(pair, lines[-1])
    if len(settings) >= 3:
        lines.pop()
    else:
        settings = []
    out = {"Prompt": "", "Negative prompt": ""}
    key = "Prompt"
    for line in lines:
        line = line.strip()
        if line.startswith("Negative prompt:"):
            key, line = "Negative prompt", line[len("Negative prompt:") :].strip()
        out[key] += ("\n" if out[key] else "") + line
    for name, value in settings:
        if value.startswith('"') and value.endswith('"'):
            value = json.loads(value)
        size = re.match(r"^(\d+)x(\d+)$", value)
        if size:
            out[f"{name}-1"], out[f"{name}-2"] = size.groups()
        else:
            out[name] = value
    return out


def as_tokens(prompt: str) -> str:
    """What A1111's encoder sees of a prompt: white space folded, a backslash that escapes nothing dropped."""
    return " ".join(re.sub(r"\\(?![()\[\]\\])", "", prompt).split())


def test_a1111_reads_every_field() -> None:
    read = a1111(metadata.to_text(SETTINGS | {"clip_skip": 2, "strength": 0.6}))
    assert read["Prompt"] == "a red circle"
    assert read["Negative prompt"] == "blurry"
    assert read["Steps"] == "20"
    assert read["Sampler"] == "DPM++ 2M"
    assert read["Schedule type"] == "Karras"
    assert read["CFG scale"] == "7.5"
    assert read["Seed"] == str(2**64 - 1)
    assert (read["Size-1"], read["Size-2"]) == ("512", "768")
    assert read["Model hash"] == "0123456789"
    assert read["Model"] == "dreams"
    assert read["RNG"] == "CPU"
    assert read["Clip skip"] == "2"
    assert read["Denoising strength"] == "0.6"
    assert read["Version"].startswith("SigmaGraft ")


@pytest.mark.parametrize("prompt", AWKWARD)
@pytest.mark.parametrize("negative", ["", "bad, worse", "Negative prompt: trap", "two\n\nlines"])
def test_awkward_prompts(prompt: str, negative: str) -> None:
    settings = SETTINGS | {"prompt": prompt, "negative": negative}
    text = metadata.to_text(settings)
    read = a1111(text)
    assert as_tokens(read["Prompt"]) == as_tokens(prompt)
    assert as_tokens(read["Negative prompt"]) == as_tokens(negative)
    assert (read["Steps"], read["Seed"]) == ("20", str(2**64 - 1))
    ours = metadata.from_text(text)
    assert ours.settings.get("prompt", "") == prompt
    assert ours.settings.get("negative", "") == negative
    assert ours.other == {}


def full(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item not in (None, "", {}, [])}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"prompt": ""},
        {"options": {"s_churn": 2.5, "s_noise": 1.003}, "sampler": "euler"},
        {"options": {"eta": 0.3, "strange": "a, b: c"}},
        {"cfg": 1e-07, "cfg_rescale": 0.7, "shift": 3.0, "prediction": "v"},
        {"noise": "device"},
        {"noise": "nv"},
        {"emphasis": "comfyui"},
        {"emphasis": "none"},
        {"emphasis": "a1111-no-norm"},
        {"model_name": 'odd, "name": x', "model": "C:\\models\\dream, v2.safetensors"},
        {"image": "~/in.png", "strength": 0.75, "mask": "~/m.png", "mask_blur": 4.0, "only_masked": 32},
        {"only_masked": 0, "image": "a", "mask": "b"},
        {"steps": 1, "seed": 0, "cfg": 0.0},
        {"embeddings": ["a.pt", "b, c.pt"], "resize_mask": True},
        {
            "loras": ["a, b.safetensors:0.5:te=1"],
            "lora_dir": ["~/x"],
            "lora_hashes": {"odd: name": "12", "b": "3"},
        },
    ],
)
def test_our_settings_come_back_exactly(changed: dict[str, Any]) -> None:
    settings = SETTINGS | changed
    assert full(metadata.from_text(metadata.to_text(settings)).settings) == full(settings)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_sampler_has_a_label_that_comes_back(name: str) -> None:
    assert metadata.from_text(metadata.to_text(SETTINGS | {"sampler": name})).settings["sampler"] == name


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_every_schedule_has_a_label_that_comes_back(name: str) -> None:
    assert metadata.from_text(metadata.to_text(SETTINGS | {"schedule": name})).settings["schedule"] == name


A1111_TEXT = """masterpiece, a castle at (dawn:1.2)
second line
Negative prompt: worst quality,
lowres
Steps: 28, Sampler: Euler a, Schedule type: Automatic, CFG scale: 6.5, Seed: 1234567890, Size: 640x960, \
Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Clip skip: 2, ENSD: 31337, \
Lora hashes: "thing: 0123456789ab, other: 98", Version: v1.10.1"""


def test_a_text_of_a1111() -> None:
    read = metadata.from_text(A1111_TEXT)
    assert read.settings == {
        "prompt": "masterpiece, a castle at (dawn:1.2)\nsecond line",
        "negative": "worst quality,\nlowres",
        "steps": 28,
        "sampler": "euler_ancestral",
        "cfg": 6.5,
        "seed": 1234567890,
        "size": [640, 960],
        "model_hash": "6ce0161689",
        "model_name": "v1-5-pruned-emaonly",
        "clip_skip": 2,
        "ensd": 31337,
        "noise": "nv",
        "emphasis": "a1111",
        "lora_hashes": {"thing": "0123456789ab", "other": "98"},
    }
    assert read.other == {}


def test_a_sampler_with_its_schedule_in_one_name() -> None:
    read = metadata.from_text("a\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 512x512")
    assert (read.settings["sampler"], read.settings["schedule"]) == ("dpmpp_2m", "karras")


@pytest.mark.parametrize("text", ["", "\n\n", "only a prompt", "a\nSteps: 20, Seed: 3", "Steps", ",,,:::"])
def test_text_without_settings_is_a_prompt(text: str) -> None:
    read = metadata.from_text(text)
    assert set(read.settings) <= {"prompt"}


def test_nonsense_values_are_left_over() -> None:
    read = metadata.from_text("a\nSteps: many, Seed: 0x, Size: big, CFG scale: 7, SigmaGraft: {broken")
    assert read.settings == {"prompt": "a", "cfg": 7.0, "noise": "nv", "emphasis": "a1111"}
    assert read.other == {"Steps": "many", "Seed": "0x", "Size": "big"}


HIRES = [
    {"scale": 2.0, "upscaler": "latent", "strength": 0.7},
    {
        "size": [768, 1024],
        "upscaler": "lanczos",
        "steps": 12,
        "strength": 0.45,
        "cfg": 5.5,
        "sampler": "dpmpp_2m",
        "schedule": "karras",
        "prompt": "a dog, big",
        "negative": "blurry",
    },
    {"scale": 1.5, "guidance": ["pag", "freeu"], "options": {"eta": 0.5}},
]


@pytest.mark.parametrize("hires", HIRES, ids=["least", "all", "ours"])
def test_a_second_pass_is_read_back(hires: dict) -> None:
    settings = {"prompt": "a cat", "steps": 20, "seed": 1, "cfg": 7.0, "sampler": "euler", "hires": hires}
    text = metadata.to_text(settings)
    read = metadata.from_text(text).settings
    assert {name: read[name] for name in settings} == settings
    assert "strength" not in read
    assert ('\\"hires\\"' in text) == ("options" in hires)


def test_a1111s_second_pass() -> None:
    """As A1111 1.10 writes it; an upscaler that is a network leaves all of it unused."""
    text = (
        "a cat\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512, "
        "Model: dreams, Denoising strength: 0.55, Hires upscale: 1.5, Hires steps: 10, "
        "Hires upscaler: Latent (bicubic), Hires CFG Scale: 6, Version: v1.10.1"
    )
    expected = {"scale": 1.5, "steps": 10, "upscaler": "latent_bicubic", "cfg": 6.0, "strength": 0.55}
    assert metadata.from_text(text).settings["hires"] == expected
    unknown = metadata.from_text(text.replace("Latent (bicubic)", "R-ESRGAN 4x+"))
    assert "hires" not in unknown.settings
    assert {"Hires upscale", "Hires upscaler", "Hires steps"} <= set(unknown.other)
