"""A model with a known answer, and k-diffusion as an independent implementation."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sigmagraft.samplers import NoiseLevels


class Mixture:
    """Gaussian mixture data: x given component k is N(alpha m_k, alpha^2 s_k^2 + sigma^2), so the denoiser is known.

    It works on the last dimension.
    """

    def __init__(self, levels: NoiseLevels, size: int = 6, components: int = 5, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        draw = {"generator": generator, "dtype": torch.float64}
        self.levels = levels
        self.means = torch.randn(components, size, **draw)
        self.variances = 0.05 + 0.3 * torch.rand(components, **draw)
        self.logits = torch.randn(components, **draw)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        alpha = self.levels.alpha(sigma)
        variance = (alpha**2 * self.variances + sigma**2).to(x)
        means = self.means.to(x)
        away = x.unsqueeze(-2) - alpha * means
        size = x.shape[-1]
        logits = self.logits.to(x) - 0.5 * (away.square().sum(-1) / variance + size * variance.log())
        shrink = alpha * self.variances.to(x) / variance
        return (logits.softmax(-1).unsqueeze(-1) * (means + shrink.unsqueeze(-1) * away)).sum(-2)


@pytest.fixture(params=["ve", "flow"])
def levels(request: pytest.FixtureRequest) -> NoiseLevels:
    """Both processes."""
    return NoiseLevels.discrete() if request.param == "ve" else NoiseLevels.flow(shift=3.0)


@pytest.fixture
def mixture(levels: NoiseLevels) -> Mixture:
    return Mixture(levels)


@pytest.fixture(scope="session")
def make_mixture() -> type[Mixture]:
    return Mixture


@pytest.fixture(scope="session")
def k_diffusion() -> types.SimpleNamespace:
    """k_diffusion.sampling and .external alone: the package's __init__ asks for far more than they need."""
    found = importlib.util.find_spec("k_diffusion")
    if found is None or not found.submodule_search_locations:
        pytest.skip("k-diffusion is not installed (pip install k-diffusion --no-deps)")
    folder = Path(found.submodule_search_locations[0])
    package = types.ModuleType("k_diffusion_oracle")
    package.__path__ = []
    utils = types.ModuleType("k_diffusion_oracle.utils")
    utils.append_dims = lambda x, ndim: x[(...,) + (None,) * (ndim - x.ndim)]
    package.utils = utils
    modules = {"k_diffusion_oracle": package, "k_diffusion_oracle.utils": utils}
    for name in ("torchdiffeq", "torchsde"):
        if importlib.util.find_spec(name) is None:  # used by functions that no test here calls
            modules[name] = types.ModuleType(name)
            modules[name].odeint = None
    sys.modules.update(modules)
    try:
        for name in ("sampling", "external"):
            spec = importlib.util.spec_from_file_location(f"k_diffusion_oracle.{name}", folder / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            setattr(package, name, module)
            modules[module.__name__] = sys.modules[module.__name__] = module
            spec.loader.exec_module(module)
    except ImportError as error:
        pytest.skip(f"k-diffusion's sampling.py needs what is not installed: {error}")
    finally:
        for name in modules:
            sys.modules.pop(name, None)
    return types.SimpleNamespace(sampling=package.sampling, external=package.external)
