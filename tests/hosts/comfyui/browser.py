"""A headless Chromium through chromedriver's HTTP interface (W3C WebDriver), with nothing to install for it."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1400,900",
]


class Page:
    """A page: script, clicks at places, pictures."""

    def __init__(self, session: str) -> None:
        self.session = session

    def call(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        asked = urllib.request.Request(
            self.session + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(asked, timeout=180) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.loads(error.read())["value"]["message"][:500]) from None

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def js(self, script: str, *args: Any) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": args})

    def click(self, x: float, y: float) -> None:
        """A press of the left button at a place of the window."""
        moves = [
            {"type": "pointerMove", "duration": 50, "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pause", "duration": 60},
            {"type": "pointerUp", "button": 0},
        ]
        self.call("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def type(self, text: str) -> None:
        keys = [{"type": kind, "value": letter} for letter in text for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": keys}]})

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def until(self, script: str, *args: Any, wait: float = 120.0) -> Any:
        """What the script returns once that is true."""
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if (answer := self._asked(lambda: self.js(script, *args))) is not None and answer is not False:
                return answer
            time.sleep(0.3)
        raise TimeoutError(script)

    @staticmethod
    def _asked(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except RuntimeError:  # the page is not that far yet
            return None


@contextmanager
def browser() -> Iterator[Page]:
    assert DRIVER
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        page = Page(f"http://127.0.0.1:{port}")
        time.sleep(1.5)
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": FLAGS}}
        made = page.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        page.session += f"/session/{made['sessionId']}"
        try:
            yield page
        finally:
            page.call("DELETE", "")  # the driver's end alone would leave the browser running
    finally:
        process.terminate()
        process.wait(20)
