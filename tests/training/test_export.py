"""What training writes is an SD1.x file that loads from its shapes alone and computes what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.unet import UNet, UNetConfig
from sigmagraft.standalone.vae import VAE, VAEConfig
from sigmagraft.training.export import LIMIT, SCALE_FACTOR, TARGET, assemble, metadata
from sigmagraft.training.restore import restore
from sigmagraft.training.train_text import CONFIG as TEXT
from sigmagraft.training.train_text import trained_encoder
from sigmagraft.training.train_unet import CONFIG as UNET
from sigmagraft.training.train_unet import new_unet
from sigmagraft.training.train_vae import CONFIG as VAE_CONFIG
from sigmagraft.training.train_vae import folded, new_vae

PREFIXES = {
    "model.diffusion_model.": (UNetConfig, UNet),
    "first_stage_model.": (VAEConfig, VAE),
    "cond_stage_model.transformer.": (TextConfig, TextEncoder),
}


def load_strictly(path: Path) -> dict[str, torch.nn.Module]:
    """Every network of the file, its sizes read from the shapes; every tensor must belong to one."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open cannot be iterated
    found = {}
    for prefix, (config, network) in PREFIXES.items():
        state = {k.removeprefix(prefix): tensors.pop(k) for k in list(tensors) if k.startswith(prefix)}
        with torch.device("meta"):
            net = network(config.from_shapes({k: tuple(v.shape) for k, v in state.items()}))
        net.load_state_dict(state, strict=True, assign=True)
        found[prefix] = net
    assert not tensors
    return found


def test_an_untrained_file_loads_strictly_and_names_its_sizes(tmp_path: Path):
    torch.manual_seed(0)
    parts = (new_unet().state_dict(), new_vae().state_dict(), TextEncoder(TEXT).state_dict())
    tensors = assemble(*parts)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata({"unet": 0}, 0))
    assert path.stat().st_size < LIMIT
    nets = load_strictly(path)
    assert nets["model.diffusion_model."].config == UNET
    assert nets["first_stage_model."].config == VAE_CONFIG
    assert nets["cond_stage_model.transformer."].config == TEXT
    assert {t.dtype for t in tensors.values()} == {torch.float16}


def test_folding_keeps_the_function_and_gives_latents_unit_variance():
    torch.manual_seed(1)
    trained = new_vae()
    with torch.no_grad():  # residuals start at zero, which would hide mistakes in them
        for name, parameter in trained.named_parameters():
            parameter.add_(0.05 * torch.randn_like(parameter) if "norm" not in name else 0)
    x = torch.rand(8, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        mean, logvar = trained.encode(x)
        centre, spread = mean.mean(dim=(0, 2, 3)), mean.std(dim=(0, 2, 3))
        usual = VAE(VAE_CONFIG)  # norms with an eps of 1e-6
        usual.load_state_dict(folded(trained.state_dict(), centre, spread, SCALE_FACTOR))
        new_mean, new_logvar = usual.encode(x)
        scaled = new_mean * SCALE_FACTOR
        assert torch.allclose(scaled.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3)
        assert torch.allclose(scaled.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
        noise = (new_logvar.mul(0.5).exp() * SCALE_FACTOR) * spread[:, None, None]
        assert torch.allclose(noise, logvar.mul(0.5).exp(), rtol=1e-3)
        assert torch.allclose(usual.decode(new_mean), trained.decode(mean), atol=2e-3)


def test_a_restored_run_is_the_file_it_came_from(tmp_path: Path):
    torch.manual_seed(0)
    usual = folded(new_vae().state_dict(), torch.zeros(4), torch.ones(4) / SCALE_FACTOR, SCALE_FACTOR)
    tensors = assemble(new_unet().state_dict(), usual, TextEncoder(TEXT).state_dict())
    save_file(tensors, tmp_path / "model.safetensors", metadata({"unet": 0}, 0))
    restore(tmp_path / "model.safetensors", tmp_path / "runs")
    vae = torch.load(tmp_path / "runs" / "vae" / "checkpoint.pt", weights_only=True)["mean"]
    again = assemble(
        torch.load(tmp_path / "runs" / "unet" / "checkpoint.pt", weights_only=True)["mean"],
        folded(vae, torch.zeros(4), torch.ones(4) / SCALE_FACTOR, SCALE_FACTOR),
        trained_encoder(tmp_path / "runs").state_dict(),
    )
    rows = {k for k in tensors if "token_embedding" in k}  # other spellings get their word's row
    assert again.keys() == tensors.keys()
    for name in again.keys() - rows:
        assert torch.allclose(again[name], tensors[name], rtol=2e-3, atol=1e-7), name
    with pytest.raises(FileExistsError, match="already holds a run"):
        restore(tmp_path / "model.safetensors", tmp_path / "runs")


@pytest.mark.skipif(not TARGET.exists(), reason="this checkout has no bundled model")
def test_the_bundled_file_is_small_loads_strictly_and_says_what_it_is():
    assert TARGET.stat().st_size <= LIMIT
    nets = load_strictly(TARGET)
    assert nets["model.diffusion_model."].config == UNET
    assert all(torch.isfinite(p).all() for net in nets.values() for p in net.parameters())
    with safe_open(TARGET, "pt") as file:
        about = file.metadata()
    assert about["modelspec.license"] == "Apache-2.0"
    assert about["modelspec.resolution"] == "128x128"
    assert about["modelspec.prediction_type"] == "epsilon"
