"""H14, H15, H20: a scheduler read from its config file alone, handed to the pipeline as it loads."""

import torch

from sigmagraft import DDIMScheduler, DiffusionPipeline

repo = "runwayml/stable-diffusion-v1-5"
ddim = DDIMScheduler.from_pretrained(repo, subfolder="scheduler")
pipeline = DiffusionPipeline.from_pretrained(
    repo, scheduler=ddim, torch_dtype=torch.float16, use_safetensors=True
)
assert pipeline.scheduler is ddim
print(pipeline.scheduler)
