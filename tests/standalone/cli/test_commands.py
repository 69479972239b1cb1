"""Finding the command, the lists, inspect, and what a mistake on the command line gets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from sigmagraft import __version__
from sigmagraft.samplers import SAMPLERS, SCHEDULES, NoiseLevels, schedule
from sigmagraft.standalone import naming, output
from sigmagraft.standalone.cli import COMMANDS

from ..small import small_model
from .conftest import Answer, Loaded

Run = Callable[..., Answer]
ROOT = Path(__file__).resolve().parents[3]


def lines(text: str) -> list[str]:
    return text.splitlines()


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help(run: Run, words: list[str]) -> None:
    answer = run(*words)
    assert (answer.code, answer.err) == (0, "")
    assert all(f"  {name} " in answer.out for name in COMMANDS)


def test_version(run: Run) -> None:
    assert run("--version").out == f"sigmagraft {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(run: Run, command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0


@pytest.mark.parametrize(
    "words", [["--help"], ["txt2img", "--help"], ["inpaint", "--help"], ["--stpes", "3", "x"]]
)
def test_help_and_mistakes_import_no_torch(words: list[str]) -> None:
    code = (
        f"import runpy, sys; runpy.run_path({str(ROOT / 'bootstrap.py')!r})['load']()\n"
        "from sigmagraft.standalone.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_samplers_table(run: Run) -> None:
    answer = run("samplers")
    rows = {line.split()[0]: line for line in lines(answer.out) if line.strip()}
    for spec in SAMPLERS:
        for told in (
            spec.label,
            str(spec.order),
            spec.default_schedule,
            spec.paper,
            *(o.name for o in spec.options),
        ):
            assert told in rows[spec.name]
        assert f"\n{spec.family}\n" in "\n" + answer.out
        for option in spec.options:
            assert f"  {option.name}={option.default}  ({option.expected})" in answer.out
    assert len(rows) < 2 * len(SAMPLERS) + 20


def test_all_about_one_sampler(run: Run) -> None:
    for spec in SAMPLERS:
        answer = run("samplers", spec.name)
        assert answer.code == 0
        assert lines(answer.out)[0] == f"{spec.name}: {spec.label}"
        told = " ".join(answer.out.split())
        assert " ".join((spec.method.__doc__ or "").split()) in told
        for option in spec.options:
            assert f"{spec.name}:{option.name}={option.default} ({option.expected}) {option.help}" in told
    assert run("samplers", "DPM++", "2M").out == run("samplers", "dpmpp_2m").out
    assert "dpm_2_ancestral" not in run("samplers", "euler").out


def test_a_family_of_samplers(run: Run) -> None:
    heading = SAMPLERS["dpmpp_2m"].family
    listed = json.loads(run("samplers", heading, "--json").out)
    assert [row["name"] for row in listed] == [spec.name for spec in SAMPLERS if spec.family == heading]


def test_the_functions_of_k_diffusion(run: Run) -> None:
    from sigmagraft.core.errors import OptionError
    from sigmagraft.samplers import installed

    answer = run("samplers", "k-diffusion")
    try:
        known = installed.functions()
    except OptionError:
        assert answer.code == 2
        return
    assert all(f"\nk_diffusion:{name} " in answer.out for name in known)
    assert "k_diffusion:lms:order=4" in run("samplers", "k_diffusion:lms").out


def test_samplers_json(run: Run) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    listed = json.loads(run("samplers", "--json").out, parse_constant=refuse)
    assert [row["name"] for row in listed] == SAMPLERS.names()
    for row, spec in zip(listed, SAMPLERS, strict=True):
        assert (row["order"], row["stochastic"], row["flow"]) == (spec.order, spec.stochastic, spec.flow)
        assert [option["name"] for option in row["options"]] == [option.name for option in spec.options]


def test_schedules(run: Run) -> None:
    table = run("schedules").out
    assert all(spec.name in table and spec.label in table for spec in SCHEDULES)
    listed = json.loads(run("schedules", "--json").out)
    assert [row["name"] for row in listed] == SCHEDULES.names()
    users = {name: row["name"] for row in listed for name in row["default_of"]}
    assert users == {spec.name: SCHEDULES[spec.default_schedule].name for spec in SAMPLERS}
    for row, spec in zip(listed, SCHEDULES, strict=True):
        assert (row["aliases"], row["hosts"], row["needs"]) == (
            [*spec.aliases],
            [*spec.hosts],
            spec.needs.text,
        )
        for option in spec.options:
            assert f"{spec.name}:{option.name}={option.default}  ({option.expected}" in table


def test_the_sigmas_of_a_schedule(run: Run, checkpoint: Path) -> None:
    answer = run("schedules", "karras:rho=5", "--steps", 3)
    expected = schedule("karras", 3, NoiseLevels.discrete(), rho=5)
    shown = [[float(cell) for cell in line.split()] for line in lines(answer.out)[1:]]
    assert [row[1] for row in shown] == pytest.approx(expected, rel=1e-5)
    assert [row[2] for row in shown] == pytest.approx(
        [*map(NoiseLevels.discrete().timestep, expected[:3]), 0], abs=0.01
    )
    words = (
        "schedules",
        "Beta (A1111)",
        "--steps",
        4,
        "--schedule-option",
        "alpha=0.5",
        "--model",
        checkpoint,
    )
    told = json.loads(run(*words, "--json").out)
    assert told["name"] == "beta@a1111"
    assert told["sigmas"] == schedule("beta@a1111", 4, NoiseLevels.discrete(), alpha=0.5)
    flow = ("--prediction", "flow", "--shift", 2, "--steps", 5, "--json")
    told = json.loads(run("schedules", "flux2", "--size", "512x1024", *flow).out)
    assert told["sigmas"] == schedule("flux2", 5, NoiseLevels.flow(2), tokens=2048)
    assert told["timesteps"][0] == 1000
    told = json.loads(run("schedules", "normal@a1111", *flow).out)
    assert told["sigmas"] == schedule("normal", 5, NoiseLevels.flow(2))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["karas"], "did you mean 'karras'"),
        (["flux2"], "a rectified-flow model"),
        (["karras:rh=3"], "unknown option 'rh'"),
        (["karras", "--schedule-option", "rho=many"], "a number from 0.1 to 100"),
        (["karras", "--steps", "0"], "--steps"),
        (["sd_turbo", "--steps", "11"], "1 to 10"),
        (["karras", "--model", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_sigmas_that_cannot_be_had(run: Run, words: list[str], told: str) -> None:
    answer = run("schedules", *words)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


def test_inspect_a_model(run: Run, checkpoint: Path) -> None:
    answer = run("inspect", checkpoint, "--check")
    assert answer.code == 0, answer.err
    assert lines(answer.out)[0] == f"{checkpoint}: Stable Diffusion 1.x"
    for fact in (
        "prediction   eps",
        "unet",
        "vae",
        "text_encoder",
        "parameters in float32",
        "not_finite   none",
    ):
        assert fact in answer.out
    assert "\x1b" not in answer.out
    found = json.loads(run("inspect", checkpoint, "--json").out)
    assert (found["family"], found["prediction"], found["kind"]) == ("sd1", "eps", "model")
    model = small_model()
    assert found["parameters"] == sum(
        value.numel()
        for part in (model.unet, model.vae, model.texts[0])
        for value in part.state_dict().values()
    )


def test_inspect_a_picture(run: Run, tmp_path: Path) -> None:
    text = "a cat\nSteps: 20, Seed: 5, Size: 8x8, Odd: 1"
    output.save(Image.new("RGB", (24, 16)), tmp_path / "x.png", naming.target(None), text)
    answer = run("inspect", "x.png")
    assert lines(answer.out)[0] == "x.png: a picture with its settings, 24x16 PNG"
    assert "seed         5" in answer.out
    found = json.loads(run("inspect", "x.png", "--json").out)
    assert found["settings"]["prompt"] == "a cat"
    assert found["other"] == {"Odd": "1"}


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04garbage", b"\xff" * 100])
def test_inspect_what_is_none(run: Run, tmp_path: Path, content: bytes) -> None:
    for name in ("x.safetensors", "x.ckpt", "x.txt", "x.png"):
        (tmp_path / name).write_bytes(content)
        answer = run("inspect", name)
        assert (answer.code, answer.out, len(lines(answer.err))) == (2, "", 1), answer
        assert name in answer.err


@pytest.mark.parametrize(
    "words", [["inspect"], ["inspect", "none.safetensors"], ["inspect", "a", "--cheque"]]
)
def test_inspect_mistakes(run: Run, words: list[str]) -> None:
    answer = run(*words)
    assert (answer.code, len(lines(answer.err))) == (2, 1)


MISTAKES = [
    (["--size", "500x512", "x"], ["--size", "500x512", "496x512 and 504x512"]),
    (["--size", "0", "x"], ["--size", "0x0", "8x8"]),
    (["--size", "big", "x"], ["--size", "'big'", "512x768"]),
    (["--sampler", "dpm++_2m_karas", "x"], ["'dpm++_2m_karas'", "did you mean"]),
    (["--sampler", "eular", "x"], ["unknown sampler 'eular'", "did you mean", "'euler'"]),
    (["--schedule", "karas", "x"], ["unknown schedule 'karas'", "did you mean 'karras'"]),
    (["--device", "cud", "x"], ["--device", "'cud'", "did you mean 'cuda'"]),
    (["--device", "cuda:x", "x"], ["--device", "'cuda:x'", "did you mean 'cuda'"]),
    (["--dtype", "fp61", "x"], ["--dtype", "'fp61'", "'fp16'"]),
    (["--prediction", "vv", "x"], ["--prediction", "'vv'"]),
    (["--noise", "cpuu", "x"], ["--noise", "did you mean 'cpu'"]),
    (["--emphasis", "a111", "x"], ["'a111'", "did you mean 'a1111'"]),
    (["--format", "jepg", "x"], ["--format", "did you mean 'jpg' or 'jpeg'?"]),
    (["--steps", "0", "x"], ["--steps", "'0'", "1 to 1,000"]),
    (["--steps", "10000", "x"], ["--steps", "'10000'", "1 to 1,000"]),
    (["--steps", "many", "x"], ["--steps", "'many'", "an integer from 1"]),
    (["--cfg", "nan", "x"], ["--cfg", "'nan'"]),
    (["--seed", "-1", "x"], ["--seed", "'-1'", "0 to"]),
    (["--seed", str(2**64), "x"], ["--seed", "0 to 18,446,744,073,709,551,615"]),
    (["--batch", "0", "x"], ["--batch", "'0'"]),
    (["--sampler", "euler:churn=1", "x"], ["euler has no option 'churn'", "did you mean 's_churn'"]),
    (["--sampler", "euler:s_churn=-1", "x"], ["s_churn", "from 0 to 100"]),
    (["--sampler", "euler:s_churn", "x"], ["--sampler", "'s_churn' is not option=value"]),
    (["--sampler", "dpmpp_2m", "--option", "eta=1", "x"], ["dpmpp_2m has no option 'eta'"]),
    (["--stpes", "3", "x"], ["unknown option --stpes", "did you mean '--steps'"]),
    (["--steps"], ["--steps", "expected one argument"]),
    (["sampelrs"], ["unknown command 'sampelrs'", "did you mean 'samplers'"]),
    (["txt2img"], ["no prompt", 'sigmagraft "a red circle"']),
    (["img2img", "x"], ["no image", "--image FILE"]),
    (["inpaint", "--mask", "m.png", "x"], ["no image", "--image FILE"]),
    (["img2img", "--image", "none.png", "x"], ["none.png", "no such picture"]),
    (["img2img", "--image", "a.png", "--strength", "1.5", "x"], ["--strength", "'1.5'", "to 1"]),
    (["txt2img", "--mask", "m.png", "x"], ["unknown option --mask"]),
    (["--from-image", "none.png"], ["none.png", "no such picture"]),
    (["--out", "{sed}.png", "x"], ["--out", "did you mean 'seed'"]),
    (["--out", "x.gif", "x"], ["cannot write .gif files"]),
    (["--quality", "80", "x"], ["PNG has no quality"]),
    (["--model", "none.safetensors", "x"], ["none.safetensors"]),
    (["a cat \udcff"], ["not valid UTF-8"]),
    (["samplers", "eular"], ["unknown sampler 'eular'", "'euler'"]),
]


@pytest.mark.parametrize(("words", "parts"), MISTAKES, ids=[" ".join(words)[:40] for words, _ in MISTAKES])
def test_mistakes_get_one_line(run: Run, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    answer = run(*words)
    assert answer.code == 2, answer
    assert answer.out == ""
    assert len(lines(answer.err)) == 1
    assert answer.err.startswith("sigmagraft: ")
    for part in parts:
        assert part in answer.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
def test_a_device_that_is_not_here(run: Run, checkpoint: Path) -> None:
    answer = run("x", "--device", "cuda", "--model", checkpoint)
    assert answer.code == 2
    assert "'cuda'" in answer.err
    assert "cpu" in answer.err


def test_huge_and_broken_pictures(run: Run, loaded: Loaded, tmp_path: Path) -> None:
    from ..test_images import png_claiming

    (tmp_path / "bomb.png").write_bytes(png_claiming(50_000, 50_000))
    whole = output.save(
        Image.effect_noise((99, 99), 50), tmp_path / "cut.png", naming.target(None)
    ).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:2000])
    for name, reason in (("bomb.png", "at most 100,000,000"), ("cut.png", "cannot read")):
        answer = run("img2img", "--image", name, "x")
        assert (answer.code, len(lines(answer.err))) == (2, 1)
        assert reason in answer.err
    assert loaded.calls == []


def test_a_real_checkpoint_from_words_to_picture_and_back(run: Run, checkpoint: Path) -> None:
    quick = ("--steps", 2, "--cfg", 1, "--model", checkpoint, "--seed", 3)
    assert run("a cat", *quick, "--out", "one", "--preview").code == 0
    text = output.read_text("one.png")
    assert "Model: tiny" in text
    found = json.loads(run("inspect", "one.png", "--json").out)["settings"]
    import hashlib

    assert found["model_hash"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:10]
    assert run("--from-image", "one.png", "--out", "two").code == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()


def test_another_model_than_the_picture_was_made_with(run: Run, checkpoint: Path) -> None:
    assert run("a cat", "--steps", 1, "--cfg", 1, "--model", checkpoint, "--out", "one").code == 0
    with Image.open("one.png") as image:
        text = image.info["parameters"]
        changed = text.replace(text.split("Model hash: ")[1][:10], "0123456789")
        output.save(image.convert("RGB"), Path("other.png"), naming.target(None), changed)
    answer = run("--from-image", "other.png", "--out", "two")
    assert answer.code == 0
    assert "model of hash 0123456789" in answer.err


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another event there")
def test_ctrl_c_in_a_terminal(tmp_path: Path, checkpoint: Path) -> None:
    words = ["--model", checkpoint, "--steps", 1, "--cfg", 1, "--count", 100_000, "--out", "{index}", "a cat"]
    command = [sys.executable, str(ROOT), *map(str, words)]
    # tests that a shell runs in the background were told to ignore Ctrl-C, and so would the command be
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "2.png").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.startswith("sigmagraft: stopped; kept ")
    assert "Traceback" not in err
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(out.split())
    for name in names:
        assert output.read_text(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="pipes differ there")
def test_a_reader_that_leaves() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, str(ROOT), "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_without_unicode(tmp_path: Path) -> None:
    text = "a дог\nSteps: 1, Seed: 5, Size: 8x8, Version: SigmaGraft 0"
    path = output.save(Image.new("RGB", (8, 8)), tmp_path / "x.png", naming.target(None), text)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, str(ROOT), "inspect", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "prompt       a \\u0434" in done.stdout
