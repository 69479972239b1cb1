"""txt2img, img2img and inpaint as a user runs them, on a tiny model."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigmagraft.standalone import metadata, naming, output
from sigmagraft.standalone.cli import generate
from sigmagraft.standalone.pipeline import Pipeline

from ..small import small_model
from .conftest import Answer, Loaded

Run = Callable[..., Answer]
QUICK = ("--steps", "2", "--cfg", "1")


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("words", [["a red circle"], ["txt2img", "a red circle"], ["a", "red", "circle"]])
def test_a_prompt_is_enough(run: Run, loaded: Loaded, tmp_path: Path, words: list[str]) -> None:
    answer = run(*words, "--seed", 7, *QUICK)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "outputs/a-red-circle-7.png\n"
    assert files(tmp_path) == ["outputs/a-red-circle-7.png"]
    assert loaded.options["source"] == "bundled"
    assert loaded.calls[0]["prompt"] == ["a red circle"]
    assert pixels(tmp_path / "outputs/a-red-circle-7.png").shape == (64, 64, 3)


def test_options_first_and_words_between(run: Run, loaded: Loaded) -> None:
    assert run(*QUICK, "a", "--seed", "3", "cat", "--preview", "on a mat").code == 0
    assert loaded.calls[0]["prompt"] == ["a cat on a mat"]


def test_a_prompt_that_looks_like_an_option(run: Run, loaded: Loaded) -> None:
    assert run(*QUICK, "--", "--steps and stairs").code == 0
    assert loaded.calls[0]["prompt"] == ["--steps and stairs"]


def test_every_setting_arrives(run: Run, loaded: Loaded) -> None:
    words = "--negative bad --size 32x64 --steps 3 --cfg 3.5 --cfg-rescale 0.5 --sampler euler:s_churn=1,s_noise=1.1"
    more = "--option s_tmin=0.1 --schedule normal --clip-skip 2 --emphasis comfyui --noise nv --seed 5"
    models = "--model m.ckpt --vae v --text-encoder t --prediction v --shift 2 --variant fp16 --subfolder s"
    hub = "--revision r --token k --offline --device cpu --dtype fp32 --compile --embeddings a.pt --embeddings b"
    answer = run("a cat", *f"{words} {more} {models} {hub}".split())
    assert answer.code == 0, answer.err
    call = {name: value for name, value in loaded.calls[0].items() if name not in ("callback", "decoded")}
    assert call == {
        "prompt": ["a cat"],
        "negative": "bad",
        "size": (32, 64),
        "steps": 3,
        "cfg": 3.5,
        "cfg_rescale": 0.5,
        "sampler": "euler",
        "options": {"s_churn": 1.0, "s_noise": 1.1, "s_tmin": 0.1},
        "schedule": "normal",
        "clip_skip": 2,
        "emphasis": "comfyui",
        "noise": "nv",
        "seed": [5],
        "batch": 1,
    }
    progress = loaded.options.pop("progress")
    assert callable(progress)
    assert loaded.options == {
        "source": "m.ckpt",
        "vae": "v",
        "text_encoder": "t",
        "prediction": "v",
        "shift": 2.0,
        "variant": "fp16",
        "subfolder": "s",
        "revision": "r",
        "token": "k",
        "offline": True,
        "device": "cpu",
        "dtype": "fp32",
        "compile": True,
        "embeddings": ["a.pt", "b"],
    }


def test_count_and_batch(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    answer = run("a cat", *QUICK, "--seed", 10, "--count", 5, "--batch", 2, "--out", "{index}-{seed}")
    assert answer.out.split() == [f"{k + 1}-{10 + k}.png" for k in range(5)]
    assert [call["seed"] for call in loaded.calls] == [[10, 11], [12, 13], [14]]
    assert run("a cat", *QUICK, "--seed", 12, "--out", "alone").code == 0
    assert np.abs(pixels(tmp_path / "alone.png") - pixels(tmp_path / "3-12.png")).max() <= 1


def test_batch_alone_makes_as_many(run: Run, loaded: Loaded) -> None:
    assert len(run("a cat", *QUICK, "--batch", 3).out.split()) == 3
    assert len(loaded.calls) == 1


def test_random_seeds_differ(run: Run, loaded: Loaded) -> None:
    seeds = [run("a cat", *QUICK, "--out", "{seed}").out for _ in range(2)]
    assert seeds[0] != seeds[1]


def test_prompts_from_a_file(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeff# ignored\na cat\n\n  a дог  \r\na bird\n", encoding="utf-8")
    answer = run("--prompt-file", "prompts.txt", *QUICK, "--seed", 1, "--batch", 2)
    assert answer.out.split() == ["outputs/a-cat-1.png", "outputs/a-дог-2.png", "outputs/a-bird-3.png"]
    assert [call["prompt"] for call in loaded.calls] == [["a cat", "a дог"], ["a bird"]]
    texts = [metadata.from_text(output.read_text(tmp_path / name)).settings for name in answer.out.split()]
    assert [(text["prompt"], text["seed"]) for text in texts] == [("a cat", 1), ("a дог", 2), ("a bird", 3)]


@pytest.mark.parametrize("content", [b"", b"# only a remark\n", b"\xff\xfe broken \xff"])
def test_bad_prompt_files(run: Run, loaded: Loaded, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    answer = run("--prompt-file", "p.txt")
    assert answer.code == 2
    assert answer.err.startswith("sigmagraft: p.txt: ")
    assert run("--prompt-file", "none.txt").code == 2


def test_grid(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    answer = run("a cat", *QUICK, "--batch", 3, "--grid", "--seed", 1, "--out", "{seed}")
    assert answer.out.split() == ["1.png", "2.png", "3.png", "1-grid.png"]
    sheet = pixels(tmp_path / "1-grid.png")
    assert sheet.shape == (128, 128, 3)
    assert np.array_equal(sheet[64:, :64], pixels(tmp_path / "3.png"))
    assert metadata.from_text(output.read_text(tmp_path / "1-grid.png")).settings["seed"] == 1


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_from_image_makes_it_again(run: Run, loaded: Loaded, tmp_path: Path, format: str) -> None:
    made = (
        "--steps",
        3,
        "--cfg",
        2.5,
        "--sampler",
        "euler_a:eta=0.5",
        "--schedule",
        "exponential",
        "--size",
        "64x32",
    )
    first = run(
        "a (red:1.3) circle,\n\nlines", *made, "--negative", "b: c", "--format", format, "--noise", "nv"
    )
    assert first.code == 0, first.err
    path = first.out.strip()
    again = run("--from-image", path, "--out", "again")
    assert again.code == 0, again.err
    call = loaded.calls[1]
    assert {k: v for k, v in call.items() if k not in ("callback", "decoded")} == {
        k: v for k, v in loaded.calls[0].items() if k not in ("callback", "decoded")
    }
    difference = np.abs(pixels(path) - pixels(tmp_path / "again.png")).mean()
    assert difference == 0 if format == "png" else difference < 12  # lossy formats, and noise is all it shows


def test_what_is_given_overrides_the_picture(run: Run, loaded: Loaded) -> None:
    made = ("--sampler", "euler:s_churn=2", "--schedule", "karras", "--negative", "x", "--seed", 4)
    assert run("a cat", *QUICK, *made, "--out", "cat").code == 0
    assert run("--from-image", "cat.png", "a dog", "--steps", 3, "--option", "s_noise=1.1").code == 0
    call = loaded.calls[1]
    assert (call["prompt"], call["steps"], call["seed"], call["cfg"]) == (["a dog"], 3, [4], 1.0)
    assert call["options"] == {"s_churn": 2.0, "s_noise": 1.1}
    assert run("--from-image", "cat.png", "--sampler", "heun").code == 0
    call = loaded.calls[2]
    assert (call["sampler"], call["options"], call.get("schedule")) == ("heun", {}, None)


def test_a_picture_of_a1111_wants_its_model(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    text = "a cat\nSteps: 2, Sampler: Euler a, Schedule type: Karras, CFG scale: 1, Seed: 9, Size: 32x32, Model: dreams"
    info.add_text(
        "parameters", text + ", Model hash: 0123456789, Face restoration: CodeFormer, Version: v1.10.1"
    )
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", pnginfo=info)
    answer = run("--from-image", "a.png")
    assert answer.code == 2
    assert "'dreams' (hash 0123456789)" in answer.err
    assert "--model" in answer.err
    answer = run("--from-image", "a.png", "--model", "dreams.safetensors")
    assert answer.code == 0
    assert "not used: Face restoration" in answer.err
    assert (loaded.calls[0]["sampler"], loaded.calls[0]["noise"]) == ("euler_ancestral", "nv")


def test_settings_of_a_forged_picture_are_checked(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    forged = {
        "steps": "many",
        "size": [1, 2, 3],
        "options": 5,
        "cfg": True,
        "seed": 3,
        "model": "bundled",
        "count": 99,
    }
    text = "x\nSteps: 2, CFG scale: 1, Seed: 3, SigmaGraft: " + json.dumps(json.dumps(forged))
    output.save(Image.new("RGB", (8, 8)), tmp_path / "x.png", naming.target(None), text)
    answer = run("--from-image", "x.png")
    assert answer.code == 0
    assert "not used: steps, cfg, size, options, count" in answer.err
    assert len(loaded.calls) == 1


def test_img2img(run: Run, loaded: Loaded, photo: Path) -> None:
    answer = run("img2img", "--image", photo, "--strength", "0.5", "a cat", "--steps", 4, "--out", "one")
    assert answer.code == 0, answer.err
    call = loaded.calls[0]
    assert (call["image"].size, call["mask"], call["strength"]) == ((64, 64), None, 0.5)
    assert run("--from-image", "one.png", "--out", "two").code == 0
    assert np.array_equal(pixels("one.png"), pixels("two.png"))
    assert run("img2img", "a cat").err.startswith("sigmagraft: no image (expected --image FILE)")


def test_img2img_to_another_size(run: Run, loaded: Loaded, photo: Path) -> None:
    for mode in ("crop", "stretch", "fill"):
        words = ("--image", photo, "--size", "32x64", "--resize", mode, *QUICK, "x", "--out", mode)
        assert run("img2img", *words).code == 0
        assert loaded.calls[-1]["image"].size == (32, 64)
        assert run("--from-image", f"{mode}.png", "--out", "again-{index}").code == 0
        assert loaded.calls[-1]["image"].tobytes() == loaded.calls[-2]["image"].tobytes()


def test_inpaint_keeps_what_is_black(run: Run, loaded: Loaded, photo: Path, mask: Path) -> None:
    answer = run("inpaint", "--image", photo, "--mask", mask, "--mask-blur", 2, *QUICK, "x", "--out", "one")
    assert answer.code == 0, answer.err
    assert np.array_equal(pixels("one.png")[:, :20], pixels(photo)[:, :20])
    assert np.abs(pixels("one.png")[:, 40:] - pixels(photo)[:, 40:]).max() > 0
    assert run("--from-image", "one.png", "--out", "two").code == 0
    assert np.array_equal(pixels("one.png"), pixels("two.png"))


def test_inpaint_with_a_nine_channel_model(
    run: Run, photo: Path, mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Loaded(Pipeline(small_model(in_channels=9, task="inpaint")))
    monkeypatch.setattr(generate, "load_pipeline", made.load)
    words = ("inpaint", "--image", photo, "--mask", mask, "--mask-blur", 0, "--strength", 1, *QUICK)
    for prompt, name in (("a cat", "one"), ("a dog", "two")):
        assert run(*words, prompt, "--out", name, "--seed", 1).code == 0
        assert np.array_equal(pixels(f"{name}.png")[:, :32], pixels(photo)[:, :32])
    assert not np.array_equal(pixels("one.png")[:, 32:], pixels("two.png")[:, 32:])


def test_inverted_mask(run: Run, loaded: Loaded, photo: Path, mask: Path) -> None:
    words = ("inpaint", "--image", photo, "--mask", mask, "--invert-mask", "--mask-blur", 0, *QUICK, "x")
    assert run(*words, "--out", "one").code == 0
    assert np.array_equal(pixels("one.png")[:, 32:], pixels(photo)[:, 32:])


def test_a_transparent_hole_is_a_mask(
    run: Run, loaded: Loaded, tmp_path: Path, photo: Path, mask: Path
) -> None:
    with Image.open(photo) as image, Image.open(mask) as hole:
        image = image.convert("RGBA")
        image.putalpha(hole.point(lambda v: 255 - v))
        image.save(tmp_path / "hole.png")
    answer = run("inpaint", "--image", "hole.png", *QUICK, "x")
    assert answer.code == 0, answer.err
    assert loaded.calls[0]["mask"].tobytes() == Image.open(mask).tobytes()
    answer = run("inpaint", "--image", photo, *QUICK, "x")
    assert answer.code == 2
    assert "nothing in this picture is transparent" in answer.err


def test_only_masked(run: Run, loaded: Loaded, photo: Path, mask: Path) -> None:
    words = ("inpaint", "--image", photo, "--mask", mask, "--size", "32", *QUICK)
    assert run(*words, "--only-masked", "a cat", "--out", "one").code == 0
    call = loaded.calls[0]
    assert (call["prompt"], call["only_masked"], call["size"]) == (["a cat"], 32, (32, 32))
    assert run(*words, "--only-masked", "8", "a cat").code == 0
    assert loaded.calls[1]["only_masked"] == 8
    assert pixels("one.png").shape == (64, 64, 3)
    assert run("--from-image", "one.png", "--out", "two").code == 0
    assert np.array_equal(pixels("one.png"), pixels("two.png"))


def test_masks_that_do_not_fit(run: Run, loaded: Loaded, photo: Path, tmp_path: Path) -> None:
    Image.new("L", (32, 16), 255).save(tmp_path / "small.png")
    words = ("inpaint", "--image", photo, "--mask", "small.png", *QUICK, "x")
    answer = run(*words)
    assert answer.code == 2
    assert "mask is 32x16 pixels and the picture 64x64" in answer.err
    assert run(*words, "--resize-mask").code == 0
    Image.new("L", (64, 64), 0).save(tmp_path / "black.png")
    answer = run("inpaint", "--image", photo, "--mask", "black.png", "x")
    assert answer.code == 2
    assert "all black" in answer.err


def test_previews_come_and_go(
    run: Run, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, tuple[int, int]]] = []
    replace = output.replace

    def watched(image: Image.Image, path: Path) -> None:
        replace(image, path)
        assert path.is_file()
        seen.append((path, image.size))

    monkeypatch.setattr(output, "replace", watched)
    assert run("a cat", "--steps", 5, "--cfg", 1, "--preview", "2", "--batch", 2, "--out", "p/").code == 0
    assert seen == [(Path("p/sigmagraft-preview.png"), (64, 32))] * 2
    assert len(files(tmp_path)) == 2


def test_a_failing_preview_costs_only_the_preview(
    run: Run, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    answer = run("a cat", *QUICK, "--preview", "--out", "x")
    assert answer.code == 0
    assert answer.err.count("no more previews") == 1
    assert files(tmp_path) == ["x.png"]


def test_ctrl_c_keeps_what_is_finished(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    def interrupt(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    loaded.before = interrupt
    answer = run("a cat", *QUICK, "--count", 5, "--out", "{index}", "--preview", "--grid")
    assert answer.code == 130
    assert answer.out.split() == ["1.png", "2.png", "1-grid.png"]
    assert "kept 2 of 5 pictures" in answer.err
    assert files(tmp_path) == ["1-grid.png", "1.png", "2.png"]


def test_ctrl_c_inside_a_step(
    run: Run, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigmagraft.standalone.progress import Progress

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "step", interrupt)
    answer = run("a cat", *QUICK, "--json")
    assert answer.code == 130
    assert json.loads(answer.out) == {"images": [], "grid": None}
    assert files(tmp_path) == []


def test_json(run: Run, loaded: Loaded) -> None:
    answer = run("a cat", *QUICK, "--seed", 5, "--batch", 2, "--json", "--grid", "--out", "{seed}")
    listing = json.loads(answer.out)
    assert [image["path"] for image in listing["images"]] == ["5.png", "6.png"]
    assert [image["seed"] for image in listing["images"]] == [5, 6]
    assert listing["images"][0]["prompt"] == "a cat"
    assert listing["grid"] == "5-grid.png"


def test_quiet(run: Run, loaded: Loaded) -> None:
    assert run("a cat", *QUICK, "--quiet") == Answer(0, "", "")


def test_disk_full_at_the_second_picture(
    run: Run, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def fill(source: Path, target: Path) -> None:
        if target.name == "2.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(source, target)

    monkeypatch.setattr(os, "link", fill)
    answer = run("a cat", *QUICK, "--count", 3, "--out", "{index}")
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert lines[0] == "sigmagraft: kept 1 of 3 pictures"
    assert lines[1].startswith("sigmagraft: 2.png: cannot write: No space left on device; the disk is full")
    assert files(tmp_path) == ["1.png"]


def test_no_folder_no_work(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    answer = run("a cat", "--out", "file/x.png")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert loaded.options == {}, "the model was loaded although the picture could not be written"


def test_out_of_memory_says_what_to_lower(run: Run, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object, **__: object) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 1e15 bytes"
        )

    monkeypatch.setattr("sigmagraft.standalone.run.walk", short)
    answer = run("a cat", "--batch", 2, "--size", "64x32")
    assert answer.code == 2
    assert answer.err.startswith(
        "sigmagraft: out of memory on cpu while drawing 64x32, batch 2; lower --batch"
    )
    assert answer.err.count("\n") == 1


def test_out_of_memory_elsewhere(run: Run, loaded: Loaded) -> None:
    def short(_: int) -> None:
        raise MemoryError

    loaded.before = short
    answer = run("a cat")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "out of memory; lower --size" in answer.err


def test_a_failure_of_ours(run: Run, loaded: Loaded) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("shapes\ndo not match")

    loaded.before = fail
    answer = run("a cat")
    assert (answer.code, answer.err) == (
        1,
        "sigmagraft: RuntimeError: shapes do not match; run again with --debug for the trace\n",
    )
    answer = run("a cat", "--debug")
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert "in fail" in answer.err


def test_debug_shows_the_trace_of_a_mistake_too(run: Run, loaded: Loaded) -> None:
    answer = run("a cat", "--sampler", "eulr", "--debug")
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("sigmagraft: unknown sampler 'eulr'")
