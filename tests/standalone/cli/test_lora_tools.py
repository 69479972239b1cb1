"""`sigmagraft lora ...` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sigmagraft.core.parts import parts_of
from sigmagraft.core.parts import shapes as shapes_of_part
from sigmagraft.loras import Targets
from sigmagraft.standalone.lora_chart import LEFT, LINE, TOP, WIDTH
from sigmagraft.standalone.lora_targets import PUBLISHED, published

from ...core.manifests import checkpoint as manifest
from ...loras.files import lora, matrices, mixed
from ...loras.small import write
from ..small import small_model
from .conftest import Answer

Run = Callable[..., Answer]
FILES = {
    "Stable Diffusion 1.x": "ldm/sd15",
    "Stable Diffusion 2.x": "ldm/sd21",
    "Stable Diffusion XL": "ldm/sdxl_base",
    "the Stable Diffusion XL refiner": "ldm/sdxl_refiner",
}


@pytest.fixture(scope="session")
def targets() -> Targets:
    """The modules of the tiny model that `checkpoint` is."""
    model = small_model()
    unet, text = (
        {name: tuple(value.shape) for name, value in network.named_parameters()}
        for network in (model.unet, model.texts[0])
    )
    return Targets.of(unet, [text])


@pytest.mark.parametrize("label", PUBLISHED)
def test_the_published_sizes_are_those_of_published_files(label: str) -> None:
    parts = parts_of(manifest(FILES[label]))
    there = Targets.of(shapes_of_part(parts.unet), [shapes_of_part(text) for text in parts.texts])
    ours = {key: shape for key, shape in published(label).shapes.items() if not key.startswith("motion.")}
    assert {key: tuple(shape) for key, shape in there.shapes.items()} == ours


def test_a_file_is_inspected_without_a_model(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    stem = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    up, down = torch.randn(640, 3), torch.randn(3, 768)
    tensors = {
        f"{stem}.lora_up.weight": up,
        f"{stem}.lora_down.weight": down,
        f"{stem}.alpha": torch.tensor(1.5),
    }
    tensors["lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_kk.alpha"] = torch.tensor(1.0)
    path = write(tmp_path / "ink.safetensors", tensors, {"ss_network_module": "networks.lora"})
    answer = run("lora", "inspect", path)
    assert (answer.code, answer.err) == (0, "")
    for words in (
        "family     LoRA",
        "naming     kohya (LDM names)",
        "rank       3",
        "alpha      1.5",
        "trainer    kohya sd-scripts (networks.lora)",
        "made for   Stable Diffusion 1.x",
        "not used: lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_kk.alpha",
    ):
        assert words in answer.out
    row = next(line.split() for line in answer.out.splitlines() if line.startswith("IN04"))
    assert row[1] == "1"
    assert float(row[2]) == pytest.approx(float((up @ down * 0.5).norm()), rel=1e-3)


def test_the_norms_of_every_family_are_those_of_the_changed_weights(
    run: Run, tmp_path: Path, checkpoint: Path, targets: Targets
) -> None:
    path = write(tmp_path / "all.safetensors", mixed(matrices(targets)))
    found = json.loads(run("lora", "inspect", path, "--model", checkpoint, "--json").out)
    assert found["refused"] is None
    assert len(found["used"]) + len(found["unused"]) == len(mixed(matrices(targets)))
    assert found["unused"] == []
    assert {"text_encoder", "IN00", "M00", "OUT00", "rest"} <= set(found["blocks"])
    assert all(block["unknown"] == 0 and block["relative"] > 0 for block in found["blocks"].values())


def test_a_file_for_another_model_is_told_of_not_refused(run: Run, tmp_path: Path, targets: Targets) -> None:
    tensors = lora(matrices(targets))
    path = write(tmp_path / "small.safetensors", tensors)
    answer = run("lora", "inspect", path)
    assert answer.code == 0
    assert "refused    " in answer.out
    assert "made for   a model with a text context 64 wide" in answer.out
    flux = {
        f"transformer.single_transformer_blocks.0.attn.to_q.lora_{side}.weight": torch.ones(2, 2)
        for side in "AB"
    }
    answer = run("lora", "inspect", write(tmp_path / "flux.safetensors", flux))
    assert (answer.code, answer.err) == (0, "")
    assert "made for   Flux" in answer.out
    assert "tensors    0 used, 2 not" in answer.out


def test_norms_that_need_the_weights_say_so(run: Run, tmp_path: Path) -> None:
    stem = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    tensors = {
        f"{stem}.lora_up.weight": torch.ones(640, 2),
        f"{stem}.lora_down.weight": torch.ones(2, 768),
        f"{stem}.dora_scale": torch.ones(640, 1),
    }
    answer = run("lora", "inspect", write(tmp_path / "d.safetensors", tensors), "--keys")
    assert "1 depend on the weights" in answer.out
    assert f"{stem}.dora_scale -> unet.input_blocks.4.1.transformer_blocks.0.attn2.to_k" in answer.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspct", "x"], "did you mean 'inspect'"),
        (["inspect"], "no file"),
        (["inspect", "nowhere.safetensors"], "nowhere.safetensors"),
        (["inspect", "x.safetensors", "--plot", "x.jpg"], "ends in .png"),
        (["convert", "x.safetensors", "-o", "y.safetensors"], "no naming"),
        (["convert", "x.safetensors", "--naming", "kohya"], "no out"),
        (["convert", "x.safetensors", "--naming", "kohja", "-o", "y.safetensors"], "did you mean 'kohya'"),
        (["convert", "x.safetensors", "--naming", "kohya", "-o", "y.pt"], "ends in .safetensors"),
        (["convert", "x.safetensors", "--naming", "peft", "-o", "y.safetensors"], "a folder"),
        (["resize", "x.safetensors", "-o", "y.safetensors"], "no rank"),
        (["resize", "x.safetensors", "-o", "y.safetensors", "--rank", 0], "not an integer from 1"),
        (["merge", "-o", "y.safetensors"], "FILE[:WEIGHT]"),
        (["merge", "x.safetensors:1", "-o", "y.safetensors"], "no rank"),
        (["merge", "x", "-o", "y.safetensors", "--method", "cat", "--rank", 2], "a rank for cat"),
        (["merge", "x", "-o", "y.safetensors", "--method", "tise"], "did you mean 'ties'"),
        (["extract", "a.safetensors", "-o", "y.safetensors", "--rank", 4], "MODEL"),
        (["extract", "a", "b", "-o", "y.safetensors"], "no rank"),
        (
            ["extract", "a", "b", "-o", "y.safetensors", "--kind", "full", "--rank", 4],
            "--rank with --kind full",
        ),
        (["extract", "a", "b", "-o", "y.safetensors", "--rank", 4], "no such file"),
        (["extract", "a", "b", "-o", "y.safetensors", "--kind", "lokon"], "did you mean 'locon'"),
        (["bake", "a.safetensors", "-o", "y.safetensors"], "FILE[:WEIGHT...]"),
        (["bake", "a.safetensors", "b.safetensors"], "no out"),
        (["bake", "a.safetensors", "b.safetensors:x", "-o", "y.safetensors"], "weight 'x'"),
        (["bake", "a.safetensors", "nowhere.safetensors", "-o", "y.safetensors"], "no such adapter"),
    ],
)
def test_a_mistake_is_one_line(run: Run, words: list[str], sentence: str) -> None:
    answer = run("lora", *words)
    assert answer.code == 2
    assert sentence in answer.err
    assert answer.err.count("\n") == 1


def test_an_adapter_is_converted_there_and_back(run: Run, tmp_path: Path) -> None:
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {
        f"{stem}.lora_up.weight": torch.randn(640, 2),
        f"{stem}.lora_down.weight": torch.randn(2, 768),
        f"{stem}.alpha": torch.tensor(1.0),
    }
    write(tmp_path / "ink.safetensors", tensors)
    for source, out, naming in (
        ("ink.safetensors", "two.safetensors", "diffusers"),
        ("two.safetensors", "three", "peft"),
        ("three", "four.safetensors", "kohya"),
    ):
        answer = run("lora", "convert", source, "-o", out, "--naming", naming)
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.strip().startswith(out)
    found = load_file("four.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], value) for key, value in tensors.items())


def test_an_adapter_is_resized(run: Run, tmp_path: Path, checkpoint: Path, targets: Targets) -> None:
    write(tmp_path / "ink.safetensors", lora(matrices(targets), rank=6))
    answer = run(
        "lora", "resize", "ink.safetensors", "-o", "two.safetensors", "--rank", 2, "--model", checkpoint
    )
    assert (answer.code, answer.err, answer.out) == (0, "", "two.safetensors\n")
    found = json.loads(run("lora", "inspect", "two.safetensors", "--model", checkpoint, "--json").out)
    assert (found["ranks"].keys(), found["alphas"].keys()) == ({"2"}, {"2.0"})
    whole = json.loads(run("lora", "inspect", "ink.safetensors", "--model", checkpoint, "--json").out)
    for name, block in found["blocks"].items():
        assert 0.3 < block["change"] / whole["blocks"][name]["change"] < 1


def test_adapters_of_several_families_are_merged(
    run: Run, tmp_path: Path, checkpoint: Path, targets: Targets
) -> None:
    write(tmp_path / "a.safetensors", lora(matrices(targets)))
    write(tmp_path / "b.safetensors", mixed(matrices(targets)))
    words = ("lora", "merge", "a.safetensors:1.0", "b.safetensors:-0.5", "-o", "ab.safetensors", "--rank", 8)
    answer = run(*words)
    assert answer.code == 2
    assert not Path("ab.safetensors").exists()
    answer = run(*words, "--model", checkpoint, "--naming", "diffusers")
    assert (answer.code, answer.err) == (0, "")
    found = json.loads(run("lora", "inspect", "ab.safetensors", "--model", checkpoint, "--json").out)
    assert found["families"].keys() == {"LoRA"}
    assert max(map(int, found["ranks"])) == 8
    assert found["unused"] == []


def test_merging_by_cat_needs_no_model(run: Run, tmp_path: Path) -> None:
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    up, down = torch.randn(640, 2), torch.randn(2, 768)
    write(tmp_path / "a.safetensors", {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down})
    answer = run(
        "lora", "merge", "a.safetensors", "a.safetensors:-0.25", "--method", "cat", "-o", "b.safetensors"
    )
    assert (answer.code, answer.err) == (0, "")
    found = load_file("b.safetensors")
    product = found[f"{stem}.lora_up.weight"] @ found[f"{stem}.lora_down.weight"]
    assert float(found[f"{stem}.alpha"]) == 4
    assert (product - 0.75 * up @ down).abs().max() < 1e-4


def test_textual_inversions_of_one_name_are_not_lost_silently(run: Run, tmp_path: Path) -> None:
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{stem}.lora_up.weight": torch.ones(640, 1), f"{stem}.lora_down.weight": torch.ones(1, 768)}
    write(tmp_path / "a.safetensors", tensors | {"bundle_emb.cat.string_to_param.*": torch.ones(2, 768)})
    once = run("lora", "merge", "a.safetensors", "-o", "b.safetensors", "--method", "cat")
    assert (once.code, once.err) == (0, "")
    assert "bundle_emb.cat.string_to_param.*" in load_file("b.safetensors")
    twice = run("lora", "merge", "a.safetensors", "b.safetensors", "-o", "c.safetensors", "--method", "cat")
    assert twice.code == 2
    assert "two textual inversions" in twice.err
    assert not Path("c.safetensors").exists()


def test_the_norms_are_drawn(run: Run, tmp_path: Path, checkpoint: Path, targets: Targets) -> None:
    """A longer bar in the colour of its side where a block changes more."""
    tensors = lora([m for m in matrices(targets) if m.path.startswith(("middle", "output_blocks.1."))])
    path = write(
        tmp_path / "ink.safetensors",
        {k: v * (3 if "middle" in k and "up" in k else 1) for k, v in tensors.items()},
    )
    answer = run("lora", "inspect", path, "--plot", "ink.png", "--model", checkpoint)
    assert (answer.code, answer.err) == (0, "")
    told = json.loads(run("lora", "inspect", path, "--json", "--model", checkpoint).out)["blocks"]
    norms = [block["change"] for block in told.values()]
    found = numpy.asarray(Image.open("ink.png").convert("RGB")).astype(int)
    half = (LEFT + WIDTH) // 2 - 40
    lengths = [_coloured(found[round(TOP + LINE * (row + 0.5)), LEFT:half]) for row in range(2)]
    assert norms[0] > 2 * norms[1]
    assert lengths[0] / lengths[1] == pytest.approx(norms[0] / norms[1], rel=0.1)


def _coloured(row: Any) -> int:
    """Pixels of a bar: neither white nor grey."""
    return int(((row.max(-1) - row.min(-1)) > 60).sum())


def test_what_is_extracted_and_baked_is_the_tuned_model(
    run: Run, tmp_path: Path, checkpoint: Path, targets: Targets
) -> None:
    ink = write(tmp_path / "ink.safetensors", lora(matrices(targets), rank=2))
    answer = run("lora", "bake", checkpoint, f"{ink}:0.5", "-o", "tuned.safetensors")
    assert (answer.code, answer.err, answer.out) == (0, "", "tuned.safetensors\n")
    for words in (["--kind", "full"], ["--kind", "locon", "--rank", 2]):
        answer = run("lora", "extract", checkpoint, "tuned.safetensors", "-o", "diff.safetensors", *words)
        assert (answer.code, answer.err, answer.out) == (0, "", "diff.safetensors\n")
        answer = run("lora", "bake", checkpoint, "diff.safetensors", "-o", "again.safetensors")
        assert (answer.code, answer.err) == (0, "")
        one, other = load_file("tuned.safetensors"), load_file("again.safetensors")
        assert one.keys() == other.keys() == load_file(checkpoint).keys()
        assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-5
    same = run("lora", "extract", checkpoint, checkpoint, "-o", "none.safetensors", "--rank", 2)
    assert same.code == 2
    assert "the two models are the same" in same.err
    lora_only = run("lora", "extract", checkpoint, "tuned.safetensors", "-o", "lora.safetensors", "--rank", 2)
    assert lora_only.code == 0
    assert "convolutions differ too, left out (--kind locon or full)" in lora_only.err
