"""The runner with `--like` against a real web UI of A1111's family, through its HTTP API.

    python -m sigmagraft.benchmarks.parity_webui URL HOST VERSION LIKE CHECKPOINT FOLDER ROWS.json

The host runs on the CPU in fp32 with the same checkpoint, and has `parity_webui_latents.py` of this folder as
extensions/NAME/scripts/latents.py; FOLDER is its PARITY_LATENTS. `benchmarks.parity` takes the rows.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import torch

from sigmagraft.benchmarks.parity_settings import (
    CFG,
    NEGATIVE,
    PROMPT,
    SEED,
    SHARED,
    SIDE,
    STEPS,
    apart,
    cases,
    written,
)
from sigmagraft.samplers import SCHEDULES as OURS
from sigmagraft.standalone.pipeline import Pipeline

SCHEDULES = (
    "Karras,Exponential,Polyexponential,SGM Uniform,KL Optimal,Align Your Steps,Simple,Normal,DDIM,Beta"
)
SAMPLERS = (
    "Heun=heun,LMS=lms,DPM++ 2M=dpmpp_2m,DPM2=dpm_2,Restart=restart,DDIM=ddim,PLMS=plms,UniPC=uni_pc,"
    "Euler a=euler_ancestral,DPM2 a=dpm_2_ancestral,DPM++ 2S a=dpmpp_2s_ancestral,DPM++ SDE=dpmpp_sde,"
    "DPM++ 2M SDE=dpmpp_2m_sde,DPM++ 2M SDE Heun=dpmpp_2m_sde:solver_type=heun,DPM++ 3M SDE=dpmpp_3m_sde,"
    "DPM fast=dpm_fast,DPM adaptive=dpm_adaptive,LCM=lcm"
)
# as a fresh installation has them, whatever this one is set to
SETTINGS = {
    "eta_noise_seed_delta": 0,
    "randn_source": "GPU",
    "eta_ancestral": 1.0,
    "emphasis": "Original",
    "CLIP_stop_at_last_layers": 1,
}


def asked(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The answer of the host's API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/sdapi/v1/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=900) as answer:
        return json.load(answer)


def main(url: str, host: str, version: str, like: str, checkpoint: str, folder: str, rows_at: str) -> None:
    """Every case the host has, one line each."""
    pipe = Pipeline.load(checkpoint, device="cpu", dtype="fp32")
    there = {sampler["name"] for sampler in asked(url, "samplers")}
    names = {"euler": "Euler"}
    told = {"host": host, "version": version, "what": "like", "network": "random"}
    with written(rows_at) as rows:
        for theirs, schedule, ours, options in cases(SAMPLERS.split(","), SCHEDULES.split(","), "Automatic"):
            label = names.get(theirs, theirs)
            if label not in there:
                continue
            body = {
                "prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "steps": STEPS,
                "cfg_scale": CFG,
                "seed": SEED,
            }
            body |= {"width": SIDE, "height": SIDE, "sampler_name": label, "scheduler": schedule}
            asked(url, "txt2img", {**body, "override_settings": SETTINGS})
            end = torch.load(Path(folder) / "latents.pt", weights_only=True)
            more = {"sampler": ours, "options": options, "like": like}
            more |= {} if schedule == "Automatic" else {"schedule": OURS[schedule].name}
            difference = apart(pipe(PROMPT, **SHARED, **more).latents, end)
            row = {"sampler": ours, "options": options, "schedule": schedule.lower().replace(" ", "_")}
            rows.append({**told, **row, "difference": difference})
            print(f"{label:20} {schedule:18} {difference:.1e}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
