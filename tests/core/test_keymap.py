"""The name maps against diffusers' and transformers' own converters, on every base checkpoint."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.core.entry import Pages
from sigmagraft.core.keymap import (
    inverse,
    rename,
    translate,
    unet_table,
    unet_table_for,
    vae_table,
    vae_table_for,
)
from sigmagraft.core.parts import parts_of
from sigmagraft.core.textmap import to_transformers

from .manifests import checkpoint, configs, shapes_of

single_file = pytest.importorskip("diffusers.loaders.single_file_utils")
UNETS = {
    "ldm/sd15": ("diffusers_sd15_unet", "runwayml/stable-diffusion-v1-5"),
    "ldm/sd21": ("diffusers_sd21_unet", "stabilityai/stable-diffusion-2-1"),
    "ldm/sdxl_base": ("diffusers_sdxl_base_unet", "stabilityai/stable-diffusion-xl-base-1.0"),
    "ldm/sdxl_refiner": ("diffusers_sdxl_refiner_unet", "stabilityai/stable-diffusion-xl-refiner-1.0"),
}


def numbered(file: str, prefix: str) -> dict[str, torch.Tensor]:
    """Each tensor of a part as its own number, so that a wrong name shows even where shapes agree."""
    names = [name for name in shapes_of()[file] if name.startswith(prefix)]
    return {name: torch.tensor(float(i)) for i, name in enumerate(names)}


@pytest.mark.parametrize("file", UNETS)
def test_unet_names_are_those_of_diffusers_own_converter(file: str) -> None:
    folder, repository = UNETS[file]
    ours, unknown = rename(dict.fromkeys(shapes_of()[folder], 0), unet_table_for(shapes_of()[folder]))
    assert not unknown
    ldm = numbered(file, "model.diffusion_model.")
    config = {"class_embed_type": None, "addition_embed_type": None} | configs()[repository][
        "unet/config.json"
    ]
    theirs = single_file.convert_ldm_unet_checkpoint(dict(ldm), config)
    back = {right: left for left, right in zip(shapes_of()[folder], ours, strict=True)}
    for name, value in ldm.items():
        assert theirs[back[name.removeprefix("model.diffusion_model.")]] == value
    assert len(theirs) == len(ldm)


@pytest.mark.parametrize("file", ["ldm/sd15", "ldm/sdxl_base"])
def test_vae_names_are_those_of_diffusers_own_converter(file: str) -> None:
    folder = shapes_of()["diffusers_sd15_vae"]
    table = vae_table_for(folder)
    shaped = {name: torch.full(s, float(i)) for i, (name, s) in enumerate(_small_vae(file).items())}
    theirs = single_file.convert_ldm_vae_checkpoint(
        dict(shaped), {"down_block_types": [0] * 4, "up_block_types": [0] * 4}
    )
    assert len(theirs) == len(shaped)
    for name, value in theirs.items():
        other = translate(table, name)
        assert other is not None
        assert value.flatten()[0] == shaped[f"first_stage_model.{other}"].flatten()[0], name


def _small_vae(file: str) -> dict[str, tuple[int, ...]]:
    """One element for each axis is enough to follow a name."""
    names = shapes_of()[file]
    return {n: (1,) * len(s) for n, s in names.items() if n.startswith("first_stage_model.")}


def test_old_attention_names_of_a_vae() -> None:
    new, old = (
        rename(shapes_of()[n], vae_table_for(shapes_of()[n]))[0] for n in ("diffusers_sd15_vae", _OLD)
    )
    assert set(new) == set(old)
    assert len(old) == len(shapes_of()[_OLD])


_OLD = "diffusers_sd15_vae_oldattn"


def test_tables_are_one_to_one_and_inverse() -> None:
    for table in (
        unet_table((2, 2, 2), (False, True, True)),
        unet_table((1, 3), (True, False)),
        vae_table(4, 2),
    ):
        assert inverse(inverse(table)) == table


def test_the_longest_known_prefix_is_replaced_and_nothing_guessed() -> None:
    table = {"a": "x", "a.b": "y"}
    assert translate(table, "a.b.weight") == "y.weight"
    assert translate(table, "a.c.weight") == "x.c.weight"
    assert translate(table, "b.weight") is None
    assert rename({"a": 1, "q": 2}, table) == ({"x": 1}, ["q"])


def test_openclip_is_split_and_turned_as_transformers_needs_it(tmp_path) -> None:
    from safetensors.torch import save_file

    from sigmagraft.core.checkpoint import open_weights

    torch.manual_seed(0)
    layer = "cond_stage_model.model.transformer.resblocks.0."
    names = {
        n: s for n, s in shapes_of()["ldm/sd21"].items() if n.startswith((layer, "cond_stage_model.model.t"))
    }
    names = {n: s for n, s in names.items() if ".resblocks." not in n or n.startswith(layer)}
    tensors = {
        n: torch.randn(
            [
                min(x, 96 if n.endswith(("in_proj_weight", "in_proj_bias")) and i == 0 else 32)
                for i, x in enumerate(s)
            ]
        )
        for n, s in names.items()
    }
    save_file(tensors, tmp_path / "clip.safetensors")
    prefix = "cond_stage_model.model."
    opened = open_weights(tmp_path / "clip.safetensors")
    ours, unknown = to_transformers({n.removeprefix(prefix): e for n, e in opened.items()})
    assert unknown == []
    pages = Pages()
    q, k, v = tensors[layer + "attn.in_proj_weight"].chunk(3)
    here = "text_model.encoder.layers.0.self_attn."
    for name, value in (("q", q), ("k", k), ("v", v)):
        assert torch.equal(pages.tensor(ours[f"{here}{name}_proj.weight"]), value)
    assert torch.equal(pages.tensor(ours["text_projection.weight"]), tensors[prefix + "text_projection"].T)
    bias = tensors[layer + "attn.in_proj_bias"].chunk(3)[2]
    assert torch.equal(pages.tensor(ours[here + "v_proj.bias"]), bias)
    assert ours[here + "out_proj.weight"] is opened[layer + "attn.out_proj.weight"]


def test_openclip_names_cover_both_text_encoders() -> None:
    for file, index in (("ldm/sd21", 0), ("ldm/sdxl_base", 1), ("ldm/sdxl_refiner", 0)):
        found = parts_of(checkpoint(file)).texts[index]
        component = "diffusers_sd21_text_encoder" if file == "ldm/sd21" else "diffusers_sdxl_text_encoder_2"
        published = shapes_of()[component]
        layers = len({n.split(".")[3] for n in published if ".layers." in n})
        ours = {n: e.shape for n, e in found.items() if ".layers." not in n or int(n.split(".")[3]) < layers}
        ours = {n: s for n, s in ours.items() if n in published or n != "text_projection.weight"}
        assert ours == published
