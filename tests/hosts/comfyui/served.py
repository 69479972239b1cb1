"""A real ComfyUI, started as its users start it, and its HTTP interface."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


class Host:
    """One that runs: prompts in, what it says out."""

    def __init__(self, url: str, folder: Path, log: Path) -> None:
        self.url, self.folder, self.log = url, folder, log

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, path: str, content: Any) -> tuple[int, Any]:
        """(status, answer), also of a refusal."""
        data = json.dumps(content).encode()
        asked = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=120) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            status, text = refused.code, refused.read()
        return status, json.loads(text) if text else None

    def run(self, prompt: dict[str, Any], wait: float = 300.0) -> dict[str, Any]:
        """What the history says of a prompt once it is over."""
        status, answer = self.post("/prompt", {"prompt": prompt})
        assert status == 200, answer
        return self.wait(answer["prompt_id"], wait)

    def wait(self, number: str, wait: float = 300.0) -> dict[str, Any]:
        until = time.monotonic() + wait
        while time.monotonic() < until:
            history = self.get(f"/history/{number}")
            if number in history and history[number]["status"].get("status_str"):
                return history[number]
            time.sleep(0.2)
        raise TimeoutError(self.log.read_text()[-3000:])

    def refused(self, prompt: dict[str, Any]) -> str:
        """Everything the host says of a prompt that it does not take."""
        status, answer = self.post("/prompt", {"prompt": prompt})
        assert status == 400, answer
        return json.dumps(answer)

    def latent(self, name: str) -> Any:
        return json.loads((self.folder / "output" / f"{name}.json").read_text())


@contextmanager
def served(checkout: Path, folder: Path, packs: dict[str, Path]) -> Iterator[Host]:
    """ComfyUI of `checkout` on a free port, with its folders in `folder` and `packs` as its custom nodes."""
    (folder / "custom_nodes").mkdir(parents=True, exist_ok=True)
    for name, pack in packs.items():
        (folder / "custom_nodes" / name).symlink_to(pack, target_is_directory=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [os.environ.get("SIGMAGRAFT_COMFYUI_PYTHON", sys.executable), "main.py", "--cpu"]
    command += ["--port", str(port), "--base-directory", str(folder), "--disable-auto-launch"]
    command += os.environ.get("SIGMAGRAFT_COMFYUI_ARGS", "").split()
    log = folder / "log.txt"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    with log.open("w") as written:
        process = subprocess.Popen(command, cwd=checkout, stdout=written, stderr=subprocess.STDOUT, env=env)
    host = Host(f"http://127.0.0.1:{port}", folder, log)
    try:
        _until_it_answers(host, process)
        yield host
    finally:
        process.terminate()
        process.wait(30)


def _until_it_answers(host: Host, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        assert process.poll() is None, host.log.read_text()[-3000:]
        try:
            host.get("/queue")
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(host.log.read_text()[-3000:])


def walk(sampler: str = "tcd", schedule: str = "simple", kind: str = "eps", **changed: Any) -> dict[str, Any]:
    """A prompt: the tiny model through KSampler to a picture."""
    slow = changed.pop("slow", 0.0)
    settings = {
        "seed": 5,
        "steps": 4,
        "cfg": 3.0,
        "denoise": 1.0,
        "sampler_name": sampler,
        "scheduler": schedule,
    }
    linked = {
        "model": ["model", 0],
        "positive": ["model", 1],
        "negative": ["model", 2],
        "latent_image": ["empty", 0],
    }
    return {
        "model": node("TinyModel", kind=kind, slow=slow),
        "empty": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "walk": node("KSampler", **settings | linked | changed),
        "picture": node("TinyDecode", samples=["walk", 0]),
        "save": node("SaveImage", images=["picture", 0], filename_prefix=sampler),
    }


def custom(
    sampler: dict[str, Any], kind: str = "eps", batch: int = 1, **more: dict[str, Any]
) -> dict[str, Any]:
    """A prompt: a SAMPLER node, our sigmas and noise, through SamplerCustomAdvanced to numbers named "custom"."""
    prompt = {
        "model": node("TinyModel", kind=kind, slow=0.0),
        "empty": node("EmptyLatentImage", width=64, height=64, batch_size=batch),
        "noise": node("SigmaGraftNoise", noise_seed=5, kind="cpu"),
        "sigmas": node(
            "SigmaGraftScheduler", model=["model", 0], scheduler="simple", steps=6, denoise=1.0, options=""
        ),
        "sampler": sampler,
        "guider": node(
            "CFGGuider", model=["model", 0], positive=["model", 1], negative=["model", 2], cfg=3.0
        ),
        "walk": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["empty", 0],
        ),
        "save": node("TinySave", samples=["walk", 0], name="custom"),
    }
    return prompt | more


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}
