"""H35-H43: the parts of a pipeline apart: a model of cats, its scheduler, one step, then the whole loop."""

import torch
from PIL import Image
from tqdm import tqdm

from sigmagraft import DDPMScheduler, UNet2DModel, best_device

repo = "google/ddpm-cat-256"
model = UNet2DModel.from_pretrained(repo, use_safetensors=True)
print(model.config)

torch.manual_seed(0)
side = model.config.sample_size
noisy_sample = torch.randn(1, model.config.in_channels, side, side)
print(noisy_sample.shape)

with torch.no_grad():
    noisy_residual = model(sample=noisy_sample, timestep=2).sample

scheduler = DDPMScheduler.from_pretrained(repo)
print(scheduler)
less_noisy = scheduler.step(model_output=noisy_residual, timestep=2, sample=noisy_sample).prev_sample
print(less_noisy.shape)


def display_sample(sample, step):
    pixels = (sample.cpu().permute(0, 2, 3, 1) + 1.0) * 127.5
    Image.fromarray(pixels.clamp(0, 255).numpy().astype("uint8")[0]).save(f"cat-{step:04}.png")


model.to(best_device())
sample = noisy_sample.to(best_device())
for i, t in enumerate(tqdm(scheduler.timesteps)):
    with torch.no_grad():
        residual = model(sample, t).sample
    sample = scheduler.step(residual, t, sample).prev_sample
    if (i + 1) % 50 == 0:
        display_sample(sample, i + 1)
