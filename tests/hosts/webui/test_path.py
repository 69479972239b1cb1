"""Other extensions' modules beside ours, where a host leaves every extension's folder on the path and where not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT
from .double import FAMILY, WebUI

SCRIPT = "import samplers\n"


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("first", [True, False], ids=["before-us", "after-us"])
def test_another_extension_keeps_its_own_samplers(
    make: Callable[..., WebUI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: bool
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    other = tmp_path / "other"
    (other / "scripts").mkdir(parents=True)
    (other / "samplers").mkdir()
    (other / "scripts" / "one.py").write_text(SCRIPT)
    for module in ("__init__", "more"):
        (other / "samplers" / f"{module}.py").write_text("WHOSE = 'theirs'\n")
    host = make(name)
    try:
        host.load_extensions(*((other, ROOT) if first else (ROOT, other)))
        assert sys.modules["samplers"].WHOSE == "theirs"
        assert str(ROOT) not in sys.path
        if FAMILY[name].keeps_path:  # else the host itself has taken their folder off again
            sys.modules.pop("samplers")
            import samplers.more  # type: ignore[import-not-found]

            assert samplers.more.WHOSE == "theirs"
    finally:
        for module in ("samplers", "samplers.more"):
            sys.modules.pop(module, None)
