"""What a control can be trained as: a ControlNet, a Control-LoRA, a T2I-Adapter; each gives residuals and a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sigmagraft.controlnet.network import ControlNet
from sigmagraft.controlnet.t2i import T2IAdapter, T2IConfig, placement
from sigmagraft.core.patch import Block, Inputs
from sigmagraft.standalone.unet import UNet

HINT_WIDTHS = (
    3,
    16,
    16,
    24,
    24,
    48,
    48,
    64,
)  # and the model's width; published ones are up to four times as wide
RANK = 16
WEAK = 0.1  # factor on the last of an adapter's first weights
Residuals = dict[Block, Tensor]


def blank_control(unet: UNet) -> ControlNet:
    """A ControlNet of the UNet's encoder's weights that adds nothing yet (arXiv:2302.05543).

    Only its outputs start at zero. Published ones began with the hint at zero as well, so that neither learns before
    the other has; and torch's own first weights let a signal fade to a thousandth over eight convolutions. With either,
    100 steps had not told a scene's own hint from another's.
    """
    control = ControlNet(unet.config, (*HINT_WIDTHS, unet.config.model_channels))
    ours = control.state_dict()
    control.load_state_dict({name: unet.state_dict().get(name, value) for name, value in ours.items()})
    for layer in (*(zero[0] for zero in control.zero_convs), control.middle_block_out[0]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    keep_signal(control.input_hint_block)
    return control


@torch.no_grad()
def keep_signal(encoder: nn.Sequential) -> None:
    """Scales each convolution so that sparse white lines come out of it with deviation 1 (arXiv:1511.06422)."""
    lines = torch.zeros(4, 3, 128, 128)
    lines[..., ::24, :] = lines[..., 9::31] = 1.0
    for layer in encoder:
        if isinstance(layer, nn.Conv2d):
            layer.weight /= (layer(lines) - layer.bias[:, None, None]).std()
        lines = layer(lines)


def placed(outputs: list[Tensor]) -> Residuals:
    """A ControlNet's outputs where they are added."""
    last = len(outputs) - 2
    places: Residuals = {("output", last - n): x for n, x in enumerate(outputs[:-1])}
    return places | {("middle", 0): outputs[-1]}


class WholeForm(nn.Module):
    """All weights of a ControlNet."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.control = blank_control(unet)

    def residuals(self, inputs: Inputs, hint: Tensor) -> Residuals:
        return placed(self.control(inputs, self.control.features(hint)))

    def published(self) -> dict[str, Tensor]:
        """Under LDM names."""
        return {f"control_model.{name}": value for name, value in self.control.state_dict().items()}


class LowRankForm(nn.Module):
    """The UNet's matrices plus up @ down; what the UNet lacks, biases and norms, whole."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.frozen = [blank_control(unet).requires_grad_(False)]  # in a list: no part of what is trained
        base = unet.state_dict()
        pairs, whole = {}, {}
        for name, value in self.frozen[0].state_dict().items():
            if name not in base or value.ndim < 2:
                whole[name] = value
                continue
            rank, stem = min(RANK, *value.shape[:2]), name.removesuffix(".weight")
            down = torch.randn(rank, *value.shape[1:]) * value[0].numel() ** -0.5
            pairs |= {f"{stem}.down": down}
            pairs |= {f"{stem}.up": torch.zeros(len(value), rank, *(1,) * (value.ndim - 2))}
        self.names = {name.replace(".", "/"): name for name in (*pairs, *whole)}
        self.parts = nn.ParameterDict({name.replace(".", "/"): v for name, v in {**pairs, **whole}.items()})

    def merged(self) -> dict[str, Tensor]:
        """The ControlNet's weights."""
        parts = self.published()
        out = dict(self.frozen[0].state_dict())
        for name, value in parts.items():
            if name.endswith(".up"):
                stem = name.removesuffix(".up")
                change = value.flatten(1) @ parts[f"{stem}.down"].flatten(1)
                out[f"{stem}.weight"] = out[f"{stem}.weight"] + change.view_as(out[f"{stem}.weight"])
            elif name in out:
                out[name] = value
        return out

    def residuals(self, inputs: Inputs, hint: Tensor) -> Residuals:
        return placed(functional_call(_Whole(self.frozen[0]), _under(self.merged()), (inputs, hint)))

    def published(self) -> dict[str, Tensor]:
        """In Stability's layout."""
        return {name: self.parts[key] for key, name in self.names.items()} | {
            "lora_controlnet": torch.zeros(0)
        }


class _Whole(nn.Module):
    """Features and outputs in one call, as functional_call wants them."""

    def __init__(self, control: ControlNet) -> None:
        super().__init__()
        self.control = control

    def forward(self, inputs: Inputs, hint: Tensor) -> list[Tensor]:
        return self.control(inputs, self.control.features(hint))


def _under(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"control.{name}": value for name, value in state.items()}


class AdapterForm(nn.Module):
    """A T2I-Adapter, two ResNets a level."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        config = T2IConfig(3, 8, tuple(unet.config.widths), 2)
        self.adapter = T2IAdapter(config)
        self.places = placement(config, unet.config)
        for level in list(self.adapter.body)[1::2]:
            level.block2.weight.data *= WEAK

    def residuals(self, inputs: Inputs, hint: Tensor) -> Residuals:
        return dict(zip(self.places, self.adapter(hint), strict=True))

    def published(self) -> dict[str, Tensor]:
        """Under TencentARC's names."""
        return self.adapter.state_dict()


FORMS: dict[str, type] = {"controlnet": WholeForm, "control-lora": LowRankForm, "t2i-adapter": AdapterForm}
