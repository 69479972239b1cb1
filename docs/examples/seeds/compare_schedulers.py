"""H16, H19, H21-H27: one prompt, one seed, six schedulers, each made from the config of the last."""

import torch

from sigmagraft import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    best_device,
)

device = best_device()
pipeline = DiffusionPipeline.from_pretrained(
    "runwayml/stable-diffusion-v1-5", torch_dtype=torch.float16, use_safetensors=True
)
pipeline.to(device)
prompt = "A photograph of an astronaut riding a horse on Mars, high resolution, high definition."


def draw(name, **steps):
    generator = torch.Generator(device=device).manual_seed(8)
    pipeline(prompt, generator=generator, **steps).images[0].save(f"astronaut_{name}.png")


def swap(scheduler):
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)


draw("pndm")
swap(DDIMScheduler)
draw("ddim")
swap(LMSDiscreteScheduler)
draw("lms")
swap(EulerDiscreteScheduler)
draw("euler_discrete", num_inference_steps=30)
swap(EulerAncestralDiscreteScheduler)
draw("euler_ancestral", num_inference_steps=30)
swap(DPMSolverMultistepScheduler)
draw("dpm", num_inference_steps=20)
