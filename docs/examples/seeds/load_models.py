"""H31-H34: single networks, from a subfolder and from a repository's root; variants loaded and saved."""

from sigmagraft import UNet2DConditionModel, UNet2DModel

repo = "runwayml/stable-diffusion-v1-5"
unet = UNet2DConditionModel.from_pretrained(repo, subfolder="unet", use_safetensors=True)
print(type(unet).__name__, unet.num_parameters())

plain = UNet2DConditionModel.from_pretrained(repo, subfolder="unet", variant="non_ema", use_safetensors=True)
plain.save_pretrained("./local-unet", variant="non_ema")

pixels = UNet2DModel.from_pretrained("google/ddpm-cifar10-32", use_safetensors=True)
print(type(pixels).__name__, pixels.config.sample_size)
