"""Peak memory of loading, measured from outside the process: at most 1.1 times the weights in the dtype they run in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sigmagraft.core.fill import skeleton
from sigmagraft.standalone.unet import UNet, UNetConfig

from .files import tensors

resource = pytest.importorskip("resource")
ROOT = Path(__file__).resolve().parents[2]
STATUS = Path("/proc/self/status")
WORKER = """
import runpy, sys
runpy.run_path(sys.argv[1])["load"]()
import torch
from sigmagraft.standalone.load import load_model

def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

torch.set_num_threads(1)
load_model(sys.argv[4])  # whatever the first load alone needs
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts here
before = status("VmRSS")
model = load_model(sys.argv[2], dtype=getattr(torch, sys.argv[3]))
for weight in [w for net in (model.unet, model.vae, *model.texts) for w in net.parameters()]:
    weight.view(torch.uint8).max() if weight.is_contiguous() else weight.sum()
print(status("VmHWM") - before)
"""
BIG = UNetConfig(model_channels=96, context_dim=64)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Some 300 MB in fp32, 150 MB in fp16, and a small one."""
    folder = tmp_path_factory.mktemp("memory")
    with skeleton():
        shapes = {name: tuple(value.shape) for name, value in UNet(BIG).state_dict().items()}
    found = {}
    for dtype in (torch.float32, torch.float16):
        unet = {f"model.diffusion_model.{n}": torch.full(s, 0.5, dtype=dtype) for n, s in shapes.items()}
        rest = {n: v.to(dtype) for n, v in tensors(unet=False).items()}
        name = str(dtype).split(".")[1]
        found[name] = folder / f"{name}.safetensors"
        save_file(unet | rest, found[name])
        if dtype == torch.float32:
            found[f"{name} pickle"] = folder / f"{name}.ckpt"
            torch.save(unet | rest, found[f"{name} pickle"])
    found["small"] = folder / "small.safetensors"
    save_file(tensors(), found["small"])
    return found


@pytest.mark.skipif(
    not STATUS.exists() or not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc"
)
@pytest.mark.parametrize(
    ("stored", "run"),
    [
        ("float32", "float32"),
        ("float32", "float16"),
        ("float16", "float32"),
        ("float32 pickle", "float16"),
    ],
)
def test_peak_memory(files: dict[str, Path], stored: str, run: str) -> None:
    command = [
        sys.executable,
        "-c",
        WORKER,
        str(ROOT / "bootstrap.py"),
        str(files[stored]),
        run,
        str(files["small"]),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    weights = files["float32"].stat().st_size * (0.5 if run == "float16" else 1.0)
    assert int(result.stdout) <= 1.1 * weights
