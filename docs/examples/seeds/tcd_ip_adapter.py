"""H62: a picture as the prompt: the IP-Adapter of SDXL with ViT-bigG, 4 steps.

git lfs install
git clone https://huggingface.co/h94/IP-Adapter && mv IP-Adapter/sdxl_models .
"""

import torch

from sigmagraft import (
    IPAdapterXL,
    StableDiffusionXLPipeline,
    TCDScheduler,
    best_device,
    load_image,
    make_image_grid,
)

device = best_device()
pipe = StableDiffusionXLPipeline.from_pretrained(
    "stabilityai/stable-diffusion-xl-base-1.0", torch_dtype=torch.float16, variant="fp16"
).to(device)
pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
pipe.load_lora_weights("h1t/TCD-SDXL-LoRA")
pipe.fuse_lora()
ip_model = IPAdapterXL(pipe, "sdxl_models/image_encoder", "sdxl_models/ip-adapter_sdxl.bin", device)

reference = load_image(
    "https://raw.githubusercontent.com/tencent-ailab/IP-Adapter/main/assets/images/woman.png"
)
reference = reference.resize((512, 512))
image = ip_model.generate(
    pil_image=reference,
    prompt="best quality, high quality, wearing sunglasses",
    scale=0.5,
    num_samples=1,
    num_inference_steps=4,
    guidance_scale=0,
    eta=0.3,
    seed=0,
)[0]
make_image_grid([reference, image.resize((512, 512))], rows=1, cols=2).save("sunglasses.png")
