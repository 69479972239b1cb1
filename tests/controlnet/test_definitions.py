"""What no other library here has, against its definition written down independently with module hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sigmagraft.controlnet.model import ControlModel, acting
from sigmagraft.controlnet.reference import adain_order, attention_order
from sigmagraft.controlnet.settings import Control
from sigmagraft.core.errors import FileError, MissingPartError, OptionError
from sigmagraft.core.patch import Inputs, StepInfo
from sigmagraft.standalone.unet import UNet, UNetConfig

from .peers import evaluate, filled, host_of, saved
from .test_residuals import info_of, picture, pixels

SDXL = UNetConfig(
    model_channels=64,
    channel_mult=(1, 2, 3),
    num_res_blocks=(2, 2, 2),
    transformer_depth=(0, 1, 2),
    transformer_depth_middle=2,
    context_dim=48,
    adm_in_channels=80,
    use_linear=True,
    num_heads=None,
    head_dim=64,
)


def random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.fixture(scope="module")
def unet() -> UNet:
    return filled(UNet(SDXL), 1)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(
        random(2, 4, 16, 16, seed=3), torch.full((2,), 601.0), random(2, 5, 48, seed=4), random(2, 80, seed=5)
    )


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def control_lora(unet: UNet, rank: int = 8) -> dict[str, Tensor]:
    """A file in Stability's layout: matrices as pairs, vectors whole, the ControlNet's own layers whole."""
    state: dict[str, Tensor] = {"lora_controlnet": torch.zeros(0)}
    for seed, (name, weight) in enumerate(unet.state_dict().items()):
        if not name.startswith(("input_blocks", "middle_block", "time_embed", "label_emb")):
            continue
        if weight.ndim < 2:
            state[name] = weight + random(*weight.shape, seed=seed, scale=0.05)
            continue
        stem, out, width = name.removesuffix(".weight"), weight.shape[0], weight.shape[1]
        r = min(rank, out, width)
        state[f"{stem}.up"] = random(out, r, *(1,) * (weight.ndim - 2), seed=seed, scale=0.05)
        state[f"{stem}.down"] = random(r, *weight.shape[1:], seed=seed + 1, scale=0.05)
    widths = [3, 16, 16, 32, 32, 96, 96, 256, 64]
    for i in range(8):
        state[f"input_hint_block.{2 * i}.weight"] = random(widths[i + 1], widths[i], 3, 3, seed=i, scale=0.1)
        state[f"input_hint_block.{2 * i}.bias"] = random(widths[i + 1], seed=i)
    skips = [64, 64, 64, 64, 128, 128, 128, 192, 192]
    for n, width in enumerate(skips):
        state |= {f"zero_convs.{n}.0.weight": random(width, width, 1, 1, seed=n, scale=0.1)}
        state |= {f"zero_convs.{n}.0.bias": random(width, seed=n)}
    state |= {"middle_block_out.0.weight": random(192, 192, 1, 1, seed=50, scale=0.1)}
    return state | {"middle_block_out.0.bias": random(192, seed=51)}


def test_control_lora(unet: UNet, inputs: Inputs, tmp_path: Path) -> None:
    """The UNet's own encoder with W + up @ down in it, each output through its zero convolution."""
    state = control_lora(unet)
    model = ControlModel.load(saved(state, tmp_path / "lora.safetensors"))
    assert model.file.kind == "control-lora"
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    found = model.acting(Control(model=model, image=picture()), host_of(unet)).residuals(info_of(inputs))

    changed = dict(before)
    for name in before:
        stem = name.removesuffix(".weight")
        if name in state:
            changed[name] = state[name]
        elif f"{stem}.up" in state:
            up, down = state[f"{stem}.up"], state[f"{stem}.down"]
            difference = torch.einsum("or,r...->o...", up.reshape(up.shape[0], -1), down)
            changed[name] = before[name] + difference.reshape(before[name].shape)
    copy = UNet(SDXL)
    copy.load_state_dict(changed)
    hint = pixels(picture())
    for i, stride in enumerate((1, 1, 2, 1, 2, 1, 2, 1)):
        name = f"input_hint_block.{2 * i}"
        hint = F.conv2d(hint, state[f"{name}.weight"], state[f"{name}.bias"], stride, 1)
        hint = F.silu(hint) if i < 7 else hint
    copy.input_blocks[0].register_forward_hook(lambda module, given, out: out + hint)
    outputs: dict[Any, Tensor] = {}
    for n, block in enumerate([*copy.input_blocks, copy.middle_block]):
        block.register_forward_hook(lambda module, given, out, n=n: outputs.__setitem__(n, out))
    copy(inputs.x, inputs.timesteps, inputs.context, inputs.vector)
    for n in range(10):
        name = f"zero_convs.{n}.0" if n < 9 else "middle_block_out.0"
        place = ("output", 8 - n) if n < 9 else ("middle", 0)
        close(found[place], F.conv2d(outputs[n], state[f"{name}.weight"], state[f"{name}.bias"]))
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_a_control_lora_takes_the_weights_as_they_are_now(unet: UNet, inputs: Inputs, tmp_path: Path) -> None:
    model = ControlModel.load(saved(control_lora(unet), tmp_path / "lora.safetensors"))
    asked = Control(model=model, image=picture())
    once = model.acting(asked, host_of(unet)).residuals(info_of(inputs))
    grown = {name: value * 1.01 for name, value in unet.state_dict().items()}
    other = model.acting(asked, host_of(unet, weights=lambda: grown)).residuals(info_of(inputs))
    assert (once[("middle", 0)] - other[("middle", 0)]).abs().max() > 1e-3


def test_differences_are_added_to_the_unet(unet: UNet, inputs: Inputs, tmp_path: Path) -> None:
    whole = {
        name: value
        for name, value in ControlModel.load(saved(control_lora(unet), tmp_path / "lora.safetensors"))
        .network(host_of(unet))
        .state_dict()
        .items()
    }
    base = unet.state_dict()
    less = {name: value - base[name] if name in base else value for name, value in whole.items()}
    plain = ControlModel.load(
        saved({f"control_model.{n}": v for n, v in whole.items()}, tmp_path / "a.safetensors")
    )
    changed = saved(
        {**{f"control_model.{n}": v for n, v in less.items()}, "difference": torch.zeros(0)},
        tmp_path / "b.safetensors",
    )
    asked = [Control(model=m, image=picture()) for m in (plain, ControlModel.load(changed))]
    first, second = (c.model.acting(c, host_of(unet)).residuals(info_of(inputs)) for c in asked)
    for place, value in first.items():
        close(second[place], value)


LLLITE = ("input_blocks_4_1", "input_blocks_7_1", "middle_block_1")


def lllite(seed: int = 0) -> dict[str, Tensor]:
    """A file of kohya's layout: q, k and v of the self-attention, q of the other."""
    state = {}
    for number, block in enumerate(LLLITE):
        width, depth = (128, 2) if number == 0 else (192, 3)
        for which in ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q"):
            name = f"lllite_unet_{block}_transformer_blocks_0_{which}"
            seed += 1
            kernels = (4, 4) if depth == 2 else (4, 4, 2)
            layers = zip((3, 8, 16), (8, 16, 16), kernels, strict=False)
            for i, (a, b, k) in enumerate(layers):
                state[f"{name}.conditioning1.{2 * i}.weight"] = random(b, a, k, k, seed=seed + i, scale=0.3)
                state[f"{name}.conditioning1.{2 * i}.bias"] = random(b, seed=seed + i)
            for part, out, into in (("down", 8, width), ("mid", 8, 24), ("up", width, 8)):
                state[f"{name}.{part}.0.weight"] = random(out, into, seed=seed, scale=0.3)
                state[f"{name}.{part}.0.bias"] = random(out, seed=seed)
    return state


def layer(unet: UNet, name: str) -> torch.nn.Module:
    words = (
        name.removeprefix("lllite_unet_")
        .replace("_blocks_", "_blocks.")
        .replace("middle_block_", "middle_block.")
    )
    path = words.replace("_1_transformer", ".1.transformer").replace("1_transformer", "1.transformer")
    path = path.replace("blocks.0_attn", "blocks.0.attn").replace("_to_", ".to_")
    return unet.get_submodule(path)


def test_lllite(unet: UNet, inputs: Inputs, tmp_path: Path) -> None:
    """Every projection gets x + strength * up(relu(mid(cat[c, relu(down(x))]))) in place of x."""
    state = lllite()
    model = ControlModel.load(saved(state, tmp_path / "lllite.safetensors"))
    strength = 0.7
    asked = Control(model=model, image=picture(), strength=strength)
    found = evaluate(unet, info_of(inputs), model.acting(asked, host_of(unet)).patches())
    hint, handles = pixels(picture()) * 2 - 1, []
    for name in dict.fromkeys(key.split(".")[0] for key in state):
        part = {
            key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")
        }
        c, i = hint, 0
        while f"conditioning1.{i}.weight" in part:
            c = F.relu(c) if i else c
            kernel = part[f"conditioning1.{i}.weight"]
            c = F.conv2d(c, kernel, part[f"conditioning1.{i}.bias"], stride=kernel.shape[-1])
            i += 2
        c = c.flatten(2).permute(0, 2, 1).repeat(2, 1, 1)

        def shifted(module: Any, given: Any, part: Any = part, c: Tensor = c) -> Any:
            x = given[0]
            d = F.relu(F.linear(x, part["down.0.weight"], part["down.0.bias"]))
            m = F.relu(F.linear(torch.cat([c, d], 2), part["mid.0.weight"], part["mid.0.bias"]))
            return (x + strength * F.linear(m, part["up.0.weight"], part["up.0.bias"]),)

        handles.append(layer(unet, name).register_forward_pre_hook(shifted))
    expected = evaluate(unet, info_of(inputs))
    for handle in handles:
        handle.remove()
    close(found, expected)
    assert (expected - evaluate(unet, info_of(inputs))).abs().max() > 1e-2


def test_lllite_under_a_mask_and_for_the_prompt_alone(unet: UNet, inputs: Inputs, tmp_path: Path) -> None:
    model = ControlModel.load(saved(lllite(), tmp_path / "lllite.safetensors"))

    def drawn(**settings: Any) -> Tensor:
        asked = Control(model=model, image=picture(), **settings)
        return evaluate(unet, info_of(inputs), model.acting(asked, host_of(unet)).patches())

    plain, full, half = evaluate(unet, info_of(inputs)), drawn(), Image.new("L", (128, 128))
    half.paste(255, (0, 0, 64, 128))
    assert torch.equal(drawn(mask=Image.new("L", (128, 128), 255)), full)
    assert not torch.allclose(drawn(mask=half), full, atol=1e-3)
    assert not torch.allclose(drawn(mask=half), plain, atol=1e-3)
    only = drawn(mode="control")
    close(only[:1], full[:1])
    close(only[1:], plain[1:])


def test_lllite_of_another_family_is_refused(unet: UNet, tmp_path: Path) -> None:
    small = filled(
        UNet(
            UNetConfig(
                model_channels=32,
                channel_mult=(1, 2),
                num_res_blocks=(1, 1),
                transformer_depth=(1, 1),
                context_dim=48,
            )
        )
    )
    model = ControlModel.load(saved(lllite(), tmp_path / "lllite.safetensors"))
    with pytest.raises(FileError, match="another family"):
        model.acting(Control(model=model, image=picture()), host_of(small))


def style_state() -> dict[str, Tensor]:
    state = {"style_embedding": random(1, 3, 64, seed=1), "proj": random(64, 48, seed=2, scale=0.1)}
    for name in ("ln_pre", "ln_post", "transformer_layes.0.ln_1", "transformer_layes.0.ln_2"):
        state |= {
            f"{name}.weight": 1 + random(64, seed=3, scale=0.1),
            f"{name}.bias": random(64, seed=4, scale=0.1),
        }
    here = "transformer_layes.0."
    for name, out, into in (
        ("attn.in_proj", 192, 64),
        ("attn.out_proj", 64, 64),
        ("mlp.c_fc", 256, 64),
        ("mlp.c_proj", 64, 256),
    ):
        joint = "_" if name == "attn.in_proj" else "."
        state |= {f"{here}{name}{joint}weight": random(out, into, seed=out, scale=0.1)}
        state |= {f"{here}{name}{joint}bias": random(out, seed=into, scale=0.1)}
    return state


def test_style_adapter(unet: UNet, inputs: Inputs, tmp_path: Path) -> None:
    """Its tokens follow the prompt's words; the negative prompt is as it was."""
    state = style_state()
    model = ControlModel.load(saved(state, tmp_path / "style.safetensors"))
    hidden = random(1, 10, 64, seed=8)
    asked = Control(model=model, image=picture(), strength=0.8)
    host = host_of(unet, vision=lambda image: hidden)
    found = evaluate(unet, info_of(inputs), model.acting(asked, host).patches())

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (64,), state[f"{name}.weight"], state[f"{name}.bias"])

    here = "transformer_layes.0."
    x = norm(torch.cat([hidden, state["style_embedding"]], 1), "ln_pre")
    qkv = F.linear(
        norm(x, f"{here}ln_1"), state[f"{here}attn.in_proj_weight"], state[f"{here}attn.in_proj_bias"]
    )
    q, k, v = (t.reshape(13, 8, 8).transpose(0, 1) for t in qkv[0].chunk(3, -1))
    mixed = ((q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v).transpose(0, 1).reshape(1, 13, 64)
    x = x + F.linear(mixed, state[f"{here}attn.out_proj.weight"], state[f"{here}attn.out_proj.bias"])
    m = F.linear(norm(x, f"{here}ln_2"), state[f"{here}mlp.c_fc.weight"], state[f"{here}mlp.c_fc.bias"])
    x = x + F.linear(
        m * torch.sigmoid(1.702 * m), state[f"{here}mlp.c_proj.weight"], state[f"{here}mlp.c_proj.bias"]
    )
    tokens = norm(x[:, -3:], "ln_post") @ state["proj"] * 0.8
    rows = [
        Inputs(inputs.x[i : i + 1], inputs.timesteps[:1], inputs.context[i : i + 1], inputs.vector[i : i + 1])
        for i in (0, 1)
    ]
    longer = torch.cat([rows[0].context, tokens], 1)
    close(found[:1], unet(rows[0].x, rows[0].timesteps, longer, rows[0].vector))
    close(found[1:], unet(rows[1].x, rows[1].timesteps, rows[1].context, rows[1].vector))


def test_a_style_adapter_names_the_encoder_it_lacks(unet: UNet, tmp_path: Path) -> None:
    model = ControlModel.load(saved(style_state(), tmp_path / "style.safetensors"))
    with pytest.raises(MissingPartError, match="clip-vit-large-patch14"):
        model.acting(Control(model=model, image=picture()), host_of(unet))


def attention_layers(unet: UNet, places: list) -> list[torch.nn.Module]:
    sides = {"input": unet.input_blocks, "output": unet.output_blocks}
    blocks = {("middle", 0): unet.middle_block[1]}
    blocks |= {
        (side, n): stage[1]
        for side, stages in sides.items()
        for n, stage in enumerate(stages)
        if len(stage) > 1
    }
    return [blocks[block].transformer_blocks[index].attn1 for block, index in places]


@pytest.mark.parametrize("fidelity", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_reference_attention(unet: UNet, inputs: Inputs, fidelity: float, strength: float) -> None:
    """Self-attention of the drawing over its own and the reference's tokens; the negative half partly its own."""
    asked = Control(model="reference", image=picture(), fidelity=fidelity, strength=strength)
    host = host_of(unet)
    found = evaluate(unet, info_of(inputs), acting(asked, host).patches())
    layers = attention_layers(unet, attention_order(unet.config, strength))
    assert 0 < len(layers) <= len(attention_layers(unet, attention_order(unet.config, 1.0)))
    bank: dict[Any, Tensor] = {}
    keep = [one.register_forward_pre_hook(lambda m, given: bank.__setitem__(m, given[0])) for one in layers]
    seen = host.encode(pixels(picture()) * 2 - 1).repeat(2, 1, 1, 1)
    unet(seen, inputs.timesteps, inputs.context, inputs.vector)
    for handle in keep:
        handle.remove()

    def widened(module: Any, given: Any, out: Tensor) -> Tensor:
        x = given[0]
        heads = x.shape[-1] // 64

        def split(t: Tensor) -> Tensor:
            return t.reshape(2, -1, heads, 64).permute(0, 2, 1, 3)

        both = torch.cat([x, bank[module]], 1)
        scores = split(module.to_q(x)) @ split(module.to_k(both)).transpose(2, 3) / 8
        mixed = (scores.softmax(-1) @ split(module.to_v(both))).permute(0, 2, 1, 3).reshape(x.shape)
        wide = module.to_out[0](mixed)
        return torch.cat([wide[:1], fidelity * out[1:] + (1 - fidelity) * wide[1:]])

    handles = [one.register_forward_hook(widened) for one in layers]
    expected = unet(inputs.x, inputs.timesteps, inputs.context, inputs.vector)
    for handle in handles:
        handle.remove()
    close(found, expected)


@pytest.mark.parametrize(("strength", "fidelity"), [(1.0, 0.0), (2.0, 0.3)])
def test_reference_adain(unet: UNet, inputs: Inputs, strength: float, fidelity: float) -> None:
    """Every block's channels get the mean and deviation the reference has there."""
    asked = Control(model="reference_adain", image=picture(), fidelity=fidelity, strength=strength)
    host = host_of(unet)
    found = evaluate(unet, info_of(inputs), acting(asked, host).patches())
    sides = {"input": unet.input_blocks, "output": unet.output_blocks, "middle": [unet.middle_block]}
    blocks = [sides[side][n] for side, n in adain_order(unet.config, strength)]
    bank: dict[Any, Tensor] = {}
    keep = [one.register_forward_hook(lambda m, given, out: bank.__setitem__(m, out)) for one in blocks]
    seen = host.encode(pixels(picture()) * 2 - 1).repeat(2, 1, 1, 1)
    unet(seen, inputs.timesteps, inputs.context, inputs.vector)
    for handle in keep:
        handle.remove()

    def styled(module: Any, given: Any, out: Tensor) -> Tensor:
        there = bank[module]
        flat, goal = out.flatten(2), there.flatten(2)
        unit = (flat - flat.mean(2, keepdim=True)) / (flat.var(2, unbiased=False, keepdim=True)).sqrt()
        new = (unit * goal.var(2, unbiased=False, keepdim=True).sqrt() + goal.mean(2, keepdim=True)).view_as(
            out
        )
        return torch.cat([new[:1], fidelity * out[1:] + (1 - fidelity) * new[1:]])

    handles = [one.register_forward_hook(styled) for one in blocks]
    expected = unet(inputs.x, inputs.timesteps, inputs.context, inputs.vector)
    for handle in handles:
        handle.remove()
    close(found, expected)


def test_reference_order_of_sd1() -> None:
    """The layers that sd-webui-controlnet names for SD1."""
    config = UNetConfig()
    blocks = adain_order(config, 2.1)
    assert {n for side, n in blocks if side == "input"} == {4, 5, 7, 8, 10, 11}
    assert {n for side, n in blocks if side == "output"} == set(range(9))
    assert len(attention_order(config, 1.0)) == 16
    assert attention_order(config, 0.05) == [(("input", 7), 0)]


@pytest.mark.parametrize(
    "setting", [{"mode": "control"}, {"weights": [1.0]}, {"mask": picture(1)}, {"frames": [0]}]
)
def test_what_means_nothing_to_a_reference_is_refused(unet: UNet, setting: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="means nothing"):
        acting(Control(model="reference", image=picture(), **setting), host_of(unet))


def test_a_reference_costs_nothing_where_it_does_not_act(unet: UNet, inputs: Inputs) -> None:
    asked = Control(model="reference", image=picture(), start=0.5)
    calls: list[int] = []
    host = host_of(unet, evaluate=lambda info, patches: calls.append(1))
    found = evaluate(
        unet, StepInfo(10.0, branches=("cond", "uncond"), inputs=inputs), acting(asked, host).patches()
    )
    assert not calls
    assert torch.equal(found, evaluate(unet, info_of(inputs)))
