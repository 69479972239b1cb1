"""The runner with `--like comfyui` against a real ComfyUI: its loader, text encoder and KSampler, in this process.

    PYTHONPATH=FOLDER python -m sigmagraft.benchmarks.parity_comfyui CHECKOUT CHECKPOINT comfyui|comfyui-0.6 ROWS.json

Run by a Python that has what ComfyUI needs; FOLDER holds this package. `benchmarks.parity` takes the rows.
"""

from __future__ import annotations

import sys
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
from sigmagraft.standalone.pipeline import Pipeline

SCHEDULES = "normal karras exponential sgm_uniform simple ddim_uniform beta linear_quadratic kl_optimal"
SAMPLERS = (
    "heun heunpp2 dpm_2 lms dpm_fast dpm_adaptive dpmpp_2m ipndm ipndm_v deis res_multistep gradient_estimation ddim "
    "uni_pc uni_pc_bh2 exp_heun_2_x0 euler_ancestral dpm_2_ancestral dpmpp_2s_ancestral dpmpp_sde dpmpp_2m_sde "
    "dpmpp_2m_sde_heun=dpmpp_2m_sde:solver_type=heun dpmpp_3m_sde ddpm lcm res_multistep_ancestral er_sde seeds_2 "
    "seeds_3 sa_solver sa_solver_pece"
)


def host(checkout: str) -> Any:
    """ComfyUI's modules, on the CPU."""
    sys.path.insert(0, checkout)
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.sd
    import nodes

    return comfy, nodes


def main(checkout: str, checkpoint: str, like: str, rows_at: str) -> None:
    """Every case the checkout has, one line each."""
    comfy, nodes = host(checkout)
    import comfyui_version

    pipe = Pipeline.load(checkpoint, device="cpu", dtype="fp32")
    told = {"host": "comfyui", "version": comfyui_version.__version__, "what": "like"}
    with torch.inference_mode(), written(rows_at) as rows:
        model, clip, *_ = comfy.sd.load_checkpoint_guess_config(checkpoint, output_clip=True)
        encode = nodes.CLIPTextEncode().encode
        (cond,), (uncond,) = encode(clip, PROMPT), encode(clip, NEGATIVE)
        for theirs, schedule, ours, options in cases(SAMPLERS.split(), SCHEDULES.split(), "karras"):
            if theirs not in comfy.samplers.SAMPLER_NAMES or schedule not in comfy.samplers.SCHEDULER_NAMES:
                continue
            latent = {"samples": torch.zeros(1, 4, SIDE // 8, SIDE // 8)}
            (end,) = nodes.common_ksampler(model, SEED, STEPS, CFG, theirs, schedule, cond, uncond, latent)
            asked = {**SHARED, "sampler": ours, "options": options, "schedule": schedule, "like": like}
            drawn = pipe(PROMPT, **asked).latents
            difference = apart(drawn, model.get_model_object("latent_format").process_in(end["samples"]))
            rows.append(
                {**told, "network": "random", "sampler": ours, "options": options, "schedule": schedule}
            )
            rows[-1]["difference"] = difference
            print(f"{theirs:28} {schedule:18} {difference:.1e}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
