"""Single files: containers, dtypes, exchanged parts, averaged weights, and what is missing, foreign or damaged."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sigmagraft.core.errors import FileError, MissingPartError, OptionError, SigmaGraftError
from sigmagraft.standalone.load import load_model

from .families import openclip
from .files import UNET, diffusers_parts, parts, same_weights, tensors, write_file

FP8 = [torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_opens_no_socket(tmp_path: Path, no_network: None, dtype: torch.dtype) -> None:
    same_weights(load_model(write_file(tmp_path / "a.safetensors"), dtype=dtype), dtype)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "model.safetensors"])
def test_pickles_under_any_name(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save({"state_dict": tensors()}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    model = load_model(tmp_path / name)
    same_weights(model)
    assert any("is a torch pickle" in reason for reason in model.info.reasons) == name.endswith("safetensors")


@pytest.mark.parametrize("stored", [torch.float64, torch.float16, torch.bfloat16, *FP8])
@pytest.mark.parametrize("run", [torch.float32, torch.float16])
def test_stored_dtypes(tmp_path: Path, stored: torch.dtype, run: torch.dtype) -> None:
    low = {name: value.to(stored) for name, value in tensors().items()}
    save_file(low, tmp_path / "a.safetensors")
    model = load_model(tmp_path / "a.safetensors", dtype=run)
    for name, value in model.unet.state_dict().items():
        assert value.dtype == run
        assert torch.equal(value, low[f"model.diffusion_model.{name}"].to(run))


def test_scaled_fp8(tmp_path: Path) -> None:
    """W = fp8 * scale for each layer that has one; activation scales and the mark are not weights."""
    name = "model.diffusion_model.time_embed.0"
    exact = tensors()[f"{name}.weight"]
    scale = exact.abs().max() / 448
    change = {
        f"{name}.weight": (exact / scale).to(torch.float8_e4m3fn),
        f"{name}.scale_weight": scale,
        f"{name}.scale_input": torch.tensor(1.0),
        "model.diffusion_model.scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn),
    }
    model = load_model(write_file(tmp_path / "a.safetensors", change), dtype=torch.float32)
    got = model.unet.time_embed[0].weight
    assert torch.equal(got, change[f"{name}.weight"].float() * scale)
    assert float((got - exact).abs().max() / exact.abs().max()) < 0.07
    assert not any("unknown" in reason for reason in model.info.reasons)


def test_same_dtype_is_mapped_and_another_is_not(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors")
    same = load_model(path)
    storages = {p.untyped_storage().data_ptr() for p in same.unet.parameters()}
    assert len(storages) == 1
    assert load_model(path, dtype=torch.float16).unet.out[2].weight.dtype == torch.float16


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_model(
        write_file(tmp_path / "a.safetensors"), progress=lambda done, total: seen.append((done, total))
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] == sum(v.nbytes for v in tensors().values())


def test_averaged_weights(tmp_path: Path) -> None:
    """`model_ema.` holds the average under names without dots; the plain weights are used unless asked otherwise."""
    unet = parts()[0]
    average = {"model_ema.diffusion_model" + n.replace(".", ""): v + 1 for n, v in unet.items()}
    average |= {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(7)}
    both = write_file(tmp_path / "both.safetensors", average)
    name = "out.2.weight"
    for variant, added in ((None, 0), ("non_ema", 0), ("ema", 1)):
        got = load_model(both, variant=variant)
        assert torch.equal(got.unet.state_dict()[name], unet[name] + added)
    assert any("plain (non-EMA)" in reason for reason in load_model(both).info.reasons)
    alone = write_file(tmp_path / "ema.safetensors", average, unet=False)
    assert torch.equal(load_model(alone).unet.state_dict()[name], unet[name] + 1)
    with pytest.raises(OptionError, match="only averaged"):
        load_model(alone, variant="non_ema")
    with pytest.raises(OptionError, match="no averaged"):
        load_model(write_file(tmp_path / "plain.safetensors"), variant="ema")
    with pytest.raises(OptionError, match="'fp16' chooses among a folder's files"):
        load_model(both, variant="fp16")


def vae_layouts() -> dict[str, dict[str, torch.Tensor]]:
    ldm, new = parts()[1], diffusers_parts()["vae"]
    spelling = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def old(name: str) -> str:
        for a, b in spelling.items():
            name = name.replace(f".{a}.", f".{b}.")
        return name

    return {
        "checkpoint": tensors(unet=False, text=False),
        "ldm": ldm | {"loss.logvar": torch.zeros(1), "loss.discriminator.main.0.weight": torch.zeros(3)},
        "diffusers": new,
        "diffusers, old names": {old(name): value for name, value in new.items()},
        "whole model": tensors(),
    }


@pytest.mark.parametrize("layout", vae_layouts())
def test_vae_option_takes_any_layout(tmp_path: Path, layout: str) -> None:
    bare = write_file(tmp_path / "model.safetensors", vae=False)
    save_file({n: v.contiguous() for n, v in vae_layouts()[layout].items()}, tmp_path / "vae.safetensors")
    model = load_model(bare, vae=tmp_path / "vae.safetensors")
    same_weights(model)
    assert any(reason.startswith("VAE from") for reason in model.info.reasons)


def text_layouts() -> dict[str, dict[str, torch.Tensor]]:
    text = parts()[2]
    return {
        "checkpoint": tensors(unet=False, vae=False),
        "transformers": text | {"text_model.embeddings.position_ids": torch.arange(77)[None]},
        "transformers 5": {name.removeprefix("text_model."): value for name, value in text.items()},
        "whole CLIP": text | {"vision_model.x.weight": torch.ones(2), "logit_scale": torch.tensor(4.6)},
        "openclip": openclip(text),
    }


@pytest.mark.parametrize("layout", text_layouts())
def test_text_encoder_option_takes_any_layout(tmp_path: Path, layout: str) -> None:
    bare = write_file(tmp_path / "model.safetensors", text=False)
    save_file({n: v.contiguous() for n, v in text_layouts()[layout].items()}, tmp_path / "text.safetensors")
    same_weights(load_model(bare, text_encoder=tmp_path / "text.safetensors"))


def test_a_bare_unet_becomes_a_model_with_both_options(tmp_path: Path) -> None:
    whole = write_file(tmp_path / "whole.safetensors")
    for name, unet in (("ldm", parts()[0]), ("diffusers", diffusers_parts()["unet"])):
        save_file({n: v.contiguous() for n, v in unet.items()}, tmp_path / f"{name}.safetensors")
        same_weights(load_model(tmp_path / f"{name}.safetensors", vae=whole, text_encoder=whole))


def test_a_replaced_part_is_the_one_that_is_used(tmp_path: Path) -> None:
    whole = write_file(tmp_path / "whole.safetensors")
    other = {name: value + 1 for name, value in parts()[1].items()}
    save_file(other, tmp_path / "vae.safetensors")
    got = load_model(whole, vae=tmp_path / "vae.safetensors").vae.state_dict()
    assert all(torch.equal(got[name], value) for name, value in other.items())


BROKEN: dict[str, tuple[dict[str, Any], type[SigmaGraftError], str]] = {
    "no VAE": ({"vae": False}, MissingPartError, "no VAE.*--vae"),
    "no text encoder": ({"text": False}, MissingPartError, "no text encoder.*--text-encoder"),
    "no UNet": ({"unet": False}, MissingPartError, "no UNet"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_missing_parts_name_the_option_that_supplies_them(tmp_path: Path, case: str) -> None:
    kept, kind, words = BROKEN[case]
    path = write_file(tmp_path / "model.safetensors", **kept)
    with pytest.raises(kind, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sdxl_without_its_second_text_encoder(tmp_path: Path) -> None:
    """Vector conditioning and three resolutions make SDXL, which has two."""
    unet = {n: torch.zeros(s) for n, s in _sdxl_shapes().items()}
    path = tmp_path / "xl.safetensors"
    save_file({f"model.diffusion_model.{n}": v for n, v in unet.items()} | tensors(unet=False), path)
    with pytest.raises(MissingPartError, match="only 1 of 2 text encoders"):
        load_model(path)


def _sdxl_shapes() -> dict[str, tuple[int, ...]]:
    from sigmagraft.core.fill import skeleton
    from sigmagraft.standalone.unet import UNet, UNetConfig

    config = UNetConfig(
        model_channels=32,
        channel_mult=(1, 1, 2),
        num_res_blocks=(1, 1, 1),
        transformer_depth=(0, 1, 1),
        context_dim=64,
        adm_in_channels=64,
        use_linear=True,
    )
    with skeleton():
        return {name: tuple(value.shape) for name, value in UNet(config).state_dict().items()}


STRANGERS: dict[str, dict[str, torch.Tensor]] = {
    "a LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": torch.ones(4, 32)},
    "a ControlNet": {"control_model.zero_convs.0.0.weight": torch.ones(4, 4, 1, 1)},
    "a textual inversion": {"emb_params": torch.ones(2, 768)},
    "a Flux model": {"double_blocks.0.img_attn.norm.key_norm.scale": torch.ones(4)},
    "a Stable Diffusion 3 model": {"model.diffusion_model.joint_blocks.0.x": torch.ones(4)},
    "a picture upscaler": {"conv_first.weight": torch.ones(4, 3, 3, 3)},
    "unknown tensors, such as 'nothing'": {"nothing": torch.ones(3)},
}


@pytest.mark.parametrize("what", STRANGERS)
def test_other_kinds_of_file_are_named(tmp_path: Path, what: str) -> None:
    save_file(STRANGERS[what], tmp_path / "a.safetensors")
    with pytest.raises(FileError, match=f"this is {what}|{what}") as caught:
        load_model(tmp_path / "a.safetensors")
    assert "expected a Stable Diffusion 1.x, 2.x or XL model" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["time_embed.0.bias", "input_blocks.1.0.in_layers.2.weight"])
def test_weights_that_are_not_finite_are_named(
    tmp_path: Path, name: str, value: float, dtype: torch.dtype
) -> None:
    bad = parts()[0][name].clone()
    bad.view(-1)[:40] = value
    path = write_file(tmp_path / "a.safetensors", {f"model.diffusion_model.{name}": bad})
    with pytest.raises(FileError, match="holds NaN or infinite values") as caught:
        load_model(path, dtype=dtype)
    assert name in str(caught.value)
    assert str(path) in str(caught.value)


def test_conversion_finds_one_bad_value_among_millions(tmp_path: Path) -> None:
    bad = torch.zeros(32, 32, 3, 3)
    bad[17, 3, 1, 2] = float("nan")
    name = "input_blocks.1.0.in_layers.2.weight"
    path = write_file(tmp_path / "a.safetensors", {f"model.diffusion_model.{name}": bad})
    with pytest.raises(FileError, match=name):
        load_model(path, dtype=torch.float16)


def test_values_too_large_for_the_dtype_are_named(tmp_path: Path) -> None:
    path = write_file(
        tmp_path / "a.safetensors", {"model.diffusion_model.time_embed.0.bias": torch.full((128,), 1e6)}
    )
    load_model(path, dtype=torch.float32)
    with pytest.raises(FileError, match="too large for float16"):
        load_model(path, dtype=torch.float16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.diffusion_model.out.2.bias": torch.zeros(5)}, r"'out.2.bias' is \(5,\).*expected \(4,\)"),
        ({"model.diffusion_model.extra.weight": torch.zeros(5)}, "'extra.weight' nobody knows"),
        ({"model.diffusion_model.out.2.bias": torch.zeros(4, dtype=torch.int8)}, "holds int8"),
    ],
)
def test_wrong_tensors_are_named(tmp_path: Path, change: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(FileError, match=words):
        load_model(write_file(tmp_path / "a.safetensors", change))


def test_lost_tensors_are_named(tmp_path: Path) -> None:
    left = {n: v for n, v in tensors().items() if "middle_block.0.out_layers" not in n}
    save_file(left, tmp_path / "a.safetensors")
    with pytest.raises(FileError, match=r"the UNet lacks 4 tensors, such as 'middle_block.0.out_layers"):
        load_model(tmp_path / "a.safetensors")


def test_parts_that_do_not_fit_together(tmp_path: Path) -> None:
    whole = write_file(tmp_path / "a.safetensors")
    wide = {n: torch.zeros([w * 2 if w == 64 else w for w in v.shape]) for n, v in parts()[2].items()}
    save_file(wide, tmp_path / "text.safetensors")
    with pytest.raises(FileError, match=r"2 text encoders \(64, 128 wide\)"):
        load_model(whole, text_encoder=tmp_path / "text.safetensors")
    bare = write_file(tmp_path / "bare.safetensors", text=False)
    with pytest.raises(FileError, match="128 wide and the UNet reads 64"):
        load_model(bare, text_encoder=tmp_path / "text.safetensors")
    from sigmagraft.standalone.vae import VAE, VAEConfig

    vae = VAE(VAEConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1, z_channels=16, embed_dim=None))
    save_file(vae.state_dict(), tmp_path / "vae.safetensors")
    with pytest.raises(FileError, match="16 latent channels and the UNet 4"):
        load_model(whole, vae=tmp_path / "vae.safetensors")
    with pytest.raises(FileError, match="--vae: no VAE in it"):
        load_model(whole, vae=tmp_path / "text.safetensors")


@pytest.mark.parametrize("channels", [16, 32])
def test_wide_latents_are_read_from_shapes(tmp_path: Path, channels: int) -> None:
    from sigmagraft.standalone.unet import UNet, UNetConfig
    from sigmagraft.standalone.vae import VAE, VAEConfig

    unet = UNet(UNetConfig(**{**UNET.__dict__, "in_channels": channels, "out_channels": channels}))
    vae = VAE(VAEConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1, z_channels=channels, embed_dim=None))
    found = {f"model.diffusion_model.{n}": v for n, v in unet.state_dict().items()}
    found |= {f"first_stage_model.{n}": v for n, v in vae.state_dict().items()}
    save_file(found | tensors(unet=False, vae=False), tmp_path / "a.safetensors")
    model = load_model(tmp_path / "a.safetensors")
    assert model.info.latent_channels == channels
    assert model.info.prediction == "eps"
    assert any("suggestion" in reason and "flow" in reason for reason in model.info.reasons)
    assert any("latent scale" in reason for reason in model.info.reasons)


def test_what_a_file_holds_beside_the_networks_is_ignored_or_reported(tmp_path: Path) -> None:
    beside = {
        "alphas_cumprod": torch.ones(10),
        "betas": torch.ones(10),
        "posterior_mean_coef1": torch.ones(10),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "first_stage_model.loss.logvar": torch.zeros(1),
        "model_ema.decoderconv_inweight": torch.zeros(1),
    }
    quiet = load_model(write_file(tmp_path / "a.safetensors", beside))
    assert not any("unknown" in reason for reason in quiet.info.reasons)
    told = load_model(write_file(tmp_path / "b.safetensors", {"mystery.weight": torch.ones(1)}))
    assert any("1 unknown tensors" in r and "mystery.weight" in r for r in told.info.reasons)


def test_training_size_from_metadata(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors", metadata={"modelspec.resolution": "128x128"})
    assert load_model(path).info.native_size == 128
    assert load_model(write_file(tmp_path / "b.safetensors")).info.native_size == 512


def test_a_name_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no such file or folder.*check the spelling"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(FileError, match="no such file or folder"):
        load_model("models/none.safetensors")
