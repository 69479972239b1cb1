"""H55: TCD-LoRA on somebody's fine-tune of the same base, 8 steps."""

import torch

from sigmagraft import StableDiffusionXLPipeline, TCDScheduler, best_device

device = best_device()
pipe = StableDiffusionXLPipeline.from_pretrained(
    "cagliostrolab/animagine-xl-3.0", torch_dtype=torch.float16, variant="fp16"
).to(device)
pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
pipe.load_lora_weights("h1t/TCD-SDXL-LoRA")
pipe.fuse_lora()

image = pipe(
    prompt="A man clad in a meticulously crafted military uniform, stands with unwavering resolve.",
    num_inference_steps=8,
    guidance_scale=0,
    eta=0.3,
    generator=torch.Generator(device=device).manual_seed(0),
).images[0]
image.save("soldier.png")
