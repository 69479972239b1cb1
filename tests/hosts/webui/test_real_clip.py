"""Clips in the real web UIs: they end where the runner's end, come out as one file, and leave no trace.

As in test_real.py. SIGMAGRAFT_CHECKPOINT names an SD1 checkpoint of whatever sizes that the host can load.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sigmagraft.animate.files import open_motion
from sigmagraft.animate.windows import Plan
from sigmagraft.guidance import Setting, open_kin, read_guidances
from sigmagraft.standalone.unet import UNet

from ...animate.files import random_motion
from .real import RealWebUI
from .real_walk import MARKS, SAME, WALK, apart, brought, clip_end, folder_of, kept_of

pytestmark = MARKS
PANEL, KIN = "sigmagraft clip", "sigmagraft guidance"
PLACE = "sigmagraft/motion/under_test"
FRAMES, LONGEST = 5, 4


@pytest.fixture(scope="module")
def modules(unet: UNet, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Motion modules for the checkpoint, of v1 and of v2."""
    folder = tmp_path_factory.mktemp("motion")
    return [
        random_motion(folder / f"{name}.safetensors", unet.config, LONGEST, middle=name == "v2")
        for name in ("v1", "v2")
    ]


@pytest.fixture
def files(kept_web: RealWebUI, modules: list[Path]) -> Iterator[dict[str, Path]]:
    """The same where the host looks for them."""
    with brought(folder_of(kept_web.name) / "models", PLACE, modules):
        yield {path.stem: path for path in modules}


def drawn(
    web: RealWebUI, path: Path, clip: dict[str, Any], *kin: str, **more: Any
) -> tuple[dict[str, Any], str]:
    given = (
        {"frames": FRAMES}
        | clip
        | ({"file": f"under_test/{clip['file']}.safetensors"} if "file" in clip else {})
    )
    return kept_of(web, path, {PANEL: [given], KIN: kin}, **more)


WAYS: dict[str, Any] = {
    "guided": ({"file": "v2", "frames": 3}, None, ("pag", "sag:threshold=0.5", "rescale")),
    "v1": ({"file": "v1", "windows": "looped", "length": 3, "overlap": 1}, Plan(3, 1, "looped"), ()),
    "v2": ({"file": "v2"}, Plan(4, 3), ()),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_clip_ends_where_the_runners_ends(
    kept_web: RealWebUI, unet: UNet, files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    clip, plan, texts = WAYS[name]
    kept, text = drawn(kept_web, tmp_path / "kept.pt", clip, *texts)
    kin = open_kin(read_guidances(texts), Setting(unet.config))
    found = apart(kept["final"], clip_end(unet, kept, open_motion(files[clip["file"]]), plan, kin))
    print(kept_web.name, name, found)
    assert found < SAME
    assert len(kept["final"]) == clip.get("frames", FRAMES)
    assert "SigmaGraft Clip" in text


def test_one_generation_is_one_clip_and_leaves_no_trace(
    kept_web: RealWebUI, files: dict[str, Path], tmp_path: Path
) -> None:
    before, _ = kept_of(kept_web, tmp_path / "before.pt", {})
    name = "under_test/v1.safetensors"

    def scripts(**clip: Any) -> dict[str, Any]:
        return {PANEL: {"args": [{"file": name, "frames": 3, "fps": 4} | clip]}}

    for format in ("GIF", "WEBP"):
        images, _ = kept_web.txt2img(**WALK, alwayson_scripts=scripts(format=format))
        assert len(images) == 4
        with Image.open(io.BytesIO(base64.b64decode(images[0]))) as clip:
            assert (clip.format, clip.n_frames, clip.size) == (format, 3, (64, 64))  # type: ignore[attr-defined]
    for clip, said in (
        ({"frames": 0}, "frames"),
        ({"windows": "none", "frames": 9}, "at most 4"),
        ({"file": "no"}, "no such"),
    ):
        assert said in kept_web.refusal(**WALK, alwayson_scripts=scripts(**clip))
    after, text = kept_of(kept_web, tmp_path / "after.pt", {})
    assert torch.equal(after["final"], before["final"])
    assert after["hooks"] == before["hooks"]
    assert "Clip" not in text
