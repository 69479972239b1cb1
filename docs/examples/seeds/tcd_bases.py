"""H47-H49, H61, H66: each base model with its TCD-LoRA, over the range of steps and of eta."""

import torch

from sigmagraft import DiffusionPipeline, TCDScheduler, best_device

device = best_device()
for base, lora in (
    ("runwayml/stable-diffusion-v1-5", "h1t/TCD-SD15-LoRA"),
    ("stabilityai/stable-diffusion-2-1-base", "h1t/TCD-SD21-base-LoRA"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "h1t/TCD-SDXL-LoRA"),
):
    pipe = DiffusionPipeline.from_pretrained(base, torch_dtype=torch.float16).to(device)
    pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
    pipe.load_lora_weights(lora)
    print(base, pipe.scheduler.config.original_inference_steps, pipe.scheduler.config.beta_schedule)
    for steps, eta in ((4, 0.0), (4, 0.3), (8, 0.3), (50, 1.0)):
        image = pipe(
            "a lighthouse on a cliff, oil painting",
            num_inference_steps=steps,
            guidance_scale=0,
            eta=eta,
            cross_attention_kwargs={"scale": 1.0},
            generator=torch.Generator(device=device).manual_seed(0),
        ).images[0]
        image.save(f"{lora.split('/')[1]}-{steps}-{eta:g}.png")
