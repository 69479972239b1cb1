"""Hub ids through huggingface_hub, against a loopback server that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.standalone.hub import files_wanted, is_hub_id

from .files import tensors, write_file, write_folder
from .hub_server import Repository, Server

pytest.importorskip("huggingface_hub")
ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import json, runpy, sys
runpy.run_path(sys.argv[1])["load"]()
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = int(sys.argv[2])  # it keeps whole chunks: ours are small files
from sigmagraft.core.errors import SigmaGraftError
from sigmagraft.standalone.load import load_model
for line in sys.stdin:
    try:
        model = load_model(**json.loads(line))
        answer = {"bias": float(model.unet.out[2].bias.sum()), "family": model.info.family}
    except SigmaGraftError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    except Exception as error:
        answer = {"error": "not ours: " + type(error).__name__, "text": str(error)}
    print(json.dumps(answer), flush=True)
"""
CHUNK = 1 << 16
BIAS = float(tensors()["model.diffusion_model.out.2.bias"].sum())


def sharded(files: dict[str, bytes]) -> dict[str, bytes]:
    """The UNet in two shards and an index, beside a file that belongs to neither."""
    whole = load_bytes(files["unet/diffusion_pytorch_model.safetensors"])
    names = sorted(whole)
    parts = {f"part-{i}.safetensors": names[i - 1 :: 2] for i in (1, 2)}
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    found = {f"unet/{file}": save_bytes({n: whole[n] for n in some}) for file, some in parts.items()}
    found["unet/diffusion_pytorch_model.safetensors.index.json"] = json.dumps(index).encode()
    rest = {n: data for n, data in files.items() if n != "unet/diffusion_pytorch_model.safetensors"}
    return rest | found | {"unet/part-3.safetensors": b"x"}


def files_of(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("hub")
    plain = files_of(write_folder(root / "plain"))
    half = {name.replace(".safetensors", ".fp16.safetensors"): data for name, data in plain.items()}
    extra = {
        "unet/diffusion_pytorch_model.bin": b"x",
        "safety_checker/model.safetensors": b"x",
        "README.md": b"x",
    }
    single = {"model.safetensors": write_file(root / "one.safetensors").read_bytes()}
    other = files_of(write_folder(root / "other", {"_class_name": "D", "prediction_type": "v_prediction"}))
    server = Server(
        {
            "someone/model": Repository({"main": plain | half | extra, "v2": other}),
            "someone/cut": Repository({"main": plain}),
            "someone/never": Repository({"main": plain}),
            "someone/sharded": Repository({"main": sharded(plain)}),
            "someone/pipeline": Repository({"main": plain}),
            "someone/private": Repository({"main": plain}, token="secret"),
            "someone/gated": Repository({"main": plain}, gated=True),
            "someone/single": Repository({"main": single}),
            "someone/inner": Repository({"main": {f"deep/{name}": data for name, data in plain.items()}}),
            "someone/empty": Repository(
                {"main": {"README.md": b"x", "a.safetensors": b"x", "b.safetensors": b"x"}}
            ),
            "someone/vae": Repository({"main": {n[4:]: d for n, d in plain.items() if n.startswith("vae/")}}),
        }
    )
    yield server
    server.close()


@pytest.fixture(scope="module")
def worker(hub: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A process that takes the hub's address from the environment, as a person sets it."""
    home = tmp_path_factory.mktemp("home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    env = {
        **kept,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "NO_PROXY": "*",
    }
    command = [sys.executable, "-c", WORKER, str(ROOT / "bootstrap.py"), str(CHUNK)]
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    assert process.stdin
    process.stdin.close()
    process.wait(30)


def load(worker: subprocess.Popen[str], source: str, **options: Any) -> dict[str, Any]:
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(json.dumps({"source": source, **options}) + "\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


def paths(hub: Server) -> set[str]:
    return {request["path"].split("/", 5)[-1] for request in hub.seen if "/resolve/" in request["path"]}


def test_a_hub_id_downloads_only_what_it_needs_and_once(hub: Server, worker: subprocess.Popen[str]) -> None:
    hub.seen.clear()
    assert load(worker, "someone/model")["bias"] == pytest.approx(BIAS)
    assert {name for name in paths(hub) if name.endswith((".safetensors", ".bin"))} == {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    }
    hub.seen.clear()
    assert load(worker, "someone/model")["bias"] == pytest.approx(BIAS)
    assert not [r for r in hub.seen if r["method"] == "GET" and "/resolve/" in r["path"]]


def test_sharded_weights_follow_their_index(hub: Server, worker: subprocess.Popen[str]) -> None:
    hub.seen.clear()
    assert load(worker, "someone/sharded")["bias"] == pytest.approx(BIAS)
    assert {"unet/part-1.safetensors", "unet/part-2.safetensors"} <= paths(hub)
    assert "unet/part-3.safetensors" not in paths(hub)


def test_a_variant_is_another_set_of_files(hub: Server, worker: subprocess.Popen[str]) -> None:
    hub.seen.clear()
    assert load(worker, "someone/model", variant="fp16")["bias"] == pytest.approx(BIAS)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in paths(hub)
    assert "unet/diffusion_pytorch_model.safetensors" not in paths(hub)
    answer = load(worker, "someone/model", variant="fp8")
    assert answer["error"] == "OptionError"
    assert "fp16" in answer["text"]


def test_a_download_cut_half_way_resumes(hub: Server, worker: subprocess.Popen[str]) -> None:
    file = "unet/diffusion_pytorch_model.safetensors"
    half = len(hub.repositories["someone/cut"].revisions["main"][file]) // 2
    hub.cut, hub.cuts = file, 1
    hub.seen.clear()
    assert load(worker, "someone/cut").get("bias") == pytest.approx(BIAS)
    assert hub.cuts == 0
    ranges = [r["headers"].get("range") for r in hub.gets(Path(file).name) if "/unet/" in r["path"]]
    assert ranges[0] is None
    start = int(ranges[1].removeprefix("bytes=").split("-")[0])
    assert half - CHUNK <= start <= half


def test_a_download_that_never_ends_is_one_line_and_goes_on_later(
    hub: Server, worker: subprocess.Popen[str]
) -> None:
    file = "unet/diffusion_pytorch_model.safetensors"
    hub.cut, hub.cuts = file, 1000
    answer = load(worker, "someone/never")
    hub.cuts = 0
    assert answer.get("error") == "FileError", answer
    assert "the files that are complete are kept" in answer["text"]
    assert "\n" not in answer["text"]
    hub.seen.clear()
    assert load(worker, "someone/never").get("bias") == pytest.approx(BIAS)
    assert not hub.gets("model.safetensors")


def test_revision(hub: Server, worker: subprocess.Popen[str]) -> None:
    hub.seen.clear()
    assert load(worker, "someone/model", revision="v2")["bias"] == pytest.approx(BIAS)
    commit = hub.repositories["someone/model"].commit("v2")
    asked = [r["path"].split("/")[4] for r in hub.seen if "/resolve/" in r["path"]]
    assert set(asked) == {"v2", commit}  # the first file settles the commit, the others are of that commit
    assert asked.count(commit) > 3
    answer = load(worker, "someone/model", revision="v9")
    assert "there is no revision 'v9'" in answer["text"]


def test_token(hub: Server, worker: subprocess.Popen[str]) -> None:
    answer = load(worker, "someone/private")
    assert "a private model needs a token" in answer["text"]
    assert load(worker, "someone/private", token="secret")["bias"] == pytest.approx(BIAS)
    asked = [r for r in hub.seen if "someone/private" in r["path"] and "authorization" in r["headers"]]
    assert asked
    assert all(r["headers"]["authorization"] == "Bearer secret" for r in asked)
    assert "gated" in load(worker, "someone/gated")["text"]


def test_offline_asks_nothing(hub: Server, worker: subprocess.Popen[str]) -> None:
    load(worker, "someone/single")
    hub.seen.clear()
    assert load(worker, "someone/single", offline=True)["bias"] == pytest.approx(BIAS)
    answer = load(worker, "someone/vae", offline=True)
    assert "not in the cache" in answer["text"]
    assert "online" in answer["text"]
    assert hub.seen == []


def test_subfolder_component_and_single_file(hub: Server, worker: subprocess.Popen[str]) -> None:
    assert load(worker, "someone/inner", subfolder="deep")["bias"] == pytest.approx(BIAS)
    assert "there is no folder 'shallow'" in load(worker, "someone/inner", subfolder="shallow")["text"]
    assert load(worker, "someone/single", vae="someone/vae")["bias"] == pytest.approx(BIAS)
    hub.seen.clear()
    assert load(worker, "someone/single", vae="someone/pipeline")["bias"] == pytest.approx(BIAS)
    asked = {name.split("/")[0] for name in paths(hub)}
    assert "vae" in asked
    assert not asked & {"unet", "text_encoder"}


def test_names_that_lead_nowhere(hub: Server, worker: subprocess.Popen[str]) -> None:
    assert "no such model on the hub" in load(worker, "someone/nobody")["text"]
    answer = load(worker, "someone/empty")
    assert "a.safetensors, b.safetensors" in answer["text"]


def test_a_hub_that_is_out_of_reach(hub: Server, worker: subprocess.Popen[str]) -> None:
    """The last test of this worker: its server goes away."""
    hub.close()
    answer = load(worker, "someone/elsewhere")
    assert answer["error"] == "FileError"
    assert "reach" in answer["text"]
    assert load(worker, "someone/model", offline=True)["bias"] == pytest.approx(BIAS)
    assert load(worker, "someone/model")["bias"] == pytest.approx(BIAS)


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("owner/name", True),
        ("stabilityai/sdxl-turbo", True),
        ("runwayml/stable-diffusion-v1-5", True),
        ("models/file.safetensors", False),
        ("file.ckpt", False),
        ("a/b/c", False),
        ("./a/b", False),
        ("/a/b", False),
        ("name", False),
    ],
)
def test_what_is_a_hub_id(source: str, answer: bool) -> None:
    assert is_hub_id(source) == answer


def test_shards_and_configs_are_wanted() -> None:
    names = [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "x/y.bin",
    ]
    assert set(files_wanted(names, None, None, "r")) == set(names) - {"x/y.bin"}
    with pytest.raises(OptionError, match="no folder"):
        files_wanted(names, "none", None, "r")
    with pytest.raises(FileError, match="no diffusers model"):
        files_wanted(["README.md"], None, None, "r")
