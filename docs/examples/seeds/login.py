"""H1, H2: log in to the hub, then load; without arguments `login` asks for the token."""

import torch
from huggingface_hub import login

from sigmagraft import DiffusionPipeline, best_device

login()
pipeline = DiffusionPipeline.from_pretrained(
    "runwayml/stable-diffusion-v1-5", torch_dtype=torch.float16, use_safetensors=True
)
pipeline.to(best_device())
print(type(pipeline).__name__, pipeline.dtype)
