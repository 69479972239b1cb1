"""Configs: printed, frozen, from class to class, from and to files, as diffusers has them."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import sigmagraft
from sigmagraft import schedulers
from sigmagraft.core.errors import FileError, OptionError

from .peers import CLASSES, SD, SHAPE, made

pytestmark = pytest.mark.filterwarnings("ignore")
every = pytest.mark.parametrize("name", CLASSES)
# what the scheduler of Stable Diffusion 1.5 says of itself on the hub (seeds H12, H13)
SD15 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
# the fourteen of seeds H17, and EDMEuler, which diffusers has added since
KIN = set(
    [
        "DPMSolverSDE",
        "EulerDiscrete",
        "LMSDiscrete",
        "DDIM",
        "DDPM",
        "HeunDiscrete",
        "DPMSolverMultistep",
        "DEISMultistep",
        "PNDM",
        "EulerAncestralDiscrete",
        "UniPCMultistep",
        "KDPM2Discrete",
        "DPMSolverSinglestep",
        "KDPM2AncestralDiscrete",
    ]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(SD15))
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps diffusers' constructors from laying out all of training first."""
    for name in ("LMSDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"):
        kind = getattr(diffusers, f"{name}Scheduler")
        monkeypatch.setattr(
            kind, "set_timesteps", lambda self, *_, **__: setattr(self, "sigmas", torch.zeros(1))
        )


def known(name: str, **entries: Any) -> dict[str, Any]:
    """Of Stable Diffusion's entries and these, those of the class."""
    return {k: v for k, v in {**SD, **entries}.items() if k in getattr(schedulers, name).row.defaults}


def comparable(config: Any) -> dict[str, Any]:
    """Without what says which library it was, and in the order of neither."""
    plain = {k: v for k, v in dict(config).items() if k != "_diffusers_version"}
    plain["_use_default_values"] = sorted(plain.get("_use_default_values", []))
    plain.pop("_class_name", None)
    return plain


def test_the_root_offers_every_class() -> None:
    assert set(CLASSES) == {name for name in sigmagraft.__all__ if name.endswith("Scheduler")}
    assert set(CLASSES) <= set(schedulers.__all__)
    for name in CLASSES:
        assert getattr(sigmagraft, name) is getattr(schedulers, name)


@every
def test_signatures_are_diffusers(name: str) -> None:
    """Pipelines look at signatures to decide what to pass."""
    ours, theirs = getattr(schedulers, name), getattr(diffusers, name)
    for method in ("__init__", "set_timesteps", "step"):
        mine, other = (inspect.signature(getattr(c, method)).parameters for c in (ours, theirs))
        wanted = [p for p in other.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        assert list(mine)[:3] == [p.name for p in wanted][:3]
        assert set(mine) == {p.name for p in wanted}, method
        for p in wanted:
            if p.name != "num_inference_steps":
                assert mine[p.name].default == p.default, (method, p.name)
    assert list(inspect.signature(ours.__init__).parameters) == [
        p for p in inspect.signature(theirs.__init__).parameters if p != "kwargs"
    ]


@every
def test_attributes_are_diffusers(name: str) -> None:
    ours, theirs = getattr(schedulers, name)(), made(getattr(diffusers, name), {})
    assert ours.order == theirs.order
    assert len(ours) == len(theirs)
    for table in ("betas", "alphas", "alphas_cumprod"):
        if hasattr(theirs, table) and name != "IPNDMScheduler":
            torch.testing.assert_close(getattr(ours, table), getattr(theirs, table), rtol=1e-5, atol=1e-7)
    if hasattr(theirs, "final_alpha_cumprod"):
        assert ours.final_alpha_cumprod.item() == pytest.approx(theirs.final_alpha_cumprod.item(), rel=1e-6)
    assert ours.num_inference_steps is None
    if name in ("DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"):
        assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    for spacing in ("linspace", "leading"):
        config = {"timestep_spacing": spacing} if "timestep_spacing" in ours.config else {}
        if name == "DDIMInverseScheduler":
            continue
        pair = getattr(schedulers, name)(**config), made(getattr(diffusers, name), config)
        for scheduler in pair:
            scheduler.set_timesteps(10)
        if hasattr(theirs, "init_noise_sigma"):
            assert pair[0].init_noise_sigma == pytest.approx(float(pair[1].init_noise_sigma), rel=1e-5)


def test_printing(folder: Path) -> None:
    """As people see it in the guides."""
    scheduler = schedulers.PNDMScheduler.from_pretrained(folder, subfolder="scheduler")
    text = repr(scheduler)
    assert text.startswith('PNDMScheduler {\n  "_class_name": "PNDMScheduler",\n')
    assert '\n  "skip_prk_steps": true,\n  "steps_offset": 1,\n  "timestep_spacing": "leading",\n' in text
    assert "_use_default_values" not in text
    assert repr(scheduler.config).startswith("FrozenDict({")
    theirs = diffusers.PNDMScheduler.from_pretrained(folder, subfolder="scheduler")
    mine, other = (json.loads(s.to_json_string()) for s in (scheduler, theirs))
    assert {**mine, "_diffusers_version": ""} == {**other, "_diffusers_version": ""}


def test_the_config_is_frozen(folder: Path) -> None:
    config = schedulers.PNDMScheduler.from_pretrained(folder / "scheduler").config
    assert config["beta_end"] == config.beta_end == config.get("beta_end") == 0.012
    assert config.prediction_type == "epsilon"
    assert sorted(config["_use_default_values"]) == ["prediction_type", "timestep_spacing"]
    assert not hasattr(config, "no_such_entry")
    assert isinstance(config, dict)
    for change in (
        lambda: config.update(beta_end=1),
        lambda: config.pop("beta_end"),
        lambda: config.__setitem__("beta_end", 1),
        lambda: setattr(config, "beta_end", 1),
        lambda: config.__delitem__("beta_end"),
        lambda: config.setdefault("new", 1),
        lambda: config.clear(),
    ):
        with pytest.raises(OptionError, match=r"from_config\(config, name=value\)"):
            change()
    assert {**config, "beta_end": 1}["beta_end"] == 1


def test_compatibles(folder: Path) -> None:
    scheduler = schedulers.PNDMScheduler.from_pretrained(folder, subfolder="scheduler")
    names = [kind.__name__.removesuffix("Scheduler") for kind in scheduler.compatibles]
    assert len(names) == len(set(names))
    assert set(names) >= KIN
    theirs = diffusers.PNDMScheduler.from_pretrained(folder, subfolder="scheduler").compatibles
    assert {f"{name}Scheduler" for name in names} >= {
        kind.__name__ for kind in theirs if kind.__name__ in CLASSES
    }
    assert all(issubclass(kind, schedulers.Scheduler) for kind in scheduler.compatibles)
    assert [kind.__name__ for kind in schedulers.TCDScheduler().compatibles] == ["TCDScheduler"]


def test_from_any_class_to_any_class(quick: None) -> None:
    """The same config at the end, its defaults and what was put aside, as diffusers makes of it."""
    given = {
        "num_train_timesteps": 500,
        "prediction_type": "v_prediction",
        "use_karras_sigmas": True,
        "solver_order": 3,
    }
    for first in CLASSES:
        made = {
            library: getattr(library, first)(**known(first, **given)) for library in (schedulers, diffusers)
        }
        for second in CLASSES:
            ours, theirs = (
                getattr(library, second).from_config(each.config) for library, each in made.items()
            )
            assert comparable(ours.config) == comparable(theirs.config), (first, second)


def test_entries_of_other_classes_come_back(folder: Path) -> None:
    """Kept aside from class to class: the last has what the first was given."""
    pndm = schedulers.PNDMScheduler.from_pretrained(folder, subfolder="scheduler")
    euler = schedulers.EulerDiscreteScheduler.from_config(pndm.config)
    assert euler.config.timestep_spacing == "linspace"  # PNDM's leading was its default only
    assert euler.config.steps_offset == 1
    assert euler.config.skip_prk_steps is True
    back = schedulers.PNDMScheduler.from_config(euler.config)
    assert back.config.skip_prk_steps is True
    assert back.config.timestep_spacing == "leading"
    assert schedulers.DDIMScheduler.from_config(euler.config).config.clip_sample is False


@every
def test_entries_of_other_classes_change_nothing(name: str) -> None:
    """Whatever they say: kept, and not heeded. But for the model's range of sigma, which counts in every class."""
    kind, odd = (
        getattr(schedulers, name),
        {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v / 2},
    )
    foreign = {
        key: odd[type(value)](value) if type(value) in odd else "odd"
        for other in CLASSES
        for key, value in getattr(schedulers, other).row.defaults.items()
        if key not in kind.row.defaults and key not in ("sigma_min", "sigma_max")
    }
    plain, laden = kind(), kind.from_config({**kind().config, **foreign})
    ends = []
    for scheduler in (plain, laden):
        scheduler.set_timesteps(5)
        scheduler.noise_sampler = lambda a, b: torch.ones(SHAPE)
        x = torch.ones(SHAPE)
        for t in scheduler.timesteps:
            x = scheduler.step(scheduler.scale_model_input(x, t) * 0.5, t, x).prev_sample
        ends.append(x)
    assert plain.timesteps.tolist() == laden.timesteps.tolist()
    assert plain.sigmas.tolist() == laden.sigmas.tolist()
    assert torch.equal(*ends)
    assert set(foreign) <= set(laden.config)


def test_values_of_other_classes(folder: Path) -> None:
    """A solver_type that is UniPC's becomes what the class has instead."""
    unipc = schedulers.UniPCMultistepScheduler(solver_type="bh1")
    dpm = schedulers.DPMSolverMultistepScheduler.from_config(unipc.config)
    assert dpm.config.solver_type == "midpoint"
    deis = schedulers.DEISMultistepScheduler.from_config(dpm.config)
    assert (deis.config.solver_type, deis.config.algorithm_type) == ("logrho", "deis")


def test_replacing_entries(caplog: pytest.LogCaptureFixture) -> None:
    config = schedulers.DDIMScheduler(**SD).config
    with caplog.at_level(logging.WARNING, "sigmagraft"):
        scheduler = schedulers.DPMSolverMultistepScheduler.from_config(config, use_karras_sigmas=True)
        assert scheduler.config.use_karras_sigmas is True
        assert caplog.records == []
        schedulers.DDIMScheduler.from_config({**config, "use_karas_sigmas": True})
        schedulers.DDIMScheduler.from_config(config, no_such_entry=1)
    assert ["use_karas_sigmas" in r.getMessage() for r in caplog.records] == [True, False]
    assert "no_such_entry" in caplog.records[1].getMessage()
    made, unused = schedulers.DDIMScheduler.from_config(config, return_unused_kwargs=True, other=1)
    assert isinstance(made, schedulers.DDIMScheduler)
    assert unused["other"] == 1


@every
def test_saved_by_ours_and_loaded_by_theirs_and_back(name: str, tmp_path: Path, quick: None) -> None:
    ours = getattr(schedulers, name)(**known(name, prediction_type="v_prediction"))
    ours.save_pretrained(tmp_path / "ours")
    theirs = getattr(diffusers, name).from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    back = getattr(schedulers, name).from_pretrained(str(tmp_path / "theirs"))
    mine, other, again = (json.loads(s.to_json_string()) for s in (ours, theirs, back))
    for saved in (mine, other, again):
        saved.pop("_diffusers_version", None)
    assert mine == other == again


def test_from_the_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    seen = {}

    def download(repo: str, name: str, **given: Any) -> str:
        seen.update(given, repo=repo)
        return str(folder / given["subfolder"] / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    scheduler = schedulers.DDIMScheduler.from_pretrained(
        "runwayml/stable-diffusion-v1-5", subfolder="scheduler", revision="main", use_safetensors=True
    )
    assert scheduler.config.steps_offset == 1
    assert caplog.records == []
    assert seen == {"repo": "runwayml/stable-diffusion-v1-5", "subfolder": "scheduler", "revision": "main"}


def test_files_that_are_not_there(folder: Path) -> None:
    with pytest.raises(FileError, match='pass subfolder="scheduler"'):
        schedulers.DDIMScheduler.from_pretrained(folder)
    (folder / "scheduler/scheduler_config.json").write_text("[]")
    with pytest.raises(FileError, match="not a JSON object"):
        schedulers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    (folder / "scheduler/scheduler_config.json").write_text("{")
    with pytest.raises(FileError, match="not readable as JSON"):
        schedulers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    (folder / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        schedulers.DDIMScheduler().save_pretrained(folder / "file")


@pytest.mark.parametrize(
    "error", ["RepositoryNotFoundError", "EntryNotFoundError", "LocalEntryNotFoundError", "ConnectionError"]
)
def test_failures_of_the_hub_are_one_line(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    kind = type(error, (Exception,), {})

    def download(*_: Any, **__: Any) -> str:
        raise kind("no")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(FileError, match="owner/name: ") as caught:
        schedulers.DDIMScheduler.from_pretrained("owner/name")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("DDIM", {"beta_schedule": "square"}, "linear or scaled_linear"),
        ("DDIM", {"prediction_type": "noise"}, "epsilon or sample"),
        ("DPMSolverMultistep", {"solver_type": "rk4"}, "midpoint or heun"),
        ("EulerDiscrete", {"use_karras_sigmas": True, "use_beta_sigmas": True}, "at most one"),
        ("SASolver", {"algorithm_type": "noise_prediction"}, "data_prediction"),
        ("DPMSolverMultistepInverse", {"algorithm_type": "sde-dpmsolver++"}, "dpmsolver or dpmsolver"),
    ],
)
def test_configs_that_cannot_be(name: str, config: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        getattr(schedulers, f"{name}Scheduler")(**config)


@pytest.mark.parametrize(
    ("name", "config", "arguments", "words"),
    [
        ("DDIM", {}, {"num_inference_steps": 0}, "1 or more"),
        ("DDIM", {}, {"num_inference_steps": 1001}, "1 to 1000"),
        ("DDIM", {"timestep_spacing": "middle"}, {"num_inference_steps": 5}, "linspace, leading or trailing"),
        ("DDPM", {}, {"timesteps": [5, 10]}, "falling numbers"),
        ("EulerDiscrete", {}, {"num_inference_steps": 5, "timesteps": [5, 1]}, "exactly one"),
        ("EulerDiscrete", {}, {}, "exactly one"),
        ("EulerDiscrete", {}, {"sigmas": [1.0, 2.0, 0.0]}, "rises above"),
        ("EulerDiscrete", {"use_karras_sigmas": True}, {"timesteps": [5, 1]}, "use_karras_sigmas=False"),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}, {"num_inference_steps": 4}, "no mu="),
        ("DPMSolverMultistep", {}, {"num_inference_steps": 4, "mu": 1.0}, "without use_dynamic_shifting"),
        ("UniPCMultistep", {}, {"sigmas": [0.9, 0.5]}, "without use_flow_sigmas"),
        ("UniPCMultistep", {"disable_corrector": [3]}, {"num_inference_steps": 4}, "the first steps"),
        ("LCM", {}, {"num_inference_steps": 60}, "distilled"),
        (
            "DPMSolverMultistep",
            {"use_karras_sigmas": True, "use_flow_sigmas": True, "solver_order": 4},
            {"num_inference_steps": 4},
            "1 to 3",
        ),
    ],
)
def test_runs_that_cannot_be(
    name: str, config: dict[str, Any], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        getattr(schedulers, f"{name}Scheduler")(**config).set_timesteps(**arguments)


def test_a_prediction_that_says_nothing_is_refused() -> None:
    """At alpha 0 the noise is the sample, and x0 could be anything; diffusers gives NaN."""
    scheduler = schedulers.DDIMScheduler(**SD, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler.set_timesteps(5)
    with pytest.raises(OptionError, match=r"'eps'.*sample or.*v_prediction"):
        scheduler.step(torch.ones(SHAPE), scheduler.timesteps[0], torch.ones(SHAPE))


def test_copies() -> None:
    scheduler = schedulers.DPMSolverMultistepScheduler(**SD)
    scheduler.set_timesteps(4)
    for twin in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(schedulers.DDIMScheduler(**SD)))):
        twin.set_timesteps(4)
        assert twin.config.beta_end == 0.012
        assert twin.step(torch.ones(SHAPE), twin.timesteps[0], torch.ones(SHAPE)).prev_sample.shape == SHAPE
