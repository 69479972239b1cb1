"""diffusers' networks of the real topologies at small widths, with random weights, and ours with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sigmagraft.controlnet.host import Host
from sigmagraft.controlnet.strength import Timeline
from sigmagraft.core.keymap import rename, unet_table_for
from sigmagraft.core.patch import Hooks, Inputs, StepInfo
from sigmagraft.standalone.unet import UNet, UNetConfig

SD1 = {
    "block_out_channels": (32, 64, 128, 128),
    "cross_attention_dim": 48,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
}
SD2 = {
    **SD1,
    "block_out_channels": (64, 128, 192, 192),
    "attention_head_dim": (1, 2, 3, 3),
    "use_linear_projection": True,
}
SDXL = {
    "block_out_channels": (64, 128, 192),
    "cross_attention_dim": 48,
    "attention_head_dim": (1, 2, 3),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
}
UNION = {  # diffusers' Union knows no other first width
    **SDXL,
    "block_out_channels": (320, 320),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "attention_head_dim": 5,
    "transformer_layers_per_block": 1,
}
FAMILIES = {"sd1": SD1, "sd2": SD2, "sdxl": SDXL, "union": UNION}
_UP = {"DownBlock2D": "UpBlock2D", "CrossAttnDownBlock2D": "CrossAttnUpBlock2D"}


def filled(network: nn.Module, seed: int = 0) -> Any:
    """The network with every parameter drawn anew, those that training starts at zero included."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        shape = parameter.shape
        scale = 0.5 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.1
        offset = 1.0 if parameter.ndim == 1 and "norm" in str(shape) else 0.0
        parameter.data = torch.randn(shape, generator=generator) * scale + offset
    for module in network.modules():
        if isinstance(module, (nn.GroupNorm, nn.LayerNorm)) and module.weight is not None:
            module.weight.data += 1.0
    return network.eval().requires_grad_(False)


def their_unet(family: str, seed: int = 1) -> Any:
    """diffusers' UNet."""
    from diffusers import UNet2DConditionModel

    config = FAMILIES[family]
    up = tuple(_UP[name] for name in reversed(config["down_block_types"]))
    return filled(UNet2DConditionModel(**config, up_block_types=up, sample_size=16), seed)


def their_control(kind: Any, family: str, seed: int = 2, **more: Any) -> Any:
    """diffusers' ControlNet or Union."""
    return filled(kind(**FAMILIES[family], **more), seed)


def our_unet(theirs: Any) -> UNet:
    """Ours with the same weights."""
    state = theirs.state_dict()
    tensors, unknown = rename(state, unet_table_for(state))
    assert not unknown
    unet = UNet(UNetConfig.from_shapes({name: tuple(t.shape) for name, t in tensors.items()}))
    unet.load_state_dict(tensors)
    return unet.eval().requires_grad_(False)


def saved(network: nn.Module | dict[str, Tensor], path: Path) -> Path:
    """A weights file of a network or a state dict."""
    state = network if isinstance(network, dict) else network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def inputs_of(family: str, batch: int = 2, size: int = 16, seed: int = 3) -> Inputs:
    """Random inputs of the network."""
    g = torch.Generator().manual_seed(seed)
    vector = torch.randn(batch, 80, generator=g) if "addition_embed_type" in FAMILIES[family] else None
    return Inputs(
        torch.randn(batch, 4, size, size, generator=g),
        torch.full((batch,), 601.0),
        torch.randn(batch, 5, 48, generator=g),
        vector,
    )


def added(inputs: Inputs) -> dict[str, Any]:
    """diffusers' keyword for the vector: its last 48 numbers are made of time ids, so they are given as text."""
    return {"text_embeds": inputs.vector} if inputs.vector is not None else {}


def host_of(unet: UNet, sigmas: tuple[float, ...] = (10.0, 1.0, 0.0), **more: Any) -> Host:
    """A host without a run."""
    given: dict[str, Any] = {
        "config": unet.config,
        "timeline": Timeline(sigmas),
        "factor": 8,
        "weights": unet.state_dict,
        "encode": lambda pixels: pixels[:, :1, ::8, ::8].repeat(1, 4, 1, 1),
        "noised": lambda latent, info: latent,
        "evaluate": lambda info, patches: evaluate(unet, info, patches),
    }
    return Host(**(given | more))


def evaluate(unet: UNet, info: StepInfo, patches: Any = ()) -> Tensor:
    """Our UNet under patches."""
    inputs = info.inputs
    assert inputs is not None
    return unet(inputs.x, inputs.timesteps, inputs.context, inputs.vector, Hooks(list(patches), info))
