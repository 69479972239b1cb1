"""Loaded networks against diffusers' and transformers' own, for every family, from the folder and the single file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.standalone.load import load_model
from sigmagraft.standalone.model import Model

from .families import FAMILIES, VOCAB, Reference, write

pytest.importorskip("diffusers")
pytest.importorskip("transformers")


@pytest.fixture(scope="module", params=FAMILIES)
def reference(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reference]:
    with torch.no_grad():
        yield write(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=["folder", "file"])
def pair(request: pytest.FixtureRequest, reference: Reference) -> tuple[Reference, Model]:
    return reference, load_model(getattr(reference, request.param))


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


def test_unet(pair: tuple[Reference, Model]) -> None:
    made, model = pair
    torch.manual_seed(0)
    x = torch.randn(2, made.recipe.in_channels, 16, 16)
    context, t = torch.randn(2, 7, made.recipe.context), torch.tensor([7, 601])
    given: dict[str, Any] = {}
    y = None
    if made.recipe.adm:
        ids, pooled = torch.randint(0, 1024, (2, made.recipe.ids)), torch.randn(2, 128)
        given = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
        y = torch.cat([pooled, made.unet.add_time_proj(ids.flatten()).reshape(2, -1)], dim=1)
    with torch.no_grad():
        theirs = made.unet(x, t, context, **given).sample
        close(model.unet(x, t, context, y), theirs)


def test_vae(pair: tuple[Reference, Model]) -> None:
    made, model = pair
    torch.manual_seed(0)
    image, latent = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        theirs = made.vae.encode(image).latent_dist
        mean, logvar = model.vae.encode(image)
        close(mean, theirs.mean)
        close(logvar, theirs.logvar)
        close(model.vae.decode(latent), made.vae.decode(latent).sample)


def test_text(pair: tuple[Reference, Model]) -> None:
    made, model = pair
    tokens = torch.randint(3, VOCAB - 1, (2, 77), generator=torch.Generator().manual_seed(0))
    eos = torch.tensor([5, 76])
    tokens[torch.arange(2), eos] = (
        VOCAB - 1
    )  # transformers takes the highest id for the end where eos_token_id is 2
    for ours, theirs, sizes in zip(model.texts, made.texts, made.recipe.texts, strict=True):
        assert ours.config.act == sizes["act"]
        with torch.no_grad():
            answer = theirs(tokens, output_hidden_states=True)
            last, pooled = ours(ours.embed(tokens), eos, layer=-1)
            before, _ = ours(ours.embed(tokens), eos, layer=-2, final_norm=False)
        close(last, answer.last_hidden_state)
        close(before, answer.hidden_states[-2])
        if sizes["projection"]:
            close(pooled, answer.text_embeds)


def test_what_is_known_of_it(pair: tuple[Reference, Model]) -> None:
    made, model = pair
    name = next(name for name, recipe in FAMILIES.items() if recipe is made.recipe)
    task = name.split("-")[-1]
    assert model.info.family == name.removesuffix("-inpaint").removesuffix("-depth")
    assert model.info.task == (task if task in ("inpaint", "depth") else "base")
    assert model.info.prediction == "eps"
    assert model.info.latent_channels == 4
    assert model.scale_factor == (0.13025 if made.recipe.adm else 0.18215)
    assert not any(p.requires_grad for p in model.unet.parameters())
    assert not any("unknown tensors" in reason for reason in model.info.reasons)


def test_a_model_put_together_from_its_components(reference: Reference) -> None:
    """Two text encoders find their places whatever the order they are given in."""
    folder, whole = reference.folder, load_model(reference.folder)
    encoders = [str(path) for path in sorted(folder.glob("text_encoder*"))]
    for given in (",".join(encoders), list(reversed(encoders))):
        model = load_model(folder, subfolder="unet", vae=folder / "vae", text_encoder=given)
        assert model.scale_factor == whole.scale_factor
        assert [text.config for text in model.texts] == [text.config for text in whole.texts]
        for ours, theirs in zip(model.texts, whole.texts, strict=True):
            assert torch.equal(*(t.text_model.encoder.layers[1].mlp.fc1.weight for t in (ours, theirs)))
