"""Every published IP-Adapter and image encoder is recognised by its tensors; numbers mean diffusers' processors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPVisionConfig

from sigmagraft.controlnet.clip_vision import ImageEncoder, _network, _settings, vision_tensors
from sigmagraft.controlnet.ip_adapter import IPAdapter
from sigmagraft.controlnet.ip_features import Features
from sigmagraft.controlnet.ip_file import about, read_ip_adapter, recognise
from sigmagraft.controlnet.ip_places import check_layers, modules, places
from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.core.fill import skeleton
from sigmagraft.core.keymap import translate, unet_table_for
from sigmagraft.core.parts import parts_of, shapes
from sigmagraft.core.unet_config import UNetConfig

from ..core.manifests import checkpoint, shapes_of
from .ip_small import diffusers_unet, image_encoder, nested, our_unet, picture, random_adapter, saved

FILES = sorted(name for name in shapes_of() if name.startswith("ipadapter"))
# a part of the file's name -> variant, inputs with their channels, encoder
EXPECTED = (
    ("faceid-portrait", "faceid", {"face": 512}, ""),
    ("faceid-plus", "faceid-plus", {"hidden": 1280, "face": 512}, "ViT-H"),
    ("faceid", "faceid", {"face": 512}, ""),
    ("full-face", "full", {"hidden": 1280}, "ViT-H"),
    ("plus", "plus", {"hidden": 1280}, "ViT-H"),
    ("vit-G", "base", {"pooled": 1280}, "bigG"),
    ("sdxl_vit-h", "base", {"pooled": 1024}, "ViT-H"),
    ("sdxl", "base", {"pooled": 1280}, "bigG"),
    ("sd15", "base", {"pooled": 1024}, "ViT-H"),
)


def config_of(family: str) -> UNetConfig:
    return UNetConfig.from_shapes(shapes(parts_of(checkpoint(f"ldm/{family}")).unet))


@pytest.mark.parametrize("file", FILES)
def test_a_published_file_is_known_and_fits_its_family_alone(file: str) -> None:
    found = recognise(checkpoint(file))
    _, variant, channels, encoder = next(row for row in EXPECTED if row[0] in file)
    assert (found.variant.name, found.channels) == (variant, channels)
    assert encoder in found.encoder[0]
    said = " ".join(about(checkpoint(file)))
    assert found.variant.label in said
    assert f"{len(found.layers)} layers" in said
    assert encoder in said
    assert found.version == (2 if "plusv2" in file else 1)
    xl = "sdxl" in file
    layers = {n: pair["k"].shape for n, pair in found.layers.items()}
    check_layers(places(config_of("sdxl_base" if xl else "sd15")), layers, file)
    with pytest.raises(OptionError, match="another model"):
        check_layers(places(config_of("sd15" if xl else "sdxl_base")), layers, file)


@pytest.mark.parametrize("file", FILES)
def test_every_tensor_is_used(file: str) -> None:
    found = recognise(checkpoint(file))
    assert not found.ignored
    with skeleton():
        network = found.variant.network.of({name: e.shape for name, e in found.projection.items()})
    sizes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert sizes == {name: e.shape for name, e in found.projection.items()}
    total = sum(e.numel for e in found.projection.values())
    total += sum(e.numel for pair in (*found.layers.values(), *found.loras.values()) for e in pair.values())
    assert total == sum(e.numel for e in checkpoint(file).values())
    per_attention = {"faceid_": 4, "faceid-plus": 4}
    wanted = next((n for mark, n in per_attention.items() if mark in file), 0) * 2 * len(found.layers)
    assert len(list(found.lora())) == wanted


@pytest.mark.parametrize("xl", [False, True])
def test_numbers_are_the_places_of_diffusers_processors(xl: bool) -> None:
    """Of the real topologies, read off the network itself."""
    more = (
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
        }
        if xl
        else {"cross_attention_dim": 768, "attention_head_dim": 8}
    )
    with torch.device("meta"):
        unet = UNet2DConditionModel(**more)
    table = unet_table_for(unet.state_dict())
    named = [translate(table, name.removesuffix(".processor")) for name in unet.attn_processors]
    found = modules(config_of("sdxl_base" if xl else "sd15"))
    assert [found[n] for n in range(len(named))] == named


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ip")


LAYOUTS = ["ipadapter_sd15", "ipadapter-plus_sd15", "ipadapter-full-face_sd15", "ipadapter-faceid_sd15"]


@pytest.mark.parametrize("layout", ["bin", "training", "diffusers"])
@pytest.mark.parametrize("manifest", LAYOUTS)
def test_a_file_says_the_same_in_every_layout(files: Path, manifest: str, layout: str) -> None:
    config = our_unet(diffusers_unet()).config
    tensors = random_adapter(manifest, config)
    plain = IPAdapter.load(saved(tensors, files / "plain.safetensors"))
    if layout == "bin":
        other = files / "other.bin"
        torch.save(nested(tensors), other)
    elif layout == "training":
        swaps = {"image_proj.": "image_proj_model.", "ip_adapter.": "adapter_modules."}
        named = {swaps[n.split(".")[0] + "."] + n.split(".", 1)[1]: v for n, v in tensors.items()}
        other = saved(named | {"unet.conv_in.weight": torch.zeros(1)}, files / "training.safetensors")
    else:
        unet = diffusers_unet()
        unet._load_ip_adapter_weights([nested(tensors)], low_cpu_mem_usage=False)
        state = {name: value.contiguous() for name, value in unet.state_dict().items()}
        other = saved(state, files / "diffusers.safetensors")
    found = IPAdapter.load(other)
    assert found.file.variant == plain.file.variant
    wanted = plain.projection.state_dict() | plain.layers.state_dict()
    got = found.projection.state_dict() | found.layers.state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_what_is_no_adapter_is_named(files: Path) -> None:
    config = our_unet(diffusers_unet()).config
    tensors = random_adapter("ipadapter_sd15", config)
    half = {name: value for name, value in tensors.items() if name.startswith("image_proj.")}
    with pytest.raises(FileError, match="half of an IP-Adapter"):
        read_ip_adapter(saved(half, files / "half.safetensors"))
    with pytest.raises(FileError, match="a LoRA"):
        read_ip_adapter(saved({"lora_unet_a.lora_up.weight": torch.zeros(1, 1)}, files / "lora.safetensors"))
    with pytest.raises(FileError, match="a whole model"):
        recognise(checkpoint("ldm/sd15"))
    with pytest.raises(FileError, match="to_k_ip alone"):
        read_ip_adapter(
            saved(
                {n: v for n, v in tensors.items() if n != "ip_adapter.1.to_v_ip.weight"},
                files / "a.safetensors",
            )
        )
    with pytest.raises(FileError, match="nobody knows"):
        IPAdapter.load(saved(tensors | {"image_proj.more": torch.zeros(1)}, files / "b.safetensors"))
    broken = saved({n: torch.full_like(v, torch.nan) for n, v in tensors.items()}, files / "c.safetensors")
    with pytest.raises(FileError, match="NaN"):
        IPAdapter.load(broken)


def test_unnormalised_portrait_is_known_by_the_width_of_its_input(files: Path) -> None:
    config = our_unet(diffusers_unet()).config
    tensors = random_adapter("ipadapter-plus_sd15", config)
    tensors["image_proj.proj_in.weight"] = torch.randn(64, 512)
    found = IPAdapter.load(saved(tensors, files / "unnorm.safetensors"))
    assert found.file.variant.name == "faceid-unnorm"
    assert found.tokens(Features(face=torch.randn(1, 512))).shape == (1, 16, 64)


ENCODERS = {
    "clip_vision_vith": (1280, 5120, 32, 16, 1024, "gelu"),
    "clip_vision_bigg": (1664, 8192, 48, 16, 1280, "gelu"),
    "clip_vision_vitl": (1024, 4096, 24, 16, 768, "quick_gelu"),
}


@pytest.mark.parametrize("file", ENCODERS)
def test_an_image_encoders_sizes_are_read_from_its_shapes(file: str) -> None:
    tensors = vision_tensors(checkpoint(file))
    settings = _settings({name: e.shape for name, e in tensors.items()}, {}, Path(file))
    width, inner, layers, heads, out, act = ENCODERS[file]
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=out,
        hidden_act=act,
        patch_size=14,
        image_size=224,
    )
    assert all(getattr(config, name) == value for name, value in settings.items())
    with skeleton():
        network = _network(settings)
    assert {n: tuple(v.shape) for n, v in network.state_dict().items()} == {
        n: e.shape for n, e in tensors.items()
    }


def openclip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A transformers image encoder in OpenCLIP's names, by that layout's definition."""
    made: dict[str, torch.Tensor] = {}
    names = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "pre_layrnorm": "ln_pre",
        "post_layernorm": "ln_post",
    }
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for name, value in state.items():
        short = name.removeprefix("vision_model.")
        if name == "visual_projection.weight":
            made["visual.proj"] = value.T.contiguous()
        elif short.startswith("encoder.layers."):
            _, _, n, rest = short.split(".", 3)
            if "q_proj" in rest:
                kind = rest.rpartition(".")[2]
                three = [state[name.replace("q_proj", f"{x}_proj")] for x in "qkv"]
                made[f"visual.transformer.resblocks.{n}.attn.in_proj_{kind}"] = torch.cat(three)
            elif "out_proj" in rest:
                made[f"visual.transformer.resblocks.{n}.{rest.replace('self_attn', 'attn')}"] = value
            elif "_proj" not in rest:
                module, _, kind = rest.rpartition(".")
                made[f"visual.transformer.resblocks.{n}.{inner[module]}.{kind}"] = value
        else:
            old = next(old for old in names if short.startswith(old))
            made["visual." + short.replace(old, names[old])] = value
    return made


def test_an_image_encoder_reads_the_same_from_file_folder_and_openclip(files: Path) -> None:
    network = image_encoder()
    network.config.num_attention_heads = 2
    network.save_pretrained(files / "encoder")
    said = {"clip_vision": '{"num_attention_heads": 2, "hidden_act": "gelu"}'}
    from safetensors.torch import save_file

    state = network.state_dict()
    save_file(openclip(state) | {"text_projection": torch.zeros(2)}, files / "openclip.safetensors", said)
    with_text = state | {"text_model.embeddings.token_embedding.weight": torch.zeros(2, 2)}
    save_file(with_text, files / "whole.safetensors", said)
    image = [picture()]
    wanted = ImageEncoder.load(files / "encoder").encode(image, ("pooled", "hidden"))
    for name in ("openclip", "whole"):
        found = ImageEncoder.load(files / f"{name}.safetensors").encode(image, ("pooled", "hidden"))
        for kind, value in found.given():
            torch.testing.assert_close(value, getattr(wanted, kind), rtol=1e-5, atol=1e-5)
    with pytest.raises(FileError, match="no CLIP image encoder"):
        ImageEncoder.load(saved({"a": torch.zeros(1)}, files / "none.safetensors"))
