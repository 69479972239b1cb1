"""H8: the five tasks of the table, each with the pipeline that does it."""

import torch

from sigmagraft import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
    DDPMPipeline,
    StableDiffusionDepth2ImgPipeline,
    best_device,
    load_image,
)

device = best_device()
prompt = "a cat on a park bench, photograph"


def seed():
    return torch.Generator(device=device).manual_seed(0)


unconditional = DDPMPipeline.from_pretrained("google/ddpm-cifar10-32", use_safetensors=True).to(device)
unconditional(generator=seed(), num_inference_steps=50).images[0].save("unconditional.png")

text = AutoPipelineForText2Image.from_pretrained("runwayml/stable-diffusion-v1-5", use_safetensors=True)
text.to(device)
picture = text(prompt, generator=seed()).images[0]
picture.save("text_to_image.png")

image = AutoPipelineForImage2Image.from_pipe(text)
image(prompt, image=picture, strength=0.6, generator=seed()).images[0].save("image_to_image.png")

mask = load_image("https://huggingface.co/datasets/someone/pictures/resolve/main/mask.png")
inpaint = AutoPipelineForInpainting.from_pretrained("runwayml/stable-diffusion-inpainting").to(device)
painted = inpaint(prompt, image=picture, mask_image=mask.resize(picture.size), generator=seed())
painted.images[0].save("inpainting.png")

depth = StableDiffusionDepth2ImgPipeline.from_pretrained("stabilityai/stable-diffusion-2-depth").to(device)
depth(prompt, image=picture, strength=0.7, generator=seed()).images[0].save("depth_to_image.png")
