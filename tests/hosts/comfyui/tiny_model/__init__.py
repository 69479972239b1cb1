"""A pack for a real ComfyUI under test: a tiny random UNet as MODEL with its prompts, and latents as pictures."""

from __future__ import annotations

import json
import os

import torch

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 0],
    "transformer_depth_output": [1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "num_heads": 4,
    "num_head_channels": -1,
    "context_dim": 16,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "legacy": False,
    "dtype": torch.float32,
}
KINDS = {"eps": "EPS", "v": "V_PREDICTION", "edm": "EDM", "flow": "FLOW", "flux": "FLUX"}


def base_model(kind="eps", shift=3.0, noise_scale=1.0):
    """The host's BaseModel with random weights, the same ones each time."""
    import comfy.model_base
    import comfy.supported_models

    config = comfy.supported_models.SD15(dict(UNET))
    settings = {"shift": 1.15 if kind == "flux" else shift} if kind in ("flow", "flux") else {}
    config.sampling_settings = settings | {"noise_scale": noise_scale}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = comfy.model_base.BaseModel(config, getattr(comfy.model_base.ModelType, KINDS[kind]))
        for name, parameter in model.diffusion_model.named_parameters():
            if parameter.ndim > 1:
                parameter.data = torch.randn_like(parameter) / parameter[0].numel() ** 0.5
            else:  # the host leaves weights as it found the memory
                parameter.data = torch.full_like(parameter, 0.0 if name.endswith("bias") else 1.0)
    return model


class TinyModel:
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    FUNCTION = "make"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "kind": (list(KINDS), {}),
                "slow": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 5.0}),
            }
        }

    def make(self, kind, slow):
        import time

        import comfy.model_management
        import comfy.model_patcher

        model = base_model(kind)
        cpu = torch.device("cpu")
        patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
        if slow:

            def wait(apply_model, given):
                time.sleep(slow)
                return apply_model(given["input"], given["timestep"], **given["c"])

            patcher.set_model_unet_function_wrapper(wait)
        with torch.random.fork_rng():
            torch.manual_seed(8)
            conds = [[[torch.randn(1, 7, 16), {}]] for _ in range(2)]
        return (patcher, *conds)


class TinyDecode:
    """A latent as a picture, three of its channels as colours."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "make"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",)}}

    def make(self, samples):
        latent = samples["samples"][:, :3]
        latent = (latent - latent.mean()) / (latent.std() * 6) + 0.5
        picture = torch.nn.functional.interpolate(latent, scale_factor=8, mode="nearest")
        return (picture.movedim(1, -1).clamp(0, 1),)


class TinySave:
    """The numbers of a latent, as JSON in the output folder."""

    RETURN_TYPES = ()
    FUNCTION = "make"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "name": ("STRING", {"default": "latent"})}}

    def make(self, samples, name):
        import folder_paths

        folder = folder_paths.get_output_directory()
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(samples["samples"].tolist(), file)
        return {}


class TinyWeights:
    """The weights of TinyModel's UNet as they are made, as a file in the output folder."""

    RETURN_TYPES = ()
    FUNCTION = "make"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        import folder_paths
        from safetensors.torch import save_file

        folder = folder_paths.get_output_directory()
        os.makedirs(folder, exist_ok=True)
        weights = {name: value.clone() for name, value in base_model().diffusion_model.state_dict().items()}
        save_file(weights, os.path.join(folder, "unet.safetensors"))
        return {}


class Averages:
    """A VAE's encoder: averages of 8 by 8 pixels."""

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels[..., :3].movedim(-1, 1) * 2 - 1, 8)
        return torch.cat([small, small[:, :1]], dim=1)


class TinyVae:
    RETURN_TYPES = ("VAE",)
    FUNCTION = "make"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        return (Averages(),)


NODE_CLASS_MAPPINGS = {
    "TinyVae": TinyVae,
    "TinyModel": TinyModel,
    "TinyDecode": TinyDecode,
    "TinySave": TinySave,
    "TinyWeights": TinyWeights,
}
