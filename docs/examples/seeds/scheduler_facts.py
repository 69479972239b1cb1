"""H11-H13, H17, H18: a pipeline's scheduler, its config, and the classes that could take its place."""

import torch

from sigmagraft import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(
    "runwayml/stable-diffusion-v1-5", torch_dtype=torch.float16, use_safetensors=True
)
print(pipeline.scheduler)
print(pipeline.scheduler.config)
print(*(kind.__name__ for kind in pipeline.scheduler.compatibles), sep="\n")
