"""One of the four web UIs, as a double, with our extension's modules imported against it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .double import FAMILY, WebUI

ROOT = Path(__file__).resolve().parents[3]
OURS = "sigmagraft.hosts.webui"


def _take_out() -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(OURS)[1]}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WebUI]]:
    """make(name, flow=False): a web UI in this process; its modules and ours against it go with the test."""
    before = _take_out()

    def web_ui(name: str, flow: bool = False) -> WebUI:
        host = WebUI(name, flow)
        host.install(lambda key, module: monkeypatch.setitem(sys.modules, key, module))
        _take_out()
        # the whole package is these tests' own: only a process of its own may forget it
        start = importlib.import_module(f"{OURS}.start")
        monkeypatch.setattr(start, "forget", lambda: None)
        return host

    yield web_ui
    _take_out()
    sys.modules.update(before)


@pytest.fixture(params=FAMILY)
def host(request: pytest.FixtureRequest, make: Callable[..., WebUI]) -> WebUI:
    """Each of the four with our extension loaded."""
    made = make(request.param)
    made.load_extensions(ROOT)
    return made


@pytest.fixture
def one_host(make: Callable[..., WebUI]) -> WebUI:
    """One of them, for what is the same in all."""
    made = make("neo")
    made.load_extensions(ROOT)
    return made


@pytest.fixture(scope="module")
def unet() -> Any:
    """That of the checkpoint that a real web UI is tested with."""
    from .real_walk import checkpoint_unet

    return checkpoint_unet()


@pytest.fixture(scope="session", params=("neo", "forge", "reforge", "a1111"))
def kept_web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real web UI whose latents are kept, one for all modules that look at them."""
    from .real_walk import served

    with served(request.param, tmp_path_factory, {}) as host:
        yield host
