"""Every node as the page and the host's checks read it, and what each gives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.hosts.comfyui.fields import BOUNDLESS, field_of, values_of
from sigmagraft.hosts.comfyui.function import choice_of
from sigmagraft.hosts.comfyui.nodes import node_table
from sigmagraft.hosts.comfyui.noise_nodes import NoiseNode
from sigmagraft.hosts.comfyui.restart_nodes import segments_of
from sigmagraft.hosts.comfyui.schedule_nodes import schedule_id
from sigmagraft.samplers import (
    NOISE_TYPES,
    SAMPLERS,
    SCHEDULES,
    ImageNoise,
    NoiseLevels,
    Option,
    schedule,
    sigmas_at,
)

from . import double

NODES = {node.ID: node for node in node_table()}
FILE = Path(__file__).with_name("node_ids.txt")
MODELS = [
    (double.Discrete(), NoiseLevels.discrete()),
    (double.Flow(3.0), NoiseLevels.flow(3.0)),
    (double.ModelSamplingContinuousEDM(0.002, 700.0), NoiseLevels.edm(0.002, 700.0, 1.0)),
]
WIDGETS = {"STRING", "INT", "FLOAT", "BOOLEAN"}


def model(sampling: Any = None) -> Any:
    sampling = sampling or double.Discrete()
    return SimpleNamespace(get_model_object=lambda name: sampling)


def is_link(kind: str) -> bool:
    return kind not in WIDGETS


def defaults(node: Any) -> dict[str, Any]:
    """What a node just put on the canvas holds."""
    fields = {**node.INPUT_TYPES().get("required", {}), **node.INPUT_TYPES().get("optional", {})}
    found = {}
    for name, (kind, told) in fields.items():
        if isinstance(kind, str) and is_link(kind):
            continue
        found[name] = told.get("default", kind[0] if isinstance(kind, list) else None)
    return found


def test_saved_workflows_find_their_nodes() -> None:
    """An id once published stays. New ones are added to the file."""
    published = FILE.read_text().split()
    assert published == sorted(published)
    assert set(published) == set(NODES)


def test_ids_are_ours_alone() -> None:
    assert len(NODES) == len(list(node_table()))
    assert all(name.startswith("SigmaGraft") and name.replace("_", "").isalnum() for name in NODES)
    titles = [node.TITLE for node in NODES.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_fields_are_what_the_page_can_show(node: Any) -> None:
    types = node.INPUT_TYPES()
    json.dumps(types, allow_nan=False)
    for name, (kind, told) in {**types.get("required", {}), **types.get("optional", {})}.items():
        assert told["tooltip"], name
        if isinstance(kind, list):
            assert told.get("default", kind[0]) in kind
        elif kind in ("INT", "FLOAT"):
            assert told["min"] <= told["default"] <= told["max"]
            assert isinstance(told["default"], int if kind == "INT" else float)
        else:
            assert kind in {"STRING", "BOOLEAN"} or kind.isupper()
    assert node.DESCRIPTION
    assert node.CATEGORY.startswith("SigmaGraft")
    assert callable(getattr(node, node.FUNCTION))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_a_samplers_node_gives_its_options(spec) -> None:
    node = NODES[f"SigmaGraftSampler_{spec.name}"]
    (sampler,) = node().make(**defaults(node))
    choice = choice_of(sampler.sampler_function)
    assert choice is not None
    assert choice.offer.spec is spec
    assert choice.options == {option.name: option.default for option in spec.options}
    assert choice.noise_type is None


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("spec", SCHEDULES, ids=lambda spec: spec.name)
def test_a_schedules_node_gives_its_sigmas(spec) -> None:
    node = NODES[schedule_id(spec)]
    sampling, levels = next(pair for pair in MODELS if spec.needs.serves(pair[1]))
    (sigmas,) = node().make(model=model(sampling), **defaults(node) | {"steps": 10})
    assert torch.allclose(sigmas, torch.tensor(schedule(spec, 10, levels)), rtol=2e-4)
    (any_sigmas,) = NODES["SigmaGraftScheduler"]().make(spec.name, model(sampling), 10, 1.0, "")
    assert torch.equal(sigmas, any_sigmas)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("spec", [*SAMPLERS, *SCHEDULES], ids=lambda spec: spec.name)
def test_options_may_be_left_out(spec) -> None:
    """An option that comes later must not break a workflow saved before, where widgets stand by place."""
    name = f"SigmaGraftSampler_{spec.name}" if spec in list(SAMPLERS) else schedule_id(spec)
    types = NODES[name].INPUT_TYPES()
    names = [option.name for option in spec.options]
    assert [*types["optional"]][-len(names) or len(types["optional"]) :] == names
    assert set(types["required"]) <= {"model", "steps", "denoise"}


def test_widgets_show_infinity_and_take_it_back() -> None:
    option = Option("top", math.inf, 0.0, math.inf)
    kind, told = field_of(option)
    assert (kind, told["default"], told["max"]) == ("FLOAT", BOUNDLESS, BOUNDLESS)
    assert values_of([option], {"top": told["default"]}) == {"top": math.inf}
    assert values_of([option], {"top": 3.0}) == {"top": 3.0}


def test_small_numbers_have_small_steps() -> None:
    assert field_of(Option("atol", 0.0078, 1e-9, 10.0))[1]["step"] <= 1e-4
    assert field_of(Option("eta", 1.0, 0.0, 10.0))[1]["step"] == 0.01


ANY = NODES["SigmaGraftSampler"]


def test_any_sampler_with_options_in_a_line() -> None:
    assert ANY.VALIDATE_INPUTS("dpmpp_2m_sde", "eta=0.5, solver_type=heun") is True
    assert ANY.VALIDATE_INPUTS("tcd", "gamma=0.5", "fractal", "alpha=1.5") is True
    assert ANY.VALIDATE_INPUTS(None, "whatever is linked is not known yet") is True


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("tcd", "gamma=2"), "gamma='2' (expected a number from 0 to 1)"),
        (("tcd", "eta=1"), "gamma=0.3: a number from 0 to 1"),
        (("nothing", ""), "unknown sampler 'nothing'"),
        (("tcd", "gamma"), "NAME=VALUE"),
        (("tcd", "", "fractal", "beta=1"), "unknown option 'beta'"),
        (("tcd", "", "automatic", "alpha=1"), "choose the noise_type"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(given: tuple[str, ...], message: str) -> None:
    assert message in ANY.VALIDATE_INPUTS(*given)


@pytest.mark.usefixtures("host")
def test_any_sampler_makes_what_the_line_says() -> None:
    (sampler,) = ANY().make(
        "tcd", "gamma=0.5", noise_type="fractal", noise_options="alpha=1.5", noise_kind="nv"
    )
    choice = choice_of(sampler.sampler_function)
    assert choice is not None
    assert (choice.options, choice.noise_type, choice.noise_kind) == (
        {"gamma": 0.5},
        "fractal:alpha=1.5",
        "nv",
    )
    with pytest.raises(OptionError, match="gamma"):
        ANY().make("tcd", "gamma=7")


def test_noise_types_are_all_offered() -> None:
    (types, _) = ANY.INPUT_TYPES()["optional"]["noise_type"]
    assert types == ["automatic", *NOISE_TYPES.names()]


# sigmas


@pytest.mark.usefixtures("host")
def test_denoise_keeps_the_end_of_a_longer_schedule() -> None:
    node = NODES["SigmaGraftSchedule_karras"]
    given = defaults(node) | {"model": model(), "steps": 10}
    (half,) = node().make(**given | {"denoise": 0.5})
    (all_,) = node().make(**given | {"steps": 20})
    assert torch.equal(half, all_[-11:])
    assert node().make(**given | {"denoise": 0.0})[0].numel() == 0


@pytest.mark.usefixtures("host")
def test_own_sigmas_and_timesteps() -> None:
    (sigmas,) = NODES["SigmaGraftSigmas"]().make("[10, 3.5;\n 1]")
    assert sigmas.tolist() == [10.0, 3.5, 1.0, 0.0]
    (sigmas,) = NODES["SigmaGraftTimesteps"]().make(model(), "999, 499, 249")
    assert torch.allclose(sigmas, torch.tensor(sigmas_at([999, 499, 249], NoiseLevels.discrete())), rtol=1e-4)
    with pytest.raises(OptionError, match="rises"):
        NODES["SigmaGraftSigmas"]().make("1, 2")
    with pytest.raises(OptionError, match="above 1"):
        NODES["SigmaGraftSigmas"]().make("2, 1", model(double.Flow(3.0)))
    assert "'x'" in NODES["SigmaGraftSigmas"].VALIDATE_INPUTS("1, x")
    assert NODES["SigmaGraftTimesteps"].VALIDATE_INPUTS("999 499") is True


# noise


@pytest.mark.parametrize("kind", ["cpu", "nv"])
def test_noise_is_that_of_each_seed(kind: str) -> None:
    (noise,) = NoiseNode().make(2**64 - 1, kind)
    latent = torch.zeros(3, 4, 5, 6)
    drawn = noise.generate_noise({"samples": latent})
    assert torch.equal(drawn, ImageNoise([2**64 - 1, 0, 1], (4, 5, 6), kind=kind).next())
    assert noise.seed == 2**64 - 1
    assert noise.seed.images == (2**64 - 1, 0, 1)
    (alone,) = NoiseNode().make(1, kind)
    assert torch.equal(alone.generate_noise({"samples": latent[:1]}), drawn[2:])


def test_a_latent_taken_from_a_batch_keeps_its_noise() -> None:
    (noise,) = NoiseNode().make(5, "cpu")
    all_ = noise.generate_noise({"samples": torch.zeros(3, 4, 5, 6)})
    one = noise.generate_noise({"samples": torch.zeros(1, 4, 5, 6), "batch_index": [2]})
    assert torch.equal(one, all_[2:])
    assert noise.seed.images == (7,)


def test_noise_of_nested_latents() -> None:
    """Pictures and sound in one latent, as the host nests them."""

    class Nested:
        is_nested = True

        def __init__(self, tensors: list[torch.Tensor]) -> None:
            self.tensors, self.shape = tensors, tensors[0].shape

        def unbind(self) -> list[torch.Tensor]:
            return self.tensors

    (noise,) = NoiseNode().make(5, "cpu")
    made = noise.generate_noise({"samples": Nested([torch.zeros(2, 4, 3, 4, 4), torch.zeros(2, 8, 16)])})
    assert isinstance(made, Nested)
    assert [tuple(part.shape) for part in made.tensors] == [(2, 4, 3, 4, 4), (2, 8, 16)]
    images = ImageNoise([5, 6], (4, 3, 4, 4))
    assert torch.equal(made.tensors[0], images.next())


# restart


def test_restarts_are_read_line_by_line() -> None:
    assert segments_of("") is None
    assert segments_of("9, 1, 0.1, 2\n3,2,0.5,1.5") == [(9, 1, 0.1, 2.0), (3, 2, 0.5, 1.5)]
    validate = NODES["SigmaGraftRestart"].VALIDATE_INPUTS
    assert validate("9, 1, 0.1, 2") is True
    for text, word in (("9, 1", "steps, times"), ("9, 0, 0.1, 2", "times 0"), ("1, 1, 2, 1", "t_min")):
        assert word in validate(text)


def test_an_interval_is_checked() -> None:
    validate = NODES["SigmaGraftGuidanceInterval"].VALIDATE_INPUTS
    assert validate("20%-80%") is True
    assert "expected such as" in validate("a lot")
