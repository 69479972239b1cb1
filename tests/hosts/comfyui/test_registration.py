"""Loaded as ComfyUI loads packs: what its lists hold then, and what is left as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sigmagraft.hosts import log
from sigmagraft.samplers import SAMPLERS, SCHEDULES

from . import double

Host = dict[str, ModuleType]


@pytest.fixture(autouse=True)
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_said", set())


def graft(folder: Path) -> ModuleType:
    module = double.load(folder)
    assert module.NODE_CLASS_MAPPINGS
    return module


def test_every_list_has_ours_in_place(host: Host, clone: Path) -> None:
    samplers, sampling = host["comfy.samplers"], host["comfy.k_diffusion.sampling"]
    listed, schedules = samplers.SAMPLER_NAMES, samplers.SCHEDULER_NAMES
    graft(clone)
    assert samplers.SAMPLER_NAMES is listed is samplers.KSampler.SAMPLERS
    assert samplers.SCHEDULER_NAMES is schedules is samplers.KSampler.SCHEDULERS
    assert "tcd" in samplers.KSAMPLER_NAMES
    known = {SAMPLERS[name].name for name in listed if name in SAMPLERS}
    assert known == set(SAMPLERS.names())
    assert {SCHEDULES[name].base for name in schedules if name in SCHEDULES} == {s.base for s in SCHEDULES}
    for name in listed:
        assert hasattr(sampling, f"sample_{name}") or name in ("ddim", "uni_pc", "uni_pc_bh2")
    assert set(schedules) == set(samplers.SCHEDULER_HANDLERS)
    assert len(set(listed)) == len(listed)


def test_what_the_host_has_stays_its_own(host: Host, clone: Path) -> None:
    samplers, sampling = host["comfy.samplers"], host["comfy.k_diffusion.sampling"]
    functions = {name: getattr(sampling, f"sample_{name}") for name in double.SAMPLERS}
    handlers, first = dict(samplers.SCHEDULER_HANDLERS), samplers.SAMPLER_NAMES[:]
    graft(clone)
    assert samplers.SAMPLER_NAMES[: len(first)] == first
    assert all(getattr(sampling, f"sample_{name}") is function for name, function in functions.items())
    assert all(samplers.SCHEDULER_HANDLERS[name] is handler for name, handler in handlers.items())


def test_a_second_copy_adds_nothing(host: Host, clone: Path, tmp_path: Path) -> None:
    """As where another pack imports ours by another name."""
    graft(clone)
    names, schedules = (
        list(host["comfy.samplers"].__dict__[n]) for n in ("SAMPLER_NAMES", "SCHEDULER_NAMES")
    )
    again = tmp_path / "again"
    again.symlink_to(clone, target_is_directory=True)
    graft(again)
    assert names == host["comfy.samplers"].SAMPLER_NAMES
    assert schedules == host["comfy.samplers"].SCHEDULER_NAMES


def test_rebound_lists_are_all_served(host: Host, clone: Path) -> None:
    """Some packs replace KSampler.SAMPLERS by a longer list; both are shown somewhere."""
    samplers = host["comfy.samplers"]
    samplers.KSampler.SAMPLERS = [*samplers.SAMPLER_NAMES, "theirs"]
    graft(clone)
    assert "tcd" in samplers.SAMPLER_NAMES
    assert "tcd" in samplers.KSampler.SAMPLERS


def test_a_name_that_the_host_brings_is_yielded_and_said_once(
    host: Host, clone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samplers, sampling = host["comfy.samplers"], host["comfy.k_diffusion.sampling"]
    native = double._native("tcd")
    sampling.sample_tcd = native
    samplers.SAMPLER_NAMES.append("tcd")
    with caplog.at_level("INFO", logger="sigmagraft"):
        graft(clone)
    assert sampling.sample_tcd is native
    assert samplers.SAMPLER_NAMES.count("tcd") == 1
    assert sum("tcd" in line for line in caplog.messages) == 1


def test_a_pack_loaded_later_keeps_the_name(host: Host, clone: Path) -> None:
    """It put `tcd` in without looking; once the page asks for the nodes the list has it once, and it is theirs."""
    module = graft(clone)
    samplers, sampling = host["comfy.samplers"], host["comfy.k_diffusion.sampling"]
    native = double._native("tcd")
    sampling.sample_tcd = native
    samplers.SAMPLER_NAMES.insert(3, "tcd")
    module.NODE_CLASS_MAPPINGS["SigmaGraftSampler"].INPUT_TYPES()
    assert samplers.SAMPLER_NAMES.count("tcd") == 1
    assert sampling.sample_tcd is native


def test_a_failure_is_one_line_and_the_host_goes_on(
    host: Host, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del host["comfy.samplers"].SAMPLER_NAMES
    module = double.load(clone)
    assert module.NODE_CLASS_MAPPINGS["SigmaGraftSampler"]
    (line,) = capsys.readouterr().out.splitlines()
    assert "SAMPLER_NAMES" in line
    assert "adding samplers and schedules to ComfyUI failed" in line


def test_outside_comfyui_there_are_no_nodes() -> None:
    """Also where a web host has a partial `comfy`."""
    bootstrap = Path(__file__).resolve().parents[3] / "bootstrap.py"
    code = (
        "import runpy, sys, types\n"
        f"sigmagraft = runpy.run_path({str(bootstrap)!r})['load']()\n"
        "sys.modules['comfy'] = types.ModuleType('comfy')\n"
        "assert sigmagraft.NODE_CLASS_MAPPINGS == {} == sigmagraft.NODE_DISPLAY_NAME_MAPPINGS\n"
        "assert not hasattr(sigmagraft, 'WEB_DIRECTORY')\n"
    )
    run_python(code)


OTHER = """
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
import samplers
assert samplers.WHOSE == "theirs"
NODE_CLASS_MAPPINGS = {}
"""
COLLIDE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import double
sys.modules.update(double.modules())
sys.path.pop(0)
for number, folder in enumerate({order!r}):
    before, path = set(sys.modules), list(sys.path)
    module = double.load(Path(folder))
    assert len(module.NODE_CLASS_MAPPINGS) > 0 or not folder.endswith("SigmaGraft")
    if folder.endswith("SigmaGraft"):
        own = folder.replace(".", "_x_")
        stray = [n for n in set(sys.modules) - before if not n.startswith(own) and n.split(".")[0] in {tops!r}]
        assert not stray, stray
        assert sys.path == path
        name, = [n for n in module.NODE_CLASS_MAPPINGS if n == "SigmaGraftSampler_tcd"]
        module.NODE_CLASS_MAPPINGS[name]().make(gamma=0.5)
assert sys.modules["samplers"].WHOSE == "theirs"
assert "sigmagraft" not in sys.modules
"""


@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_a_pack_with_its_own_samplers(tmp_path: Path, ours_first: bool) -> None:
    other = tmp_path / "a.pack" / "other"
    (other / "samplers").mkdir(parents=True)
    (other / "__init__.py").write_text(OTHER)
    (other / "samplers" / "__init__.py").write_text("WHOSE = 'theirs'")
    root = Path(__file__).resolve().parents[3]
    ours = tmp_path / "a.pack" / "SigmaGraft"
    ours.symlink_to(root, target_is_directory=True)
    order = [str(ours), str(other)] if ours_first else [str(other), str(ours)]
    tops = [p.stem for p in root.iterdir() if p.is_dir() or p.suffix == ".py"]
    run_python(COLLIDE.format(tests=str(Path(__file__).parent), order=order, tops=tops))


def test_starting_takes_less_than_a_third_of_a_second(tmp_path: Path) -> None:
    """Processor time beyond torch, which the host has loaded; what only a run needs is loaded when one begins."""
    root = Path(__file__).resolve().parents[3]
    code = (
        "import sys, time, torch\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport double\nsys.modules.update(double.modules())\n"
        "before = time.process_time()\n"
        f"module = double.load(Path({str(root)!r}))\nmodule.NODE_CLASS_MAPPINGS\n"
        "print(time.process_time() - before, *(name.removeprefix(module.__name__) for name in sys.modules))\n"
    )
    found = [run_python(code).split() for _ in range(2)]
    assert min(float(seconds) for seconds, *_ in found) < 0.3
    assert ".samplers" in found[0]
    assert {".loras", ".controlnet.model", ".animate.network", ".hosts.control_run"}.isdisjoint(found[0])


def run_python(code: str) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
