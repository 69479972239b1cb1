"""Patches reach the place they name in the UNet, add up, and leave nothing behind."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.core.patch import AttentionPatch, Hooks, ResidualPatch, StepInfo
from sigmagraft.standalone.unet import UNet, UNetConfig

CONFIG = UNetConfig(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=(1, 1), transformer_depth=(1, 1), context_dim=16
)
# (block, channels, side) of an 8x8 latent in CONFIG
PLACES = [
    (("input", 0), 32, 8),
    (("input", 1), 32, 8),
    (("input", 2), 32, 4),
    (("input", 3), 64, 4),
    (("middle", 0), 64, 4),
    (("output", 0), 64, 4),
    (("output", 1), 32, 4),
    (("output", 3), 32, 8),
]


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(CONFIG).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.tensor([500.0, 20.0]), torch.randn(2, 7, 16)


def hooks(*patches: ResidualPatch | AttentionPatch) -> Hooks:
    return Hooks(patches, StepInfo(sigma=1.0))


@pytest.mark.parametrize(("block", "channels", "side"), PLACES)
def test_a_residual_acts_at_its_block(
    unet: UNet, inputs: tuple, block: tuple, channels: int, side: int
) -> None:
    plain = unet(*inputs)
    extra = torch.randn(2, channels, side, side)
    once = unet(*inputs, hooks=hooks(ResidualPatch(lambda info: {block: extra})))
    assert not torch.allclose(once, plain)
    halves = [ResidualPatch(lambda info: {block: extra / 2})] * 2
    torch.testing.assert_close(unet(*inputs, hooks=hooks(*halves)), once)
    torch.testing.assert_close(unet(*inputs), plain, rtol=0, atol=0)


def test_an_output_residual_acts_on_the_skip_alone(unet: UNet, inputs: tuple) -> None:
    """A residual on the first skip equals shifting what conv_in gives, as far as the last output block sees it."""
    seen: list[torch.Tensor] = []
    handle = unet.output_blocks[-1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    extra = torch.randn(2, 32, 8, 8)
    unet(*inputs)
    unet(*inputs, hooks=hooks(ResidualPatch(lambda info: {("output", 3): extra})))
    handle.remove()
    difference = seen[1] - seen[0]
    torch.testing.assert_close(difference[:, -32:], extra)
    assert difference[:, :-32].abs().max() == 0


@pytest.mark.parametrize("attention", ["attn1", "attn2"])
@pytest.mark.parametrize("block", [("input", 1), ("middle", 0), ("output", 3)])
def test_an_attention_patch_adds_before_the_output_projection(
    unet: UNet, inputs: tuple, block: tuple, attention: str
) -> None:
    stage = {"input": unet.input_blocks, "output": unet.output_blocks}.get(block[0])
    module = (stage[block[1]] if stage is not None else unet.middle_block)[1].transformer_blocks[0]
    layer = getattr(module, attention)
    seen: list[torch.Tensor] = []
    handle = layer.to_out[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))

    def extra(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, info: StepInfo) -> torch.Tensor:
        assert info.sigma == 1.0
        assert k.shape == v.shape
        assert k.shape[1] == (q.shape[1] if attention == "attn1" else 7)
        return q * 0.25

    unet(*inputs)
    unet(*inputs, hooks=hooks(AttentionPatch(block, 0, attention, extra)))  # type: ignore[arg-type]
    handle.remove()
    assert not torch.allclose(seen[0], seen[1])
