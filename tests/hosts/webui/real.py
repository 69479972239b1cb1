"""A real web UI: started as people start it, driven through its HTTP API, stopped at the end."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 900  # seconds; a machine without a GPU is slow
COMMON = ("--skip-python-version-check", "--skip-torch-cuda-test", "--skip-install", "--no-hashing", "--api")
FLAGS = {
    "neo": ("--skip-prepare-environment", "--skip-version-check", "--cpu"),
    "forge": ("--skip-prepare-environment", "--skip-version-check", "--always-cpu", "--all-in-fp32"),
    "reforge": ("--skip-prepare-environment", "--skip-version-check", "--always-cpu", "--all-in-fp32"),
    "a1111": ("--skip-prepare-environment", "--skip-version-check", "--use-cpu", "all", "--no-half"),
}
SMALL = {"prompt": "a cat", "steps": 3, "width": 64, "height": 64, "seed": 11, "cfg_scale": 4.0}


class RealWebUI:
    """One running host.

    Attributes:
        log: the file its console goes to.
    """

    def __init__(self, name: str, folder: Path, scratch: Path, *flags: str) -> None:
        self.name, self.folder, self.log = name, folder, scratch / f"{name}.log"
        self.port = _free_port()
        settings = scratch / "config.json"
        if (
            folder / "config.json"
        ).exists():  # the checkpoint that is chosen there; the file itself stays as it is
            shutil.copy(folder / "config.json", settings)
        own = folder / "venv" / "bin" / "python"
        command = [str(own if own.exists() else sys.executable), "launch.py", *COMMON, *FLAGS[name], *flags]
        command += ["--port", str(self.port), "--ui-settings-file", str(settings)]
        command += os.environ.get(f"SIGMAGRAFT_{name.upper()}_ARGS", "").split()
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "PYTHONPATH": "",
        }
        self._console = self.log.open("w")
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self._console, stderr=subprocess.STDOUT
        )

    def stop(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        self._console.close()

    def console(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, ready: Callable[[], Any], what: str) -> Any:
        """The first true answer of `ready`; AssertionError where the host ends or patience does."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.console()[-3000:]}"
            with contextlib.suppress(OSError, ValueError):
                if answer := ready():
                    return answer
            time.sleep(0.3)
        raise AssertionError(f"{self.name}: waited in vain for {what}\n{self.console()[-3000:]}")

    def wait_until_up(self, starts: int = 1) -> None:
        # the routes are there before the scripts are: the line on the console comes last
        self.wait(lambda: self.console().count("Startup time:") >= starts, "its start")
        self.wait(lambda: self.get("samplers"), "its API")

    def get(self, route: str) -> Any:
        return self._call(f"/sdapi/v1/{route}")

    def post(self, route: str, **body: Any) -> Any:
        return self._call(f"/sdapi/v1/{route}", body)

    def txt2img(self, **settings: Any) -> tuple[list[str], str]:
        """(images in base64, infotext of the first)."""
        return self._images("txt2img", settings)

    def img2img(self, **settings: Any) -> tuple[list[str], str]:
        return self._images("img2img", settings)

    def refusal(self, **settings: Any) -> str:
        """What the API answers where a generation fails."""
        try:
            self.txt2img(**settings)
        except urllib.error.HTTPError as error:
            return error.read().decode()
        raise AssertionError("it was not refused")

    def click(self, elem_id: str) -> None:
        """Press a button of the page, by the function the page would call."""
        config = self._call("/config")
        button = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == elem_id)
        place = next(i for i, d in enumerate(config["dependencies"]) if _presses(d, button))
        number = config["dependencies"][place].get("id", place)
        with contextlib.suppress(OSError, ValueError):  # a restart cuts its own answer short
            self._call("/run/predict", {"fn_index": number, "data": [], "session_hash": "tests"})

    def _images(self, route: str, settings: dict[str, Any]) -> tuple[list[str], str]:
        answer = self.post(route, **{**SMALL, **settings})
        return answer["images"], json.loads(answer["info"])["infotexts"][0]

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


def _presses(dependency: dict[str, Any], button: int) -> bool:
    targets = [target if isinstance(target, int) else target[0] for target in dependency["targets"]]
    return button in targets and dependency.get("backend_fn", True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Our checkout among the host's extensions, as a link, unless it is there already."""
    there = [path for path in (folder / "extensions").glob("*") if (path / "bootstrap.py").exists()]
    link = folder / "extensions" / "sigmagraft"
    if not there:
        link.symlink_to(ROOT, target_is_directory=True)
    try:
        yield
    finally:
        if not there:
            link.unlink()


def encoded(image: Any) -> str:
    written = io.BytesIO()
    image.save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()
