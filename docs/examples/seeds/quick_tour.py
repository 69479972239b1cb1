"""H3-H6, H9: load a pipeline, look at what it is made of, draw a squirrel, save it."""

from sigmagraft import DiffusionPipeline, best_device

pipeline = DiffusionPipeline.from_pretrained("runwayml/stable-diffusion-v1-5", use_safetensors=True)
print(pipeline)
pipeline.to(best_device())

image = pipeline("An image of a squirrel in Picasso style").images[0]
image.save("image_of_squirrel_painting.png")
