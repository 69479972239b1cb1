"""PAG, SAG and FreeU: final latents equal those of diffusers' pipelines within 1e-4, on random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sigmagraft.standalone.course_diffusers import CLASSES, PUBLISHED
from sigmagraft.standalone.pipeline import Pipeline

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

PROMPT, NEGATIVE, SEED, STEPS = "a red circle", "blurry", 11, 3
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Pipeline]:
    from ..pipelines.reference import make

    root = tmp_path_factory.mktemp("guidance")
    theirs = make("sd1", root)
    name, changes = CLASSES["ddim"]
    theirs.scheduler = getattr(diffusers, name).from_config(PUBLISHED["sd1"], **changes)
    return theirs, Pipeline.load(root / "sd1", device="cpu", dtype="fp32")


def theirs(pipe: Any, cfg: float, **more: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
        num_inference_steps=STEPS,
        guidance_scale=cfg,
        height=128,
        width=128,
        **more,
    ).images


def ours(pipe: Pipeline, cfg: float, guidance: str | list[str]) -> torch.Tensor:
    return pipe(
        PROMPT,
        negative=NEGATIVE,
        seed=SEED,
        steps=STEPS,
        cfg=cfg,
        size=(128, 128),
        sampler="ddim",
        like="diffusers",
        guidance=guidance,
    ).latents


def kin_of(pipe: Any, name: str) -> Any:
    """The same components in another of diffusers' classes."""
    return getattr(diffusers, name)(**pipe.components, requires_safety_checker=False)


def test_both_draw_the_same_without(pair: tuple[Any, Pipeline]) -> None:
    torch.testing.assert_close(ours(pair[1], 5.0, "cfg"), theirs(pair[0], 5.0), **CLOSE)


@pytest.mark.parametrize("cfg", [5.0, 0.0])
@pytest.mark.parametrize(
    ("layers", "scale"), [("middle", 20.0), pytest.param("input+output.3", 2.0, marks=pytest.mark.slow)]
)
def test_pag(pair: tuple[Any, Pipeline], cfg: float, layers: str, scale: float) -> None:
    pag = kin_of(pair[0], "StableDiffusionPAGPipeline")
    unet = pair[1].model.unet.config
    if layers == "middle":
        pag.set_pag_applied_layers("mid")
    else:
        up = 3 // (unet.num_res_blocks[-1] + 1)
        pag.set_pag_applied_layers(["down", f"up_blocks.{up}.attentions.{3 % (unet.num_res_blocks[-1] + 1)}"])
    expected = theirs(pag, cfg, pag_scale=scale)
    pag.unet.set_default_attn_processor()
    found = ours(pair[1], cfg, f"pag:scale={scale},layers={layers}")
    torch.testing.assert_close(found, expected, **CLOSE)
    assert not torch.allclose(found, ours(pair[1], cfg, "cfg"), atol=1e-3)


@pytest.mark.parametrize("cfg", [5.0, 0.0])
def test_sag(pair: tuple[Any, Pipeline], cfg: float) -> None:
    expected = theirs(kin_of(pair[0], "StableDiffusionSAGPipeline"), cfg, sag_scale=12.0)
    pair[0].unet.set_default_attn_processor()
    found = ours(pair[1], cfg, "sag:scale=12")
    torch.testing.assert_close(found, expected, **CLOSE)
    assert not torch.allclose(found, ours(pair[1], cfg, "cfg"), atol=1e-3)


def test_freeu(pair: tuple[Any, Pipeline]) -> None:
    pair[0].enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    expected = theirs(pair[0], 5.0)
    pair[0].disable_freeu()
    found = ours(pair[1], 5.0, "freeu:version=1,places=levels,b1=1.2,b2=1.4,s1=0.9,s2=0.2")
    torch.testing.assert_close(found, expected, **CLOSE)
    assert not torch.allclose(found, ours(pair[1], 5.0, "cfg"), atol=1e-3)


def test_pag_and_rescale_together(pair: tuple[Any, Pipeline]) -> None:
    pag = kin_of(pair[0], "StableDiffusionPAGPipeline")
    pag.set_pag_applied_layers("mid")
    expected = theirs(pag, 5.0, pag_scale=2.0, guidance_rescale=0.6)
    pag.unet.set_default_attn_processor()
    torch.testing.assert_close(ours(pair[1], 5.0, ["pag:scale=2", "rescale:share=0.6"]), expected, **CLOSE)
