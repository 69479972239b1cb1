"""Adapters by hub id, with and without the file's name, against a loopback server that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .hub_server import Repository, Server

pytest.importorskip("huggingface_hub")
ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import json, runpy, sys
runpy.run_path(sys.argv[1])["load"]()
from sigmagraft.core.errors import SigmaGraftError
from sigmagraft.standalone.hub import Hub
from sigmagraft.standalone.lora_source import locate_lora
for line in sys.stdin:
    source, options, offline = json.loads(line)
    try:
        path = locate_lora(source, None, options, Hub(offline=offline))
        answer = {"text": path.read_text(), "beside": sorted(p.name for p in path.parent.iterdir())}
    except SigmaGraftError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Server]:
    weights = {name: name.encode() for name in ("a.safetensors", "b.safetensors", "deep/c.safetensors")}
    server = Server(
        {
            "someone/many": Repository(
                {"main": weights | {"README.md": b"x"}, "v2": {"a.safetensors": b"second"}}
            ),
            "someone/one": Repository({"main": {"only.safetensors": b"only", "README.md": b"x"}}),
            "someone/usual": Repository(
                {"main": {"pytorch_lora_weights.safetensors": b"usual", "checkpoint.safetensors": b"x"}}
            ),
            "someone/peft": Repository(
                {
                    "main": {
                        "adapter_model.safetensors": b"peft",
                        "adapter_config.json": b"{}",
                        "big.bin": b"x",
                    }
                }
            ),
        }
    )
    yield server
    server.close()


@pytest.fixture(scope="module")
def worker(hub: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    home = str(tmp_path_factory.mktemp("home"))
    env = {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": home, "NO_PROXY": "*", "HF_HUB_DOWNLOAD_TIMEOUT": "5"}
    command = [sys.executable, "-c", WORKER, str(ROOT / "bootstrap.py")]
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    assert process.stdin
    process.stdin.close()
    process.wait(30)


def ask(
    worker: subprocess.Popen[str], source: str, offline: bool | None = None, **options: str
) -> dict[str, str]:
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(json.dumps([source, options, offline]) + "\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


def test_the_named_file_alone_is_fetched_and_kept(hub: Server, worker: subprocess.Popen[str]) -> None:
    found = ask(worker, "someone/many", weight_name="b.safetensors")
    assert (found["text"], found["beside"]) == ("b.safetensors", ["b.safetensors"])
    assert (
        ask(worker, "someone/many", weight_name="c.safetensors", subfolder="deep")["text"]
        == "deep/c.safetensors"
    )
    assert ask(worker, "someone/many", weight_name="a.safetensors", revision="v2")["text"] == "second"
    before = len(hub.gets("b.safetensors"))
    assert ask(worker, "someone/many", True, weight_name="b.safetensors")["text"] == "b.safetensors"
    assert len(hub.gets("b.safetensors")) == before


def test_without_a_name_the_only_file_or_the_usual_one(worker: subprocess.Popen[str]) -> None:
    assert ask(worker, "someone/one")["text"] == "only"
    assert ask(worker, "someone/usual")["text"] == "usual"


def test_pefts_configuration_comes_along(worker: subprocess.Popen[str]) -> None:
    assert ask(worker, "someone/peft")["beside"] == ["adapter_config.json", "adapter_model.safetensors"]


def test_what_cannot_be_had_is_said(worker: subprocess.Popen[str]) -> None:
    many = ask(worker, "someone/many")
    assert "2 weights files: a.safetensors, b.safetensors" in many["text"]
    assert "weight_name" in many["text"]
    assert "did you mean 'a.safetensors'" in ask(worker, "someone/many", weight_name="aa.safetensors")["text"]
    assert ask(worker, "someone/nobody")["error"] == "FileError"
    assert ask(worker, "someone/never", True)["error"] == "FileError"
