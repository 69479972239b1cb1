"""`<lora:...>` in the real web UIs that SIGMAGRAFT_A1111, _FORGE, _REFORGE and _NEO name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigmagraft.loras import Targets
from sigmagraft.standalone.lora_targets import base_of

from ...loras.files import lora, matrices
from ...loras.small import write
from .real import RealWebUI, installed
from .test_real import HOSTS, apart

OURS, CURVE = "<lora:ink:1:blocks=ALL>", "<lora:ink:1:sigma=1@14,1@0>"


@pytest.fixture(scope="module", params=HOSTS)
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWebUI]:
    variable = f"SIGMAGRAFT_{request.param.upper()}"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no checkout of this web UI")
    folder, scratch = Path(os.environ[variable]), tmp_path_factory.mktemp(request.param)
    (scratch / "loras").mkdir()
    with installed(folder):
        host = RealWebUI(request.param, folder, scratch, "--lora-dir", str(scratch / "loras"))
        try:
            host.wait_until_up()
            _write(host, scratch / "loras")
            yield host
        finally:
            host.stop()


def _write(web: RealWebUI, folder: Path) -> None:
    """ink: kohya's names, peft: the same changes under names that no host reads whole; wrong: for a wider model."""
    now = web.get("options")["sd_model_checkpoint"].split(" [")[0]
    model = next(m["filename"] for m in web.get("sd-models") if Path(m["filename"]).name == Path(now).name)
    targets: Targets = base_of(None, model).targets  # type: ignore[arg-type]
    unet = [m for m in matrices(targets) if m.network == "unet"][::3]
    tensors = lora(unet, size=0.05)
    write(folder / "ink.safetensors", tensors)
    write(
        folder / "wrong.safetensors",
        {k: v.repeat_interleave(3, 0) if "up" in k else v for k, v in tensors.items()},
    )
    renamed = {}
    for module in unet:
        old = f"lora_unet_{module.path.replace('.', '_')}"
        new = f"base_model.model.{module.names['diffusers'][0].removeprefix('unet.')}"
        renamed[f"{new}.lora_A.weight"] = tensors[f"{old}.lora_down.weight"]
        renamed[f"{new}.lora_B.weight"] = tensors[f"{old}.lora_up.weight"] * 0.5  # its alpha is half its rank
    write(folder / "peft.safetensors", renamed)


def test_ours_draws_as_the_host_and_the_next_job_as_before(web: RealWebUI) -> None:
    plain, _ = web.txt2img()
    host, told = web.txt2img(prompt="a cat <lora:ink:1>")
    assert "<lora:ink:1>" in told
    assert apart(host[0], plain[0]) > 2
    for tag in (OURS, CURVE, "<lora:peft:1>", "<lora:ink:0.5><lora:peft:0.5>"):
        ours, told = web.txt2img(prompt=f"a cat {tag}")
        assert tag in told
        assert apart(ours[0], host[0]) <= 3
        again, _ = web.txt2img()
        assert apart(again[0], plain[0]) == 0


def test_blocks_and_curves_change_what_is_drawn(web: RealWebUI) -> None:
    whole, _ = web.txt2img(prompt=f"a cat {OURS}")
    for tag in ("<lora:ink:1:blocks=OUT=0>", "<lora:ink:1:sigma=0@14,1@2>", "<lora:ink:1:step=0@0,1@2>"):
        part, _ = web.txt2img(prompt=f"a cat {tag}")
        assert apart(part[0], whole[0]) > 2, tag


def test_what_is_wrong_is_answered_with_the_reason_and_the_host_goes_on(web: RealWebUI) -> None:
    plain, _ = web.txt2img()
    assert "unknown blocks" in web.refusal(prompt="a cat <lora:ink:1:blocks=NOPE>")
    assert "made for a weight of" in web.refusal(prompt="a cat <lora:wrong:1:blocks=ALL>")
    assert "no such LoRA" in web.refusal(prompt="a cat <lora:gone:1:blocks=ALL>")
    again, _ = web.txt2img()
    assert apart(again[0], plain[0]) == 0
