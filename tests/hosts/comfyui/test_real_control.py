"""Controls and image prompts in a real ComfyUI: they end where the runner ends, beside others, and leave no trace."""

from __future__ import annotations

from typing import Any

import pytest

from .inside import REAL, SAME, checks

pytestmark = REAL
HALF = {"the host's CLIP vision": 2e-3}  # which computes in half precision


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every check inside the host found."""
    return checks("control_inside.py", tmp_path_factory.mktemp("files"))


def test_every_kind_ends_where_the_runner_ends(found: dict[str, Any]) -> None:
    walks = {
        name: value for name, value in found.items() if isinstance(value, float) and " moves" not in name
    }
    assert len(walks) > 20
    assert {name: value for name, value in walks.items() if value > HALF.get(name, SAME)} == {}


def test_every_kind_acts(found: dict[str, Any]) -> None:
    acting = {name: value for name, value in found.items() if " moves" in name}
    assert len(acting) > 7
    assert {name: value for name, value in acting.items() if value < 100 * SAME} == {}


def test_others_patches_act_too(found: dict[str, Any]) -> None:
    assert found["others acted"] == ["output", "project", "replace", "wrapper"]


def test_nothing_is_left_behind(found: dict[str, Any]) -> None:
    names = [f"{what} after {when}" for what in ("state", "run") for when in ("a run", "errors")]
    assert {name: found[name] for name in names} == dict.fromkeys(names, True)


def test_what_cannot_be_is_said(found: dict[str, Any]) -> None:
    said = {name: value for name, value in found.items() if name.startswith("error: ")}
    assert said["error: two hints for three"].startswith("OptionError: 2 control pictures for 3 images")
    assert "expected 5" in said["error: another family"]
    assert "neither image nor hints" in said["error: no image"]
    assert "needs its image encoder" in said["error: no encoder"]
