"""The ComfyUI checkout that SIGMAGRAFT_COMFYUI names, driven over HTTP. SIGMAGRAFT_COMFYUI_PYTHON is its Python."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sigmagraft.samplers import SAMPLERS, SCHEDULES, NoiseLevels, schedule

from .control_real import with_tiny_files
from .lora_real import write_tiny_loras
from .served import HERE, ROOT, Host, custom, node, served, walk

CHECKOUT = os.environ.get("SIGMAGRAFT_COMFYUI", "")
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="SIGMAGRAFT_COMFYUI names no checkout")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Ours under a name with a hyphen and a dot, beside a pack with its own top-level `samplers`."""
    folder = tmp_path_factory.mktemp("comfyui")
    other = folder / "other"
    (other / "samplers").mkdir(parents=True)
    (other / "__init__.py").write_text(
        "import os, sys\nsys.path.insert(0, os.path.dirname(__file__))\nimport samplers\nNODE_CLASS_MAPPINGS = {}\n"
    )
    (other / "samplers" / "__init__.py").write_text("")
    packs = {"Sigma-Graft.1": ROOT, "tiny_model": HERE / "tiny_model", "other": other}
    with served(Path(CHECKOUT), folder / "base", packs) as running:
        yield running


@pytest.fixture(scope="module")
def info(host: Host) -> dict[str, Any]:
    return host.get("/object_info")


def choices(info: dict[str, Any], kind: str, field: str) -> list[str]:
    """The entries of a dropdown, in the old and in the new way of telling them."""
    declared, *told = info[kind]["input"]["required"][field]
    return declared if isinstance(declared, list) else told[0]["options"]


def test_it_starts_and_says_what_it_added(host: Host) -> None:
    log = host.log.read_text()
    (said,) = re.findall(r"\[SigmaGraft\] \d+ samplers and \d+ schedules added.*", log)
    assert "euler" in said
    failed = [line for line in log.splitlines() if "IMPORT FAILED" in line]
    assert not [line for line in failed if "Sigma" in line or "tiny_model" in line or "other" in line], failed


def test_every_dropdown_has_ours(info: dict[str, Any]) -> None:
    for kind in ("KSampler", "KSamplerAdvanced", "KSamplerSelect"):
        names = choices(info, kind, "sampler_name")
        assert {SAMPLERS[name].name for name in names if name in SAMPLERS} == set(SAMPLERS.names())
        assert len(set(names)) == len(names)
    for kind in ("KSampler", "BasicScheduler"):
        names = choices(info, kind, "scheduler")
        assert {SCHEDULES[name].base for name in names if name in SCHEDULES} == {
            spec.base for spec in SCHEDULES
        }


def test_every_node_is_there_with_its_words(info: dict[str, Any]) -> None:
    for name in (HERE / "node_ids.txt").read_text().split():
        assert info[name]["display_name"].startswith("SigmaGraft")
        assert info[name]["description"]
        assert info[name]["category"].startswith("SigmaGraft")


@pytest.mark.parametrize("kind", ["eps", "v", "flow", "flux"])
def test_every_sampler_of_the_dropdown_walks(host: Host, info: dict[str, Any], kind: str) -> None:
    prompt = walk(kind=kind, steps=3)
    for unused in ("picture", "save"):
        del prompt[unused]
    settings = prompt.pop("walk")["inputs"]
    names = [
        name
        for name in choices(info, "KSampler", "sampler_name")
        if name in SAMPLERS or name.endswith("_exact")
    ]
    for name in names:
        prompt[name] = node("KSampler", **settings | {"sampler_name": name})
        prompt[f"save_{name}"] = node("TinySave", samples=[name, 0], name=f"{kind}_{name}")
    told = host.run(prompt, 900)
    assert told["status"]["status_str"] == "success", told["status"]
    ends = {name: torch.tensor(host.latent(f"{kind}_{name}")) for name in names}
    assert all(end.isfinite().all() for end in ends.values())
    # a name that is not looked up runs as euler
    alike = [name for name, end in ends.items() if torch.equal(end, ends["euler"])]
    assert "tcd" not in alike
    assert "rk4_4s" not in alike


def test_every_schedule_of_the_dropdown_walks(host: Host, info: dict[str, Any]) -> None:
    names = [n for n in choices(info, "KSampler", "scheduler") if n in SCHEDULES]
    for kind, levels in (("eps", NoiseLevels.discrete()), ("flow", NoiseLevels.flow(3.0))):
        prompt = walk(kind=kind, steps=8)
        settings = prompt.pop("walk")["inputs"]
        del prompt["picture"], prompt["save"]
        for name in names:
            if SCHEDULES[name].needs.serves(levels):
                prompt[name] = node("KSampler", **settings | {"scheduler": name, "sampler_name": "ddim"})
                prompt[f"save_{name}"] = node("TinySave", samples=[name, 0], name=f"{kind}_{name}")
        told = host.run(prompt, 900)
        assert told["status"]["status_str"] == "success", told["status"]


def test_a_schedule_for_other_models_says_so(host: Host) -> None:
    told = host.run(walk("euler", "sd3", kind="eps"))
    assert "cannot serve this model (expected a rectified-flow model)" in json.dumps(told["status"])


def test_the_picture_carries_the_options_and_runs_again(host: Host) -> None:
    prompt = custom(node("SigmaGraftSampler_tcd", gamma=0.75))
    prompt["picture"] = node("TinyDecode", samples=["walk", 0])
    prompt["save_picture"] = node("SaveImage", images=["picture", 0], filename_prefix="carried")
    host.run(prompt)
    first = host.latent("custom")
    (file,) = sorted((host.folder / "output").glob("carried*.png"))[-1:]
    with Image.open(file) as picture:
        carried = json.loads(picture.info["prompt"])
    assert carried["sampler"]["inputs"]["gamma"] == 0.75
    assert carried["noise"]["inputs"]["noise_seed"] == 5
    host.post("/free", {"unload_models": True, "free_memory": True})
    host.run(carried)
    assert host.latent("custom") == first


def test_an_image_of_a_batch_is_the_one_alone(host: Host) -> None:
    """Start and steps' noise of image 1 are those of seed + 1; the network's rounding depends on the batch."""
    sampler = node("SigmaGraftSampler", sampler_name="dpmpp_2m_sde", options="")
    host.run(custom(sampler, batch=3))
    together = torch.tensor(host.latent("custom"))
    alone = custom(sampler)
    alone["noise"]["inputs"]["noise_seed"] = 6
    host.run(alone)
    assert torch.allclose(together[1:2], torch.tensor(host.latent("custom")), rtol=1e-3, atol=1e-2)


def test_restart_cfg_pp_and_interval_run_together(host: Host) -> None:
    pulled = {
        "pp": node("SigmaGraftCFGPP", model=["model", 0], scale=0.6),
        "interval": node("SigmaGraftGuidanceInterval", model=["pp", 0], interval="20%-80%"),
    }
    prompt = custom(node("KSamplerSelect", sampler_name="euler"), **pulled)
    host.run(prompt)
    plain = host.latent("custom")
    prompt["guider"]["inputs"]["model"] = ["interval", 0]
    told = host.run(prompt)
    assert told["status"]["status_str"] == "success", told["status"]
    assert host.latent("custom") != plain
    around = {
        "around": node("SigmaGraftRestart", sampler=["sampler", 0], restarts="2, 1, 0.3, 2", s_noise=1.0)
    }
    prompt = custom(node("KSamplerSelect", sampler_name="heun"), **around)
    prompt["walk"]["inputs"]["sampler"] = ["around", 0]
    told = host.run(prompt)
    assert told["status"]["status_str"] == "success", told["status"]


EXAMPLES = sorted((ROOT / "docs" / "examples" / "comfyui").glob("*.api.json"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_example_workflows_run(host: Host, file: Path) -> None:
    """With the tiny model in the place of the checkpoint, its prompts and its VAE; else as they are."""
    prompt = json.loads(file.read_text(encoding="utf-8"))
    with_tiny_files(host, prompt)
    kinds = {number: node["class_type"] for number, node in prompt.items()}
    for number, kind in kinds.items():
        if kind in ("CheckpointLoaderSimple", "LoraLoaderModelOnly"):
            prompt[number] = node("TinyModel", kind="flow" if "flux" in file.name else "eps", slow=0.0)
        elif kind == "SigmaGraftLora":
            write_tiny_loras(host)
            del prompt[number]["inputs"]["clip"]
            prompt[number]["inputs"]["lora_name"] = "ink.safetensors"
        elif kind == "VAEDecode":
            prompt[number] = node("TinyDecode", samples=prompt[number]["inputs"]["samples"])
        elif kind.startswith("Empty"):
            size = {"width": 64, "height": 64, "batch_size": prompt[number]["inputs"]["batch_size"]}
            prompt[number] = node("EmptyLatentImage", **size)
    prompts = [n for n, kind in kinds.items() if kind in ("CLIPTextEncode", "FluxGuidance")]
    for one in prompt.values():
        for field, value in one["inputs"].items():
            if isinstance(value, list) and value[0] in prompts:
                one["inputs"][field] = ["1", 2 if field == "negative" else 1]
    for number in prompts:
        del prompt[number]
    told = host.run(prompt)
    assert told["status"]["status_str"] == "success", told["status"]


# what people see of their mistakes


def test_an_option_out_of_range_is_refused(host: Host) -> None:
    said = host.refused(custom(node("SigmaGraftSampler_tcd", gamma=2.0)))
    assert "Value 2.0 bigger than max of 1.0" in said
    said = host.refused(custom(node("SigmaGraftSampler", sampler_name="tcd", options="gamma=2")))
    assert "gamma='2' (expected a number from 0 to 1)" in said


def test_a_sampler_that_is_gone_is_named(host: Host) -> None:
    said = host.refused(walk("no_such_sampler"))
    assert "Value not in list" in said
    assert "no_such_sampler" in said


def test_interrupting_leaves_the_host_usable(host: Host) -> None:
    status, answer = host.post("/prompt", {"prompt": walk("rk6_7s", steps=30, slow=0.2)})
    assert status == 200
    time.sleep(3)
    asked = time.monotonic()
    host.post("/interrupt", {})
    told = host.wait(answer["prompt_id"], 60)
    assert time.monotonic() - asked < 20
    assert "interrupted" in json.dumps(told["status"]).lower()
    told = host.run(walk("rk6_7s", steps=2))
    assert told["status"]["status_str"] == "success"


def test_sigmas_of_ours_are_those_of_the_model(host: Host) -> None:
    """Through a node of the host's that splits them: what it was given is our list."""
    prompt = custom(node("SigmaGraftSampler_euler"))
    prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=3)
    prompt["walk"]["inputs"]["sigmas"] = ["split", 0]
    assert host.run(prompt)["status"]["status_str"] == "success"
    own = schedule("simple", 6, NoiseLevels.discrete())[:4]
    prompt["split"] = node("SigmaGraftSigmas", sigmas=", ".join(map(repr, own)))
    first = host.latent("custom")
    host.run(prompt)
    # own lists end in 0: one step more
    assert host.latent("custom") != first
