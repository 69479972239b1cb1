"""Files that diffusers loads, on the same weights: its UNet and text encoders answer as ours do."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from sigmagraft.standalone.load import load_model
from sigmagraft.standalone.pipeline import Pipeline

from ..standalone.families import Reference
from ..standalone.families import write as write_family
from .small import write

diffusers = pytest.importorskip("diffusers")
warnings.filterwarnings("ignore")


class Pair(NamedTuple):
    theirs: Any
    ours: Pipeline
    reference: Reference


@pytest.fixture(scope="module", params=["sd1", pytest.param("sdxl", marks=pytest.mark.slow)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    reference = write_family(request.param, tmp_path_factory.mktemp(request.param))
    scheduler = diffusers.EulerDiscreteScheduler()
    shared: dict[str, Any] = {"vae": reference.vae, "unet": reference.unet, "scheduler": scheduler}
    if request.param == "sdxl":
        one, two = reference.texts
        theirs = diffusers.StableDiffusionXLPipeline(
            **shared, text_encoder=one, text_encoder_2=two, tokenizer=None, tokenizer_2=None
        )
    else:
        theirs = diffusers.StableDiffusionPipeline(
            **shared,
            text_encoder=reference.texts[0],
            tokenizer=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    theirs.set_progress_bar_config(disable=True)
    return Pair(theirs, Pipeline(load_model(reference.file)), reference)


def answers(pair: Pair) -> tuple[list[Tensor], list[Tensor]]:
    """(theirs, ours): the UNet's output and the hidden states of each text encoder."""
    torch.manual_seed(4)
    recipe, model = pair.reference.recipe, pair.ours.model
    x, context, t = torch.randn(1, 4, 16, 16), torch.randn(1, 7, recipe.context), torch.tensor([300.0])
    y = torch.randn(1, recipe.adm) if recipe.adm else None
    more = {}
    if y is not None:  # diffusers makes the last part of the vector itself, from six numbers
        ids, pooled = torch.randn(1, 6) * 100, y[:, : recipe.adm - 6 * 256]
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
        y = torch.cat([pooled, pair.theirs.unet.add_time_proj(ids.flatten()).reshape(1, -1)], dim=1)
    ids = torch.tensor([[0, 5, 9, 300, 2]])
    with torch.no_grad():
        theirs = [pair.theirs.unet(x, t, context, **more).sample]
        ours = [model.unet(x, t, context, y)]
        for name, text in zip(("text_encoder", "text_encoder_2"), model.texts, strict=False):
            theirs.append(getattr(pair.theirs, name)(ids, output_hidden_states=True).hidden_states[-1])
            ours.append(text(text.embed(ids), torch.tensor([4]), final_norm=False)[0])
    return theirs, ours


def agree(pair: Pair, changed: bool = True, before: list[Tensor] | None = None) -> None:
    theirs, ours = answers(pair)
    for one, other in zip(theirs, ours, strict=True):
        assert (one - other).abs().max() < 2e-5 * one.abs().max() + 1e-5
    if before is not None:
        different = [bool((a - b).abs().max() > 1e-3) for a, b in zip(before, ours, strict=True)]
        assert any(different) == changed


UNET_TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "ff.net.0.proj",
    "proj_in",
    "conv1",
    "time_emb_proj",
    "conv_shortcut",
)
TEXT_TARGETS = ("q_proj", "v_proj", "out_proj", "fc1", "fc2")


def layers(pair: Pair, part: str, endings: tuple[str, ...]) -> dict[str, Tensor]:
    """Every second layer of a diffusers network with one of these endings -> its weight."""
    network = getattr(pair.theirs, part)
    named = [
        (n, m.weight) for n, m in network.named_modules() if n.endswith(endings) and hasattr(m, "weight")
    ]
    found = {(n if part == "unet" or n.startswith("text_model.") else f"text_model.{n}"): w for n, w in named}
    return dict(list(found.items())[::2])


def factors(weight: Tensor, rank: int = 4) -> tuple[Tensor, Tensor]:
    out, *rest = weight.shape
    return torch.randn(out, rank, *(1,) * (len(rest) - 1)) * 0.1, torch.randn(rank, *rest) * 0.1


def kohya(pair: Pair) -> dict[str, Tensor]:
    two = len(pair.reference.texts) == 2
    prefixes = {
        "unet": "lora_unet_",
        "text_encoder": "lora_te1_" if two else "lora_te_",
        "text_encoder_2": "lora_te2_",
    }
    found: dict[str, Tensor] = {}
    for part in list(prefixes)[: 1 + len(pair.reference.texts)]:
        for path, weight in layers(pair, part, UNET_TARGETS if part == "unet" else TEXT_TARGETS).items():
            stem = prefixes[part] + path.replace(".", "_")
            found[f"{stem}.lora_up.weight"], found[f"{stem}.lora_down.weight"] = factors(weight)
            found[f"{stem}.alpha"] = torch.tensor(2.0)
    return found


def dotted(pair: Pair, ending: str) -> dict[str, Tensor]:
    """`unet.` and `text_encoder.` with PEFT's or diffusers' own endings, without alpha."""
    up, down = {"peft": ("lora_B", "lora_A"), "diffusers": ("lora.up", "lora.down")}[ending]
    found: dict[str, Tensor] = {}
    for part in ("unet", "text_encoder", "text_encoder_2")[: 1 + len(pair.reference.texts)]:
        for path, weight in layers(
            pair, part, UNET_TARGETS[:4] if part == "unet" else TEXT_TARGETS[:3]
        ).items():
            stem = f"{part}.{path}"
            if ending == "diffusers" and part != "unet":
                names = (f"{stem}.lora_linear_layer.up.weight", f"{stem}.lora_linear_layer.down.weight")
            else:
                names = (f"{stem}.{up}.weight", f"{stem}.{down}.weight")
            found[names[0]], found[names[1]] = factors(weight)
    return found


def processors(pair: Pair) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path, weight in layers(pair, "unet", ("to_q", "to_k", "to_v", "to_out.0")).items():
        block, _, name = path.removesuffix(".0").rpartition(".")
        stem = f"unet.{block}.processor.{name}_lora"
        found[f"{stem}.up.weight"], found[f"{stem}.down.weight"] = factors(weight)
    return found


FILES = {
    "kohya": kohya,
    "peft": lambda pair: dotted(pair, "peft"),
    "diffusers": lambda pair: dotted(pair, "diffusers"),
    "attention processors": processors,
}


@pytest.mark.parametrize("kind", FILES)
def test_the_same_file_gives_the_same_answers(kind: str, pair: Pair, tmp_path: Path) -> None:
    torch.manual_seed(8)
    path = write(tmp_path / "a.safetensors", FILES[kind](pair))
    agree(pair)
    before = answers(pair)[1]
    pair.theirs.load_lora_weights(str(path))
    report = pair.ours.load_lora_weights(path)
    try:
        assert not report.unused
        agree(pair, True, before)
        pair.ours.fuse_lora()
        agree(pair, True, before)
    finally:
        pair.theirs.unload_lora_weights()
        pair.ours.unload_lora_weights()
    assert all(torch.equal(a, b) for a, b in zip(answers(pair)[1], before, strict=True))


WEIGHTS: list[tuple[Any, Any]] = [
    (1.0, 1.0),
    (0.4, -0.7),
    ({"unet": {"down": 0.2, "mid": 0.5, "up": 2.0}}, 0.5),
    ({"unet": {"up": {"block_1": [0.0, 0.5, 1.5]}}, "text_encoder": 0.3}, {"unet": {"down": 0.0}}),
]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_two_adapters_and_their_weights(weights: tuple[Any, Any], pair: Pair, tmp_path: Path) -> None:
    """As `set_adapters`, by number and by diffusers' dictionary of blocks, on attention layers."""
    torch.manual_seed(9)
    for name in ("one", "two"):
        path = write(tmp_path / f"{name}.safetensors", dotted(pair, "peft"))
        pair.theirs.load_lora_weights(str(path), adapter_name=name)
        pair.ours.load_lora_weights(path, name)
        assert pair.ours.get_active_adapters() == pair.theirs.get_active_adapters()
    try:
        for pipe in (pair.theirs, pair.ours):
            pipe.set_adapters(["one", "two"], adapter_weights=list(weights))
        agree(pair)
        assert pair.ours.get_active_adapters() == pair.theirs.get_active_adapters() == ["one", "two"]
        assert pair.ours.get_list_adapters() == pair.theirs.get_list_adapters()
        for pipe in (pair.theirs, pair.ours):
            pipe.delete_adapters("one")
            pipe.set_adapters("two", 0.6)
        agree(pair)
        assert pair.ours.get_list_adapters() == pair.theirs.get_list_adapters()
    finally:
        pair.theirs.unload_lora_weights()
        pair.ours.unload_lora_weights()


@pytest.mark.parametrize("option", ["use_rslora", "use_dora"])
def test_a_file_that_diffusers_saves(option: str, pair: Pair, tmp_path: Path) -> None:
    """With its configuration in the header: alpha and rank-stabilised scale are in no tensor."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(10)
    config = LoraConfig(r=4, lora_alpha=3, target_modules=["to_q", "to_v", "conv2"], **{option: True})
    pair.theirs.unet.add_adapter(config, "trained")
    with torch.no_grad():
        for name, parameter in pair.theirs.unet.named_parameters():
            if "magnitude" in name:
                parameter.mul_(0.5 + torch.rand_like(parameter))
            elif "lora_" in name:
                parameter.normal_(std=0.1)
    type(pair.theirs).save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(pair.theirs.unet, adapter_name="trained"),
        unet_lora_adapter_metadata=pair.theirs.unet.peft_config["trained"].to_dict(),
    )
    try:
        report = pair.ours.load_lora_weights(tmp_path)
        assert not report.unused
        assert report.trainer == "diffusers"
        agree(pair)
    finally:
        pair.theirs.unload_lora_weights()
        pair.ours.unload_lora_weights()
