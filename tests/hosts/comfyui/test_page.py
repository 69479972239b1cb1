"""ComfyUI's own page in a headless browser: open the dropdown of samplers, pick TCD, queue, look at the picture."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from .browser import DRIVER, Page, browser
from .served import HERE, ROOT, Host, served, walk

CHECKOUT = os.environ.get("SIGMAGRAFT_COMFYUI", "")
pytestmark = [
    pytest.mark.skipif(not CHECKOUT, reason="SIGMAGRAFT_COMFYUI names no checkout"),
    pytest.mark.skipif(not (DRIVER and shutil.which("chromium")), reason="no chromium with its chromedriver"),
]
READY = (
    "return !!(window.app && app.graph && app.canvas && window.LiteGraph"
    " && LiteGraph.registered_node_types['KSampler'] && LiteGraph.registered_node_types['SigmaGraftSampler'])"
)
WIDGET = """
const node = app.graph._nodes.find(n => n.type == 'KSampler');
const widget = node && node.widgets.find(w => w.name == 'sampler_name');
if (!widget || widget.last_y === undefined) return null;
const area = app.canvas.canvas.getBoundingClientRect(), seen = app.canvas.ds;
return [area.left + (node.pos[0] + node.size[0] * 0.7 + seen.offset[0]) * seen.scale,
        area.top + (node.pos[1] + widget.last_y + 10 + seen.offset[1]) * seen.scale];
"""
ENTRY = """
const found = [...document.querySelectorAll('.litecontextmenu .litemenu-entry')]
    .find(e => e.textContent.trim() == arguments[0] && e.offsetParent);
if (!found) return null;
found.scrollIntoView({block: 'center'});
const at = found.getBoundingClientRect();
return [at.left + at.width / 2, at.top + at.height / 2];
"""
RUN = """
const button = document.querySelector('[data-testid=queue-button]')
    || [...document.querySelectorAll('button')].find(b => ['Run', 'Queue'].includes(b.textContent.trim()));
if (!button) return null;
const at = button.getBoundingClientRect();
return at.width ? [at.left + at.width / 2, at.top + at.height / 2] : null;
"""
SHOWN = """
const node = app.graph._nodes.find(n => n.type == 'SaveImage');
const shown = node && node.imgs && node.imgs[0];
return shown && shown.complete ? [shown.naturalWidth, shown.naturalHeight] : null;
"""


def opened(page: Page, host: Host) -> None:
    page.open(host.url)
    page.until(READY, wait=180)
    time.sleep(3)  # the page loads its own first workflow after that
    page.js("app.loadApiJson(arguments[0], 'walk')", walk("euler"))


def test_tcd_from_the_dropdown_to_the_picture(tmp_path: Path) -> None:
    settings = tmp_path / "base" / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))
    packs = {"SigmaGraft": ROOT, "tiny_model": HERE / "tiny_model"}
    with served(Path(CHECKOUT), tmp_path / "base", packs) as host, browser() as page:
        opened(page, host)
        page.click(*page.until(WIDGET))
        page.click(*page.until(ENTRY, "tcd"))
        assert page.js("return app.graph._nodes.find(n => n.type == 'KSampler').widgets[4].value") == "tcd"
        page.click(*page.until(RUN))
        assert page.until(SHOWN) == [64, 64]
    (file,) = (tmp_path / "base" / "output").glob("euler*.png")  # the prefix that the prompt names
    with Image.open(file) as picture:
        assert picture.size == (64, 64)
        assert len(picture.convert("RGB").getcolors(64 * 64)) > 8
        prompt = json.loads(picture.info["prompt"])
        assert "workflow" in picture.info
    (sampler,) = [node for node in prompt.values() if node["class_type"] == "KSampler"]
    assert sampler["inputs"]["sampler_name"] == "tcd"
