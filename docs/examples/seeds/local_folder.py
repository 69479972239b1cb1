"""H7: the same from weights on disk; nothing is downloaded.

git lfs install
git clone https://huggingface.co/runwayml/stable-diffusion-v1-5
"""

from sigmagraft import DiffusionPipeline, best_device

pipeline = DiffusionPipeline.from_pretrained("./stable-diffusion-v1-5", use_safetensors=True)
pipeline.to(best_device())
pipeline("An image of a squirrel in Picasso style").images[0].save("image_of_squirrel_painting.png")
