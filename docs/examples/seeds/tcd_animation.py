"""H63, H64: 24 frames in 5 steps: AnimateDiff, TCD-LoRA and a LoRA of a camera that zooms in."""

import torch

from sigmagraft import AnimateDiffPipeline, MotionAdapter, TCDScheduler, best_device, export_to_gif

device = best_device()
adapter = MotionAdapter.from_pretrained("guoyww/animatediff-motion-adapter-v1-5")
pipe = AnimateDiffPipeline.from_pretrained("frankjoshua/toonyou_beta6", motion_adapter=adapter).to(device)
pipe.scheduler = TCDScheduler.from_config(pipe.scheduler.config)
pipe.load_lora_weights("h1t/TCD-SD15-LoRA", adapter_name="tcd")
pipe.load_lora_weights(
    "guoyww/animatediff-motion-lora-zoom-in",
    weight_name="diffusion_pytorch_model.safetensors",
    adapter_name="motion-lora",
)
pipe.set_adapters(["tcd", "motion-lora"], adapter_weights=[1.0, 1.2])

frames = pipe(
    prompt="best quality, masterpiece, 1girl, looking at viewer, blurry background",
    num_inference_steps=5,
    guidance_scale=0,
    cross_attention_kwargs={"scale": 1},
    num_frames=24,
    eta=0.3,
    generator=torch.manual_seed(0),
).frames[0]
export_to_gif(frames, "animation.gif")
