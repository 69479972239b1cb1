"""H28-H30: a picture on every device of the machine, 25 steps of DPM-Solver++; the guides do this with Flax.

Every sampler works here, LMS and DDPM as well. The command is `sigmagraft batch jobs.jsonl --devices all`.
"""

import json
from pathlib import Path

from sigmagraft import draw_batch

prompt = "A photograph of an astronaut riding a horse on Mars, high resolution, high definition."
settings = {"model": "runwayml/stable-diffusion-v1-5", "dtype": "bf16", "steps": 25}
jobs = [
    {"prompt": prompt, "seed": 0, "sampler": sampler, **settings} for sampler in ("dpmpp_2m", "lms", "ddpm")
]
Path("jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
for path in draw_batch("jobs.jsonl", "astronauts", devices="all"):
    print(path)
