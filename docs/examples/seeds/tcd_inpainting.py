"""H54, H65: inpainting with SDXL's own inpainting model in 8 steps; strength stays below 1."""

import torch

from sigmagraft import AutoPipelineForInpainting, TCDScheduler, best_device, load_image, make_image_grid

device = best_device()
pipe = AutoPipelineForInpainting.from_pretrained(
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1", torch_dtype=torch.float16, variant="fp16"
).to(device)
pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
pipe.load_lora_weights("h1t/TCD-SDXL-LoRA")
pipe.fuse_lora()

pictures = "https://raw.githubusercontent.com/CompVis/latent-diffusion/main/data/inpainting_examples/"
init_image = load_image(pictures + "overture-creations-5sI6fQgYIuo.png").resize((1024, 1024))
mask_image = load_image(pictures + "overture-creations-5sI6fQgYIuo_mask.png").resize((1024, 1024))

image = pipe(
    prompt="a tiger sitting on a park bench",
    image=init_image,
    mask_image=mask_image,
    num_inference_steps=8,
    guidance_scale=0,
    eta=0.3,
    strength=0.99,
    generator=torch.Generator(device=device).manual_seed(0),
).images[0]
make_image_grid([init_image, mask_image, image], rows=1, cols=3).save("inpainting.png")
