"""SD1.5 at its full size (860 M parameters): the same outputs as diffusers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sigmagraft.standalone.load import load_model

from . import families

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
TEXT = {"width": 768, "layers": 12, "act": "quick_gelu", "projection": None}
SD15 = replace(families.FAMILIES["sd1"], channels=(320, 640, 1280, 1280), texts=(TEXT,))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[families.Reference]:
    from safetensors.torch import save_file

    root: Path = tmp_path_factory.mktemp("full")
    with torch.no_grad():
        made = families.Reference(
            SD15,
            families.reference_unet(SD15),
            families.reference_vae(SD15),
            [families.reference_text(TEXT)],
            root / "folder",
            root / "file.safetensors",
        )
        save_file(families.single_file(made), made.file)
        yield made


def test_full_size(reference: families.Reference) -> None:
    model = load_model(reference.file)
    assert sum(p.numel() for p in model.unet.parameters()) == 859_520_964
    torch.manual_seed(0)
    x, t, context = torch.randn(1, 4, 16, 16), torch.tensor([501]), torch.randn(1, 77, 768)
    with torch.no_grad():
        pairs: list[tuple[Any, Any]] = [(model.unet(x, t, context), reference.unet(x, t, context).sample)]
        tokens = torch.randint(3, families.VOCAB, (1, 77))
        text = model.texts[0]
        eos = torch.tensor([76])
        pairs.append((text(text.embed(tokens), eos)[0], reference.texts[0](tokens).last_hidden_state))
        pairs.append((model.vae.decode(x[..., :8, :8]), reference.vae.decode(x[..., :8, :8]).sample))
    for ours, theirs in pairs:
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4
