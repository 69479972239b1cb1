"""Every script of docs/examples/seeds runs, on a hub that holds what it names, and leaves what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ..standalone.hub_server import TOKEN, Server
from .repositories import SD15, STEM, image_prompts, picture, repositories, served

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT / "docs" / "examples" / "seeds"
SIDE = 64  # pixels on a side, where the scripts ask for 1024 or 512; and fp32, which CPUs are faster with than fp16
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ASTRONAUTS = ("pndm", "ddim", "lms", "euler_discrete", "euler_ancestral", "dpm")
FOURTEEN = (
    "DPMSolverSDE EulerDiscrete LMSDiscrete DDIM DDPM HeunDiscrete DPMSolverMultistep DEISMultistep PNDM "
    "EulerAncestralDiscrete UniPCMultistep KDPM2Discrete DPMSolverSinglestep KDPM2AncestralDiscrete"
)


class Examples:
    """The process that runs them, and where each left its files."""

    def __init__(self, root: Path) -> None:
        self.root, self.server = root, Server(served())
        picture().save(root / "picture.png")
        environment = os.environ | {
            "HF_ENDPOINT": self.server.url,
            "HF_HOME": str(root / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "SIGMAGRAFT_DEVICE": DEVICE,
        }
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(root / "picture.png")]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.log = (root / "log").open("w")
        self.process = subprocess.Popen(command, env=environment, stderr=self.log, **pipes)

    def run(self, name: str, small: bool = True, peer: bool = False, **more: str) -> tuple[Path, str]:
        """(the folder where the script ran, what it printed); `peer`: with diffusers, on the CPU without offload."""
        text = (SEEDS / f"{name}.py").read_text(encoding="utf-8")
        if small:
            text = re.sub(r"\b(1024|512)\b", str(SIDE), text).replace("torch.float16", "torch.float32")
        if peer:
            text = text.replace("from sigmagraft import", "from peer import")
            text = text.replace("pipe.enable_model_cpu_offload()\n", "")
        folder = self.root / (f"{name}-peer" if peer else name)
        request = {"name": f"{name}.py", "text": text, "folder": str(folder), **more}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, (self.root / "log").read_text()
        found = json.loads(line)
        print(f"{name}: {found['seconds']:.1f} s")
        assert found["error"] is None, found["error"]
        return folder, found["printed"]

    def lay(self, name: str, files: dict[str, bytes]) -> None:
        """Files in the folder of a script, before it runs."""
        for file, data in files.items():
            path = self.root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.log.close()
        self.server.close()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    made = Examples(tmp_path_factory.mktemp("seeds"))
    yield made
    made.close()


def looks_drawn(path: Path, size: tuple[int, int] = (SIDE, SIDE)) -> None:
    """A picture of this size that is not of one colour."""
    with Image.open(path) as image:
        assert image.size == size
        assert all(low < high for low, high in image.convert("RGB").getextrema()), "one colour"


def test_quick_tour(examples: Examples) -> None:
    folder, printed = examples.run("quick_tour")
    assert printed.startswith("StableDiffusionPipeline {")
    for part in ("PNDMScheduler", "UNet2DConditionModel", "AutoencoderKL", "StableDiffusionSafetyChecker"):
        assert part in printed
    looks_drawn(folder / "image_of_squirrel_painting.png")


def test_local_folder(examples: Examples) -> None:
    files = {f"stable-diffusion-v1-5/{name}": data for name, data in repositories()[SD15].items()}
    examples.lay("local_folder", files)
    before = len(examples.server.seen)
    folder, _ = examples.run("local_folder")
    assert len(examples.server.seen) == before, "the hub was asked"
    looks_drawn(folder / "image_of_squirrel_painting.png")


def test_tasks(examples: Examples) -> None:
    folder, _ = examples.run("tasks")
    looks_drawn(folder / "unconditional.png", (32, 32))
    for name in ("text_to_image", "image_to_image", "inpainting", "depth_to_image"):
        looks_drawn(folder / f"{name}.png")


def test_login(examples: Examples) -> None:
    _, printed = examples.run("login", stdin=f"{TOKEN}\nn\n")
    assert "StableDiffusionPipeline torch.float" in printed
    asked = [each for each in examples.server.seen if each["path"] == "/api/whoami-v2"]
    assert asked[-1]["headers"]["authorization"] == f"Bearer {TOKEN}"


def test_scheduler_facts(examples: Examples) -> None:
    """The config that the guides print, and the classes that they list."""
    _, printed = examples.run("scheduler_facts")
    for line in ('beta_start": 0.00085', 'beta_end": 0.012', "scaled_linear", 'skip_prk_steps": true'):
        assert line in printed
    assert "'prediction_type': 'epsilon'" in printed
    assert "_use_default_values" in printed
    listed = set(printed.splitlines())
    for name in FOURTEEN.split():
        assert f"{name}Scheduler" in listed


def test_scheduler_at_load(examples: Examples) -> None:
    _, printed = examples.run("scheduler_at_load")
    assert printed.startswith("DDIMScheduler {")


@pytest.mark.slow
def test_compare_schedulers(examples: Examples) -> None:
    folder, _ = examples.run("compare_schedulers")
    pictures = [folder / f"astronaut_{name}.png" for name in ASTRONAUTS]
    for picture_ in pictures:
        looks_drawn(picture_)
    assert len({picture_.read_bytes() for picture_ in pictures}) == len(ASTRONAUTS)


def test_load_models(examples: Examples) -> None:
    folder, printed = examples.run("load_models")
    assert "UNet2DModel 32" in printed
    import diffusers

    back = diffusers.UNet2DConditionModel.from_pretrained(folder / "local-unet", variant="non_ema")
    published = repositories()[SD15][f"unet/{STEM}.non_ema.safetensors"]
    from safetensors.torch import load

    assert all(torch.equal(back.state_dict()[name], t.float()) for name, t in load(published).items())


@pytest.mark.slow
def test_denoise_by_hand(examples: Examples) -> None:
    folder, printed = examples.run("denoise_by_hand")
    assert printed.count("torch.Size([1, 3, 32, 32])") == 2
    for fact in ("linear", "fixed_small", 'clip_sample_range": 1.0', 'dynamic_thresholding_ratio": 0.995'):
        assert fact in printed
    shown = sorted(folder.glob("cat-*.png"))
    assert len(shown) == 20
    looks_drawn(shown[-1], (32, 32))


@pytest.mark.slow
def test_tcd_bases(examples: Examples) -> None:
    folder, printed = examples.run("tcd_bases")
    assert printed.count("50 scaled_linear") == 3
    drawn = sorted(folder.glob("TCD-*.png"))
    assert len(drawn) == 12
    for path in drawn:
        looks_drawn(path)
    assert len({path.read_bytes() for path in drawn}) == 12


@pytest.mark.parametrize(
    ("name", "made", "columns"),
    [
        ("tcd_text_to_image", "cat", 1),
        ("tcd_inpainting", "inpainting", 3),
        ("tcd_community_model", "soldier", 1),
        ("tcd_two_loras", "papercut", 1),
        ("tcd_depth", "stormtrooper", 2),
        ("tcd_ip_adapter", "sunglasses", 2),
    ],
)
def test_tcd(examples: Examples, name: str, made: str, columns: int) -> None:
    if name == "tcd_ip_adapter":
        examples.lay(name, image_prompts())
    folder, _ = examples.run(name)
    looks_drawn(folder / f"{made}.png", (columns * SIDE, SIDE))


def test_tcd_canny(examples: Examples) -> None:
    """The picture of edges says the size."""
    folder, _ = examples.run("tcd_canny")
    looks_drawn(folder / "bird.png", (2 * 96, 96))


def test_tcd_animation(examples: Examples) -> None:
    folder, _ = examples.run("tcd_animation")
    with Image.open(folder / "animation.gif") as clip:
        assert clip.n_frames == 24


@pytest.mark.slow
def test_one_picture_a_device(examples: Examples) -> None:
    folder, printed = examples.run("one_picture_a_device")
    drawn = [folder / line for line in printed.splitlines()]
    assert len(drawn) == 3
    for path in drawn:
        looks_drawn(path)


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "cpu", reason="half precision at 1024 pixels takes a CPU a quarter of an hour")
@pytest.mark.parametrize("name", ["tcd_text_to_image", "tcd_depth"])
def test_to_the_letter(examples: Examples, name: str) -> None:
    """In half precision and at the size that the guide says."""
    folder, _ = examples.run(name, small=False)
    assert list(folder.glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "tcd_text_to_image",
        "tcd_inpainting",
        "tcd_two_loras",
        "tcd_depth",
        "tcd_canny",
    ],
)
def test_diffusers_draws_the_same(examples: Examples, name: str) -> None:
    """The script with the guide's import leaves the same pictures: those scripts that say their dtype, in fp32."""
    ours, _ = examples.run(name)
    theirs, _ = examples.run(name, peer=True)
    drawn = sorted(theirs.glob("*.*"))
    assert drawn
    for path in drawn:
        with Image.open(path) as one, Image.open(ours / path.name) as other:
            away = np.abs(np.asarray(one.convert("RGB"), int) - np.asarray(other.convert("RGB"), int))
        assert away.max() <= 2, path.name
