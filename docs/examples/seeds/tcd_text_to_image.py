"""H45, H46, H50-H53: SDXL in 4 steps with TCD-LoRA, fused."""

import torch

from sigmagraft import StableDiffusionXLPipeline, TCDScheduler, best_device

device = best_device()
pipe = StableDiffusionXLPipeline.from_pretrained(
    "stabilityai/stable-diffusion-xl-base-1.0", torch_dtype=torch.float16, variant="fp16"
).to(device)
pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
pipe.load_lora_weights("h1t/TCD-SDXL-LoRA")
pipe.fuse_lora()

image = pipe(
    prompt="Painting of the orange cat Otto von Garfield in a Prussian helmet, eating his favourite lasagna.",
    num_inference_steps=4,
    guidance_scale=0,
    eta=0.3,
    generator=torch.Generator(device=device).manual_seed(0),
).images[0]
image.save("cat.png")
