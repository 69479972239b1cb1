"""H60: SDXL's canny ControlNet on a ready picture of edges, 4 steps."""

import torch

from sigmagraft import (
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    TCDScheduler,
    best_device,
    load_image,
    make_image_grid,
)

device = best_device()
controlnet = ControlNetModel.from_pretrained(
    "diffusers/controlnet-canny-sdxl-1.0", torch_dtype=torch.float16, variant="fp16"
)
pipe = StableDiffusionXLControlNetPipeline.from_pretrained(
    "stabilityai/stable-diffusion-xl-base-1.0",
    controlnet=controlnet,
    torch_dtype=torch.float16,
    variant="fp16",
)
pipe.enable_model_cpu_offload()
pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
pipe.load_lora_weights("h1t/TCD-SDXL-LoRA")
pipe.fuse_lora()

canny_image = load_image(
    "https://huggingface.co/datasets/hf-internal-testing/diffusers-images/resolve/main/sd_controlnet/bird_canny.png"
)
image = pipe(
    "ultrarealistic shot of a furry blue bird",
    image=canny_image,
    num_inference_steps=4,
    guidance_scale=0,
    eta=0.3,
    controlnet_conditioning_scale=0.5,
    generator=torch.Generator(device=device).manual_seed(0),
).images[0]
make_image_grid([canny_image, image], rows=1, cols=2).save("bird.png")
