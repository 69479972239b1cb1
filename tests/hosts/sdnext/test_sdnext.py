"""SD.Next's list with ours in it, and our scheduler classes in its loop, against a double of its interface."""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
from collections import namedtuple
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from sigmagraft.samplers import SAMPLERS, drive

OURS = "sigmagraft.hosts.sdnext"
NAMES = ["Default", "── Euler ──", "Euler", "Euler a", "UniPC", "DPM++ 2M", "LMS"]
ALL = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
SD = {**ALL, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


class Host:
    """The lists, and how a sampler comes of a scheduler class: what its signature knows of the config it is given."""

    def __init__(self) -> None:
        names = ("sd_samplers", "sd_samplers_diffusers", "script_callbacks")
        self.modules: dict[str, Any] = {f"modules.{name}": ModuleType(f"modules.{name}") for name in names}
        self.lists, self.diffusers, callbacks = self.modules.values()
        root: Any = ModuleType("modules")
        root.__path__ = []
        for name in names:
            setattr(root, name, self.modules[f"modules.{name}"])
        self.modules["modules"] = root
        self.unloaded: list[Any] = []
        callbacks.on_script_unloaded = self.unloaded.append
        data = self.diffusers.SamplerData = namedtuple("SamplerData", "name, constructor, aliases, options")
        self.diffusers.samplers_data_diffusers = [data(name, None, [], {}) for name in NAMES]
        self.diffusers.config = {"All": {**ALL, "prediction_type": "epsilon"}}
        self.diffusers.DiffusionSampler = self._sampler()
        self.sigma, self.sent = "default", {}

        def list_samplers() -> None:
            self.lists.all_samplers = [*self.diffusers.samplers_data_diffusers]

        self.lists.list_samplers = list_samplers
        list_samplers()

    def _sampler(host: Host) -> type:
        class DiffusionSampler:
            def __init__(self, name: str, constructor: Any, model: Any) -> None:
                config = {**host.diffusers.config["All"], **model, **host.diffusers.config.get(name, {})}
                if host.sigma == "karras" and "use_karras_sigmas" in config:
                    config["use_karras_sigmas"] = True
                known = inspect.signature(constructor, follow_wrapped=True).parameters
                self.sampler = constructor(**{key: value for key, value in config.items() if key in known})
                self.sampler.name = name

        return DiffusionSampler

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.lists.all_samplers]

    def create(self, name: str) -> Any:
        return next(e for e in self.lists.all_samplers if e.name == name).constructor(SD).sampler


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host()
    for name, module in made.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules.pop(OURS, None)
    importlib.import_module(OURS).start()
    yield made
    sys.modules.pop(OURS, None)


def test_ours_stand_under_a_heading_and_the_hosts_stay(host: Host) -> None:
    assert host.names[: len(NAMES)] == NAMES
    ours = host.names[len(NAMES) + 1 :]
    assert {"RES 2M", "DEIS", "SA-Solver", "Gradient Estimation"} <= set(ours)
    assert not set(ours) & {"Euler", "UniPC", "Heun", "RK4", "DPM adaptive", "TCD", "DPM++ 2M exact"}
    assert len(set(host.names)) == len(host.names)


def test_a_reload_leaves_one_of_each_and_a_stop_none(host: Host) -> None:
    before = list(host.names)
    for leave in host.unloaded:
        leave()
    assert (host.names, list(host.diffusers.config)) == (NAMES, ["All"])
    for _ in range(2):
        importlib.import_module(OURS).start()
    assert host.names == before


@pytest.mark.parametrize("sigma", ["default", "karras"])
def test_every_one_walks_in_the_hosts_loop(host: Host, sigma: str) -> None:
    """Timestep by timestep it is the sampler, alone on the same sigmas; a copy of it, as the host makes, too."""
    host.sigma = sigma
    for name in host.names[len(NAMES) + 1 :]:
        spec, scheduler = SAMPLERS[name], copy.deepcopy(host.create(name))
        scheduler.set_timesteps(6)
        start = (
            torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
        )
        x, sigmas = start, scheduler.sigmas.tolist()
        generator, alike = (torch.Generator().manual_seed(2) for _ in range(2))
        for t in scheduler.timesteps:
            output = torch.sin(scheduler.scale_model_input(x, t))
            x = scheduler.step(output, t, x, generator=generator, return_dict=False)[0]

        def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
            return x - sigma * torch.sin(x / (1 + sigma**2) ** 0.5)

        def noise(sigma: float, sigma_next: float) -> torch.Tensor:
            return torch.randn(start.shape, generator=alike)  # noqa: B023

        alone = drive(spec, denoise, start, sigmas, levels=scheduler._space.levels, noise=noise)
        torch.testing.assert_close(
            x, alone, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
