"""Small doubles of the web UIs' extension interface, for the registration code: what each host does, and no more.

Written from observed behaviour. `FAMILY` says where the four differ; `WebUI` is one of them in a process, as modules
under the names that an extension imports.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

TABLE = (
    ((1 - (a := torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2, 0))) / a)
    ** 0.5
).float()


@dataclass(frozen=True)
class Kind:
    """Where a host differs from the others."""

    samplers: dict[str, str]
    schedulers: dict[str, str]
    keeps_path: bool  # every extension's folder stays on sys.path
    hides_schedulers: bool  # a filtered list beside the whole one
    linker: bool  # inner_model carries a predictor
    cased: bool = True  # whether the parser of "SAMPLER SCHEDULE" minds capitals


_OLD = {
    "DPM++ 2M": "k_dpmpp_2m",
    "DPM++ 2M SDE": "k_dpmpp_2m_sde",
    "Euler a": "k_euler_a",
    "Euler": "k_euler",
    "Heun": "k_heun",
    "DPM fast": "k_dpm_fast",
    "Restart": "restart",
    "DDIM": "ddim",
    "LCM": "k_lcm",
}
_BASE = {
    "automatic": "Automatic",
    "uniform": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "normal": "Normal",
    "ddim": "DDIM",
    "beta": "Beta",
}
FAMILY = {
    "a1111": Kind(_OLD, _BASE, keeps_path=False, hides_schedulers=False, linker=False),
    "reforge": Kind(
        {**_OLD, "SEEDS 2 DP": "seeds_2_dp", "Euler A Turbo": "euler_a_turbo"},
        {**_BASE, "cosine": "Cosine", "phi": "Phi", "laplace": "Laplace"},
        keeps_path=True, hides_schedulers=False, linker=False, cased=False,
    ),
    "forge": Kind({**_OLD, "DEIS": "deis"}, {**_BASE, "turbo": "Turbo"}, True, False, True),
    "neo": Kind({**_OLD, "ER SDE": "er_sde"}, {**_BASE, "bong_tangent": "Bong Tangent"}, True, True, True),
}  # fmt: skip


class Rng:
    """Per-image generators; the first draw is the start noise."""

    def __init__(self, shape: tuple[int, ...], seeds: list[int], ensd: int = 0) -> None:
        self.shape, self.seeds, self.ensd, self.is_first = shape, seeds, ensd, True
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def next(self) -> Tensor:
        noise = torch.stack([torch.randn(self.shape, generator=g) for g in self.generators])
        if self.is_first and self.ensd:
            self.generators = [torch.Generator().manual_seed(seed + self.ensd) for seed in self.seeds]
        self.is_first = False
        return noise


class Predictor:
    def __init__(self, flow: bool) -> None:
        self.prediction_type = "const" if flow else "epsilon"
        self.sigmas = (
            torch.arange(1, 1001) / 1000 * 3 / (1 + torch.arange(1, 1001) / 1000 * 2) if flow else TABLE
        )


class Denoiser:
    """What a sampler is given as the model: x + sigma -> denoised, counting, interruptible."""

    def __init__(self, host: WebUI, sampler: Any) -> None:
        self.host, self.sampler, self.p, self.step = host, sampler, None, 0
        predictor = Predictor(host.flow)
        self.inner_model = SimpleNamespace(sigmas=predictor.sigmas, inner_model=SimpleNamespace())
        if host.kind.linker:
            self.inner_model.predictor = predictor
        elif host.flow:
            self.inner_model.inner_model.add_noise_to_latent = lambda x, noise, amount: None

    def __call__(self, x: Tensor, sigma: Tensor, cond_scale: float = 1.0) -> Tensor:
        if self.host.interrupt_at == self.step:
            raise self.host.Interrupted
        self.step += 1
        return x / (1 + sigma[0] ** 2)


class WebUI:
    """One host in this process. `install()` puts its modules under their names."""

    class Interrupted(BaseException):
        """As the hosts', no Exception."""

    def __init__(self, name: str, flow: bool = False) -> None:
        self.name, self.kind, self.flow = name, FAMILY[name], flow
        self.interrupt_at = -1
        self.callbacks: dict[str, list[Callable[..., Any]]] = {}
        self.scripts: list[Any] = []
        self.warnings: list[str] = []
        self.modules = _modules(self)

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["modules"][f"modules.{name}"]

    def install(self, set_module: Callable[[str, ModuleType], None]) -> None:
        for name, module in self.modules.items():
            set_module(name, module)

    def load_extensions(self, *folders: Path) -> None:
        """As the hosts do at a start and a reload: unload, then run each scripts/*.py as a module of no name."""
        for callback in reversed(self.callbacks.pop("script_unloaded", [])):
            callback()
        self.callbacks.clear()
        self.scripts.clear()
        before = list(sys.path)
        if self.kind.keeps_path:
            sys.path[:0] = [str(folder) for folder in reversed(folders)]
        for folder in folders:
            kept = list(sys.path)
            sys.path.insert(0, str(folder))
            for file in sorted(folder.glob("scripts/*.py")):
                self._run(file)
            sys.path[:] = kept
        if not self.kind.keeps_path:
            assert sys.path == before
        self.call("before_ui")

    def _run(self, file: Path) -> None:
        spec = importlib.util.spec_from_file_location("demo_script.py", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        base = self.modules["modules.scripts"].Script
        self.scripts += [
            found for found in vars(module).values() if inspect.isclass(found) and issubclass(found, base)
        ]

    def call(self, event: str, *args: Any) -> None:
        for callback in self.callbacks.get(event, []):
            callback(*args)

    def generate(
        self, sampler: str, seeds: list[int], steps: int = 6, args: tuple[Any, ...] = (), **p: Any
    ) -> Any:
        """A txt2img as the hosts do it, through the script's callbacks and the sampler's entry. p, with p.samples."""
        shape = (4, 8, 8)
        defaults = {"scheduler": "Automatic", "is_hr_pass": False, "cfg_scale": 5.0, "ensd": 0}
        made = SimpleNamespace(sampler_name=sampler, extra_generation_params={}, **{**defaults, **p})
        made.rng = Rng(shape, seeds, made.ensd)
        scripts = [(kind(), args if kind is self.scripts[0] else ()) for kind in self.scripts]
        for script, own in scripts:
            script.process(made, *own)
        entry = self.sd_samplers.all_samplers_map[sampler]
        made.sampler = built = entry.constructor(None)
        built.config = entry
        noise = made.rng.next()
        for script, own in scripts:
            script.process_before_every_sampling(made, *own, noise=noise)
        made.samples = built.sample(made, noise, steps)
        return made


def _modules(host: WebUI) -> dict[str, ModuleType]:
    names = ("sd_samplers", "sd_samplers_common", "sd_samplers_kdiffusion", "sd_schedulers", "shared",
             "scripts", "script_callbacks", "rng", "paths")  # fmt: skip
    made = {f"modules.{name}": ModuleType(f"modules.{name}") for name in names}
    root = ModuleType("modules")
    root.__path__ = []  # type: ignore[attr-defined]
    for name in names:
        setattr(root, name, made[f"modules.{name}"])
    host.__dict__["modules"] = made
    _shared(made["modules.shared"])
    made["modules.shared"].cmd_opts = SimpleNamespace()
    models = getattr(sys.modules.get("modules.paths"), "models_path", "no_such_folder/models")  # a test's own
    vars(made["modules.paths"]).update(models_path=models, script_path="no_such_folder")
    _schedulers(made["modules.sd_schedulers"], host)
    _common(made["modules.sd_samplers_common"])
    _kdiffusion(made["modules.sd_samplers_kdiffusion"], host)
    _samplers(made["modules.sd_samplers"], host)
    _scripts(made["modules.scripts"], made["modules.script_callbacks"], host)
    made["modules.rng"].randn_without_seed = lambda shape, generator=None: torch.randn(
        shape, generator=generator
    )
    return {"modules": root, **made, "gradio": _gradio(host)}


def _shared(module: Any) -> None:
    class OptionInfo:
        def __init__(
            self, default: Any, label: str, component: Any, args: Any = None, section: Any = None
        ) -> None:
            self.default, self.label, self.component_args, self.section = default, label, args, section

        def needs_reload_ui(self) -> OptionInfo:
            return self

    def add_option(name: str, info: OptionInfo) -> None:
        module.opts.data_labels[name] = info
        module.opts.data.setdefault(name, info.default)

    module.OptionInfo = OptionInfo
    module.opts = SimpleNamespace(
        data={}, data_labels={}, add_option=add_option, hide_samplers=[], hide_schedulers=[]
    )


def _schedulers(module: Any, host: WebUI) -> None:
    @dataclass
    class Scheduler:
        name: str
        label: str
        function: Any
        default_rho: float = -1
        need_inner_model: bool = False
        aliases: Any = None

    def plain(n: int, sigma_min: float, sigma_max: float, device: Any) -> Tensor:
        return torch.cat([torch.linspace(sigma_max, sigma_min, n), torch.zeros(1)])

    whole = [
        Scheduler(n, label, None if n == "automatic" else plain) for n, label in host.kind.schedulers.items()
    ]
    hidden = host.shared.opts.hide_schedulers
    module.Scheduler = Scheduler
    module.schedulers = [s for s in whole if s.label not in hidden] if host.kind.hides_schedulers else whole
    if host.kind.hides_schedulers:
        module.all_schedulers = whole
    module.schedulers_map = {key: s for s in module.schedulers for key in (s.name, s.label)}


def _common(module: Any) -> None:
    class SamplerData(namedtuple("SamplerData", ["name", "constructor", "aliases", "options"])):
        def total_steps(self, steps: int) -> int:
            return steps * 2 if self.options.get("second_order", False) else steps

    module.SamplerData = SamplerData


def _kdiffusion(module: Any, host: WebUI) -> None:
    class KDiffusionSampler:
        def __init__(self, funcname: Any, sd_model: Any, options: Any = None) -> None:
            self.func, self.config, self.last_latent, self.steps_told = funcname, None, None, []
            self.model_wrap_cfg = Denoiser(host, self)
            self.model_wrap = self.model_wrap_cfg.inner_model

        def get_sigmas(self, p: Any, steps: int) -> Tensor:
            name = self.config.options.get("scheduler") if p.scheduler == "Automatic" else p.scheduler
            found = host.sd_schedulers.schedulers_map[name]
            p.extra_generation_params["Schedule type"] = found.label
            low, high = self.model_wrap.sigmas[0].item(), self.model_wrap.sigmas[-1].item()
            extra = {"inner_model": self.model_wrap} if found.need_inner_model else {}
            return found.function(n=steps, sigma_min=low, sigma_max=high, device="cpu", **extra)

        def sample(self, p: Any, x: Tensor, steps: int) -> Tensor:
            sigmas = self.get_sigmas(p, steps)
            self.model_wrap_cfg.p = p
            known = inspect.signature(self.func).parameters
            # whatever a host knows by name it fills with its own global value
            extra = {
                name: value
                for name, value in {"eta": 1.0, "s_noise": 1.0, "n": steps}.items()
                if name in known
            }
            self.total = self.config.total_steps(steps)
            self.last_latent = x * sigmas[0]
            try:
                return self.func(self.model_wrap_cfg, self.last_latent, sigmas=sigmas, extra_args={"cond_scale": 2.0},
                                 disable=False, callback=self.steps_told.append, **extra)  # fmt: skip
            except host.Interrupted:
                return self.last_latent

    module.KDiffusionSampler = KDiffusionSampler


def _samplers(module: Any, host: WebUI) -> None:
    def entry(name: str, alias: str) -> Any:
        return host.sd_samplers_common.SamplerData(name, lambda model: None, [alias], {})

    module.all_samplers = [entry(name, alias) for name, alias in host.kind.samplers.items()]
    module.all_samplers_map = {s.name: s for s in module.all_samplers}

    def set_samplers() -> None:
        module.samplers = module.samplers_for_img2img = module.all_samplers
        module.samplers_map = {
            word.lower(): s.name for s in module.all_samplers for word in (s.name, *s.aliases)
        }

    fold = (lambda text: text) if host.kind.cased else str.lower

    @functools.cache
    def get_sampler_and_scheduler(sampler: str | None, scheduler: str | None) -> tuple[str, str]:
        default, found = module.samplers[0], host.sd_schedulers.schedulers_map.get(scheduler)
        name = sampler or default.name
        for one in host.sd_schedulers.schedulers:
            for word in (one.label, one.name, *(one.aliases or [])):
                if fold(name).endswith(" " + fold(word)):
                    found, name = one, name[: -len(word) - 1]
                    break
        chosen = module.all_samplers_map.get(name, default)
        return chosen.name, (found or host.sd_schedulers.schedulers[0]).label

    module.set_samplers, module.get_sampler_and_scheduler = set_samplers, get_sampler_and_scheduler
    set_samplers()


def _scripts(module: Any, callbacks: Any, host: WebUI) -> None:
    class Script:
        is_img2img = False

        def elem_id(self, name: str) -> str:
            return f"script_{name}"

    class AxisOption:
        def __init__(self, label: str, type: Any, apply: Any, choices: Any = None) -> None:
            self.label, self.type, self.apply, self.choices = label, type, apply, choices

    grid = SimpleNamespace(AxisOption=AxisOption, axis_options=[AxisOption("Nothing", str, None)])
    module.Script, module.AlwaysVisible = Script, object()
    module.scripts_data = [SimpleNamespace(module=grid)]
    host.__dict__["grid"] = grid
    for event in ("before_ui", "ui_settings", "infotext_pasted", "script_unloaded"):
        setattr(
            callbacks,
            f"on_{event}",
            lambda call, event=event: host.callbacks.setdefault(event, []).append(call),
        )


def _gradio(host: WebUI) -> ModuleType:
    module: Any = ModuleType("gradio")

    class Component:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.value, self.kwargs, self.changes = kwargs.get("value"), kwargs, []

        def __enter__(self) -> Component:
            return self

        def __exit__(self, *raised: object) -> None:
            pass

        def change(self, **kwargs: Any) -> None:
            self.changes.append(kwargs)

    for name in (
        "Accordion",
        "Row",
        "Textbox",
        "Dropdown",
        "Slider",
        "Image",
        "HTML",
        "Checkbox",
        "CheckboxGroup",
    ):
        setattr(module, name, Component)
    module.Warning = host.warnings.append
    return module


def ours(host: WebUI) -> Iterator[Any]:
    return (entry for entry in host.sd_samplers.all_samplers if hasattr(entry, "sigmagraft_offer"))
