"""A batch: each job one picture, whoever dies, whoever goes on; the same pictures on any number of workers."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sigmagraft.core.errors import FileError, MissingPartError, OptionError
from sigmagraft.standalone.batch import Batch, BatchError, devices_of, draw_batch
from sigmagraft.standalone.batch_draw import MARK, publish
from sigmagraft.standalone.batch_jobs import make_jobs, read_jobs
from sigmagraft.standalone.batch_ray import workers_of
from sigmagraft.standalone.cli import main

# a worker that draws nothing: it publishes the prompt, and does what the prompt says
WORKER = """
import json, os, signal, sys
from pathlib import Path
out, log = Path(sys.argv[1]), open(sys.argv[2], "a")
for line in sys.stdin:
    job = json.loads(line)
    words = job["settings"]["prompt"].split()
    log.write(f"{job['number']} {os.getpid()}\\n"); log.flush()
    first = not (out / f"tried-{job['number']}").exists()
    (out / f"tried-{job['number']}").touch()
    if "die" in words and (first or "always" in words):
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in words:
        print(json.dumps({"number": job["number"], "error": "cannot"}), flush=True)
        continue
    with open(out / job["settings"]["negative"], "x") as file:
        file.write(job["settings"]["prompt"])
    if "late" in words and first:
        os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"number": job["number"]}), flush=True)
"""


class Pretended(Batch):
    """A batch of such workers."""

    def __init__(self, prompts: list[str], folder: Path, **more: Any) -> None:
        made = make_jobs([{"prompt": prompt, "negative": f"{n}.png"} for n, prompt in enumerate(prompts)])
        self.log = folder / "log"
        super().__init__(made, folder / "out", **more)
        self.command = lambda device, out: [sys.executable, "-c", WORKER, str(out), str(self.log)]

    def path(self, job: Any) -> Path:
        return self.out / job.settings["negative"]

    @property
    def pictures(self) -> list[str]:
        return sorted(path.name for path in self.out.glob("*.png"))


def test_a_worker_that_dies_loses_nothing(tmp_path: Path) -> None:
    """In the middle of a job, or after its picture was published and before it said so."""
    batch = Pretended(["a", "die", "b", "late", "c", "d"], tmp_path)
    batch.run("cpu:2")
    assert batch.pictures == [f"{n}.png" for n in range(6)]
    assert batch.failed == {}
    tried = [int(line.split()[0]) for line in batch.log.read_text().splitlines()]
    assert sorted(tried) == [0, 1, 1, 2, 3, 4, 5], "only the job whose picture was lost is drawn again"


def test_a_job_that_kills_every_worker_and_one_that_fails_stop_nobody(tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    batch = Pretended(["a", "die always", "fail", "b"], tmp_path, told=lambda *done: said.append(done))
    batch.run("cpu:2")
    assert batch.pictures == ["0.png", "3.png"]
    assert batch.failed == {1: "its worker died 3 times", 2: "cannot"}
    assert said[0] == (0, 4)
    assert sorted(said)[-1] == (4, 4)


def test_a_worker_that_cannot_start_is_told(tmp_path: Path) -> None:
    jobs = make_jobs([{"prompt": "one"}, {"prompt": "two"}], None, 0)
    batch = Batch(jobs, tmp_path, command=lambda device, out: [str(tmp_path / "no such program")])
    batch.run("cpu:1")
    assert sorted(batch.failed) == [0, 1]
    assert "did not start" in batch.failed[0]


def test_a_second_run_draws_what_is_left(tmp_path: Path) -> None:
    batch = Pretended(["a", "b", "c"], tmp_path)
    batch.run("cpu")
    (tmp_path / "out" / "1.png").unlink()
    again = Pretended(["a", "b", "c"], tmp_path)
    again.run("cpu:2")
    assert again.drawn == [1]
    assert again.pictures == ["0.png", "1.png", "2.png"]


def test_a_file_is_published_once(tmp_path: Path) -> None:
    assert publish(b"first", tmp_path / "a.png")
    assert not publish(b"second", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"first"
    assert not list(tmp_path.glob(f"{MARK}*"))


def test_names_follow_the_settings() -> None:
    one, two = make_jobs([{"prompt": "a"}, {"prompt": "a"}])
    assert (one.settings["seed"], two.settings["seed"]) == (0, 1)
    (same,) = make_jobs([{"seed": 0, "prompt": "a"}])
    (changed,) = make_jobs([{"prompt": "a", "steps": 3}])
    assert same.name == one.name
    assert changed.name != one.name


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no job"),
        ("[1]", "job 1 is a list"),
        ('{"prompt": "a"}\n{', "line 2 is no JSON"),
        ('{"promt": "a"}', "unknown setting 'promt'.*prompt"),
        ('{"steps": 3}', "no prompt"),
        ('{"prompt": ["a", "b"]}', "no prompt"),
        ('{"prompt": "a", "seed": -1}', "seed -1"),
        ('{"prompt": "a", "batch": 4}', "unknown setting 'batch'"),
    ],
)
def test_what_is_no_job_is_told_with_its_line(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(text)
    with pytest.raises((FileError, OptionError), match=match):
        read_jobs(path)


def test_devices() -> None:
    assert devices_of("cpu:3") == ["cpu"] * 3
    assert devices_of("all")
    for wrong in ("cpu:0", "cpu:x", "cuda:99", "tpu"):
        with pytest.raises(OptionError):
            devices_of(wrong)


def test_workers_of_a_cluster() -> None:
    there = {"CPU": 32.0, "GPU": 8.0}
    assert workers_of("all", there) == ("cuda", 8)
    assert workers_of("cuda:3", there) == ("cuda", 3)
    assert workers_of("all", {"CPU": 32.0}) == ("cpu", 8)
    assert workers_of("cpu:5", there) == ("cpu", 5)
    for wrong in ("cuda:9", "mps", "cuda:x", "cpu:33", "cuda:0"):
        with pytest.raises(OptionError):
            workers_of(wrong, there)


def test_without_ray(tmp_path: Path) -> None:
    if "ray" in sys.modules:
        pytest.skip("ray is here")
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPartError, match="ray"):
            draw_batch([{"prompt": "a"}], tmp_path, "cpu", "ray")
    with pytest.raises(OptionError, match="processes"):
        draw_batch([{"prompt": "a"}], tmp_path, "cpu", "process")


JOBS = [{"prompt": f"a {colour} circle", "steps": 2} for colour in ("red", "blue", "green", "white")]


@pytest.mark.slow
def test_pictures_are_the_same_with_a_worker_killed(tmp_path: Path) -> None:
    """The bundled model on two workers, one of them killed in mid-run, against one worker."""
    (tmp_path / "jobs.jsonl").write_text("\n".join(json.dumps(job) for job in JOBS))
    jobs = read_jobs(tmp_path / "jobs.jsonl")
    killed: list[int] = []
    batch = Batch(jobs, tmp_path / "two", threads=1)
    started: list[int] = []
    batch.started = lambda device, pid: started.append(pid)

    def kill(done: int, total: int) -> None:
        if done and not killed:
            killed.append(started[-1])
            os.kill(started[-1], signal.SIGKILL)

    batch.told = kill
    batch.run("cpu:2")
    assert killed
    assert batch.failed == {}
    alone = Batch(jobs, tmp_path / "one", threads=1)
    alone.run("cpu")
    for job in jobs:
        with Image.open(batch.path(job)) as two, Image.open(alone.path(job)) as one:
            assert two.tobytes() == one.tobytes()
            assert "Steps: 2" in two.info["parameters"]
    assert len(list((tmp_path / "two").iterdir())) == len(jobs)


@pytest.mark.slow
def test_a_job_that_cannot_work_is_told(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"1 of 2 jobs failed, job 2: .*eulr"):
        draw_batch([{**JOBS[0], "steps": 1}, {**JOBS[0], "sampler": "eulr"}], tmp_path, "cpu")
    assert len(list(tmp_path.glob("*.png"))) == 1


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"prompt": "a red circle", "steps": 1}\n\n{"prompt": "a", "cfg": "much"}\n')
    words = ["batch", str(jobs), "--devices", "cpu", "--out", str(tmp_path / "out"), "--seed", "4"]
    assert main(words) == 2
    said = capsys.readouterr()
    (path,) = map(Path, said.out.split())
    assert path.name.startswith("00000-")
    assert "job 2" in said.err
    assert main([*words, "--json"]) == 2
    first, second = json.loads(capsys.readouterr().out)["images"]
    assert (first["path"], first["seed"], first["error"]) == (str(path), 4, None)
    assert second["path"] is None
    assert "cfg" in second["error"]


def test_mistakes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["batch"], ["batch", str(tmp_path / "none.jsonl")]):
        assert main(words) == 2
        assert "jobs" in capsys.readouterr().err
