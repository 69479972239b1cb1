"""H58, H59: depth from DPT, then SDXL's depth ControlNet in 4 steps, networks moved to the device as they run."""

import numpy as np
import torch
from PIL import Image
from transformers import DPTForDepthEstimation, DPTImageProcessor

from sigmagraft import (
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    TCDScheduler,
    best_device,
    load_image,
    make_image_grid,
)

device = best_device()
depth_estimator = DPTForDepthEstimation.from_pretrained("Intel/dpt-hybrid-midas").to(device)
# the guide has DPTFeatureExtractor, the name this class had before transformers 5
feature_extractor = DPTImageProcessor.from_pretrained("Intel/dpt-hybrid-midas")


def get_depth_map(image):
    pixels = feature_extractor(images=image, return_tensors="pt").pixel_values.to(device)
    with torch.no_grad(), torch.autocast(device.type):
        depth = depth_estimator(pixels).predicted_depth
    depth = torch.nn.functional.interpolate(
        depth.unsqueeze(1).float(), size=(1024, 1024), mode="bicubic", align_corners=False
    )
    low = torch.amin(depth, dim=[1, 2, 3], keepdim=True)
    high = torch.amax(depth, dim=[1, 2, 3], keepdim=True)
    grey = torch.cat([(depth - low) / (high - low)] * 3, dim=1)
    return Image.fromarray((grey.permute(0, 2, 3, 1).cpu().numpy()[0] * 255.0).clip(0, 255).astype(np.uint8))


controlnet = ControlNetModel.from_pretrained(
    "diffusers/controlnet-depth-sdxl-1.0", torch_dtype=torch.float16, variant="fp16"
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

image = load_image(
    "https://huggingface.co/lllyasviel/sd-controlnet-depth/resolve/main/images/stormtrooper.png"
)
depth_image = get_depth_map(image)
drawn = pipe(
    "stormtrooper lecture, photorealistic",
    image=depth_image,
    num_inference_steps=4,
    guidance_scale=0,
    eta=0.3,
    controlnet_conditioning_scale=0.5,
    generator=torch.Generator(device=device).manual_seed(0),
).images[0]
make_image_grid([depth_image.resize(drawn.size), drawn], rows=1, cols=2).save("stormtrooper.png")
