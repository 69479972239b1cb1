"""H56, H57: TCD-LoRA and a style LoRA together, by name and weight."""

import torch

from sigmagraft import StableDiffusionXLPipeline, TCDScheduler, best_device

device = best_device()
pipe = StableDiffusionXLPipeline.from_pretrained(
    "stabilityai/stable-diffusion-xl-base-1.0", torch_dtype=torch.float16, variant="fp16"
).to(device)
pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
pipe.load_lora_weights("h1t/TCD-SDXL-LoRA", adapter_name="tcd")
pipe.load_lora_weights("TheLastBen/Papercut_SDXL", adapter_name="style")
pipe.set_adapters(["tcd", "style"], adapter_weights=[1.0, 1.0])

image = pipe(
    prompt="papercut of a winter mountain, snow",
    num_inference_steps=4,
    guidance_scale=0,
    eta=0.3,
    generator=torch.Generator(device=device).manual_seed(0),
).images[0]
image.save("papercut.png")
