"""Every sampler, stopped, saved and gone on with, ends in the very bits of the walk that was never stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sigmagraft.core.errors import FileError, OptionError
from sigmagraft.core.safetensors_file import read_safetensors, write_safetensors
from sigmagraft.samplers import (
    NOISE_TYPES,
    SAMPLERS,
    ImageNoise,
    NoiseLevels,
    NoiseType,
    NonFiniteError,
    SamplerSpec,
    drive,
    restart,
    schedule,
    step_noise,
)
from sigmagraft.samplers.replay import Recording, recorded, resume
from sigmagraft.samplers.replay_file import KEY

STEPS, SHAPE, SEEDS = 6, (4, 6), [3, 2**64 - 1]
VE = NoiseLevels.discrete()


class Model:
    """Counts what it is asked."""

    def __init__(self, levels: NoiseLevels, mixture_of) -> None:
        self.denoise, self.asked = mixture_of(levels), 0

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        self.asked += 1
        return self.denoise(x, sigma)


def started(spec: SamplerSpec, levels: NoiseLevels, noise_type: str | None = None, seeds=SEEDS):
    """Everything `drive` needs, fresh."""
    sigmas = schedule("normal", STEPS, levels)
    images = ImageNoise(seeds, SHAPE)
    x = images.next() * sigmas[0]
    options = {}
    if spec.noise_option:
        options[spec.noise_option] = 2.0 if spec.noise_option == "s_churn" else 0.7
    more = {"levels": levels, "options": options}
    return x, sigmas, more | {"noise": step_noise(spec, images, sigmas, levels, noise_type)}


def through_a_file(recording: Recording, path: Path) -> Recording:
    recording.save(path)
    return Recording.load(path)


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_every_sampler_goes_on_bit_for_bit(
    spec: SamplerSpec, levels: NoiseLevels, make_mixture, tmp_path: Path
) -> None:
    if levels.is_flow and not spec.flow:
        pytest.skip(f"{spec.name} declares itself not for rectified flow")
    whole = Model(levels, make_mixture)
    x, sigmas, more = started(spec, levels)
    expected = drive(spec, whole, x, sigmas, **more)
    for stop in (1, 3, STEPS - 1):
        recording, first, second = Recording(), Model(levels, make_mixture), Model(levels, make_mixture)
        x, sigmas, more = started(spec, levels)
        drive(recorded(spec, recording, stop), first, x, sigmas, **more)
        end = resume(through_a_file(recording, tmp_path / "a.safetensors"), second, levels=levels)
        assert torch.equal(end, expected)
        assert first.asked + second.asked == whole.asked  # nothing is evaluated twice
        assert 0 < first.asked < whole.asked


@pytest.mark.parametrize("spec", NOISE_TYPES, ids=lambda spec: spec.name)
def test_every_noise_goes_on(spec: NoiseType, tmp_path: Path, make_mixture) -> None:
    if spec.name == "brownian@torchsde":
        pytest.importorskip("torchsde")
    sampler, denoise = SAMPLERS["dpmpp_sde"], make_mixture(VE)
    name = spec.name + "".join(f":{o.name}={o.default}" for o in spec.options[:1])
    x, sigmas, more = started(sampler, VE, name)
    expected = drive(sampler, denoise, x, sigmas, **more)
    recording = Recording()
    x, sigmas, more = started(sampler, VE, name)
    drive(recorded(sampler, recording, 3), denoise, x, sigmas, **more)
    end = resume(through_a_file(recording, tmp_path / "a.safetensors"), denoise, levels=VE)
    assert torch.equal(end, expected)


@pytest.mark.parametrize("kind", ["cpu", "device", "nv"])
def test_step_noise_of_another_generator(kind: str, make_mixture) -> None:
    spec, denoise, ends = SAMPLERS["euler_ancestral"], make_mixture(VE), []
    for stop in (None, 2):
        x, sigmas, more = started(spec, VE)
        more["noise"] = ImageNoise(SEEDS, SHAPE, kind=kind, skip=1)
        recording = Recording()
        ends.append(drive(recorded(spec, recording, stop), denoise, x, sigmas, **more))
    assert not torch.equal(*ends)
    assert torch.equal(resume(recording, denoise, levels=VE), ends[0])


def test_stopping_several_times(make_mixture, tmp_path: Path) -> None:
    spec, denoise = SAMPLERS["dpmpp_2m_sde"], make_mixture(VE)
    x, sigmas, more = started(spec, VE)
    expected = drive(spec, denoise, x, sigmas, **more)
    recording = Recording({"prompt": "a circle"})
    x, sigmas, more = started(spec, VE)
    drive(recorded(spec, recording, 1), denoise, x, sigmas, **more)
    for stop in (2, 4):
        recording = through_a_file(recording, tmp_path / "a.safetensors")
        at = resume(recording, denoise, levels=VE, stop=stop)
        assert torch.equal(at, recording.at)
        assert len(recording.answers) == stop
    assert torch.equal(resume(recording, denoise, levels=VE), expected)
    assert recording.at is None
    assert recording.facts["settings"] == {"prompt": "a circle"}


def test_going_on_with_the_same_call(make_mixture, tmp_path: Path) -> None:
    """`drive` with what it was begun with does as well as `resume`; the callback is told of the new steps alone."""
    spec, denoise = SAMPLERS["heun"], make_mixture(VE)
    x, sigmas, more = started(spec, VE)
    expected = drive(spec, denoise, x, sigmas, **more)
    recording, told = Recording(), []
    x, sigmas, more = started(spec, VE)
    drive(recorded(spec, recording, 4), denoise, x, sigmas, **more)
    recording = through_a_file(recording, tmp_path / "a.safetensors")
    x, sigmas, more = started(spec, VE)
    again = recorded("heun", recording)
    assert torch.equal(
        drive(again, denoise, x, sigmas, callback=lambda s: told.append(s["i"]), **more), expected
    )
    assert told == [4, 5]


def test_a_sampler_of_ones_own(make_mixture) -> None:
    spec, denoise = restart("euler"), make_mixture(VE)
    x, sigmas, more = started(spec, VE)
    expected = drive(spec, denoise, x, sigmas, **more)
    recording = Recording()
    x, sigmas, more = started(spec, VE)
    drive(recorded(spec, recording, 3), denoise, x, sigmas, **more)
    with pytest.raises(OptionError, match="restart_euler"):
        resume(recording, denoise, levels=VE)
    assert torch.equal(resume(recording, denoise, levels=VE, sampler=spec), expected)


def test_noise_of_ones_own_must_be_given(make_mixture) -> None:
    spec, denoise = SAMPLERS["euler_ancestral"], make_mixture(VE)
    x, sigmas, more = started(spec, VE)
    more["noise"] = lambda a, b: torch.ones_like(x)
    expected = drive(spec, denoise, x, sigmas, **more)
    recording = Recording()
    drive(recorded(spec, recording, 3), denoise, x, sigmas, **more)
    with pytest.raises(OptionError, match="no noise source"):
        resume(recording, denoise, levels=VE)
    assert torch.equal(resume(recording, denoise, levels=VE, noise=more["noise"]), expected)


def stopped(name: str = "euler_ancestral", settings=None) -> Recording:
    spec, recording = SAMPLERS[name], Recording(settings)
    x, sigmas, more = started(spec, VE)
    drive(recorded(spec, recording, 3), lambda x, s: x / (1 + s * s), x, sigmas, **more)
    return recording


@pytest.mark.parametrize(
    "what", ["sampler", "sigmas", "options", "levels", "seeds", "noise", "shape", "dtype", "x"]
)
def test_another_walk_is_refused(what: str) -> None:
    recording, spec = stopped(), SAMPLERS["euler_ancestral"]
    seeds = [4, 5] if what == "seeds" else SEEDS
    x, sigmas, more = started(spec, VE, "pink" if what == "noise" else None, seeds)
    if what == "sampler":
        spec = SAMPLERS["dpmpp_2s_ancestral"]
    if what == "sigmas":
        sigmas[2] *= 1.0001
    if what == "options":
        more["options"] = {"eta": 0.71}
    if what == "levels":
        more["levels"] = NoiseLevels.discrete(beta_end=0.02)
    x = {"shape": x[:1], "dtype": x.double(), "x": x + 0.1}.get(what, x)
    match = {"seeds": "noise", "shape": r"\(1, 4, 6\).*\(2, 4, 6\)", "dtype": "float64", "x": "starts at"}
    with pytest.raises(OptionError, match=match.get(what, what)):
        drive(recorded(spec, recording), lambda x, s: x, x, sigmas, **more)


def test_rounding_of_another_machine_is_no_other_walk() -> None:
    recording, spec = stopped(), SAMPLERS["euler_ancestral"]
    x, sigmas, more = started(spec, VE)
    sigmas = [sigma * (1 + 1e-15) for sigma in sigmas]
    recording.facts["evaluated"] = sigmas[:3]
    drive(recorded(spec, recording), lambda x, s: x / (1 + s * s), x * (1 + 1e-6), sigmas, **more)


def test_other_noise_shows_where_it_was_stopped() -> None:
    """A source that does not say what it is."""
    recording, spec = stopped(), SAMPLERS["euler_ancestral"]
    recording.facts["noise"] = None
    x, sigmas, more = started(spec, VE)
    more["noise"] = lambda a, b: torch.ones_like(x)
    with pytest.raises(OptionError, match="does not lead to where it was stopped"):
        drive(recorded(spec, recording), lambda x, s: x, x, sigmas, **more)


def test_a_method_that_asks_for_other_levels_is_refused() -> None:
    recording = stopped()
    recording.facts["evaluated"][1] *= 1.01
    with pytest.raises(OptionError, match=r"evaluation 2 is due at sigma.*as recorded"):
        resume(recording, lambda x, s: x, levels=VE)


@pytest.mark.parametrize("stop", [0, -1, STEPS, STEPS + 5])
def test_stop_out_of_range(stop: int) -> None:
    x, sigmas, more = started(SAMPLERS["euler"], VE)
    with pytest.raises(OptionError, match=rf"stop at step {stop}.*1 to {STEPS - 1}"):
        drive(recorded("euler", Recording(), stop), lambda x, s: x, x, sigmas, **more)


def test_nan_is_found_before_it_is_saved() -> None:
    x, sigmas, more = started(SAMPLERS["euler"], VE)
    with pytest.raises(NonFiniteError):
        drive(recorded("euler", Recording(), 3), lambda x, s: x * float("nan"), x, sigmas, **more)


def test_only_a_stopped_walk_is_saved(tmp_path: Path) -> None:
    recording = Recording()
    for _ in range(2):
        x, sigmas, more = started(SAMPLERS["euler"], VE)
        with pytest.raises(OptionError, match="has not been stopped"):
            recording.save(tmp_path / "a.safetensors")
        drive(recorded("euler", recording), lambda x, s: x, x, sigmas, **more)
    with pytest.raises(OptionError, match="nothing is recorded"):
        resume(Recording(), lambda x, s: x, levels=VE)


def test_what_was_kept_does_not_change_with_the_models_buffer() -> None:
    """A compiled model may answer in the same memory each time."""
    spec, buffer = SAMPLERS["dpmpp_2m"], torch.empty(2, *SHAPE)
    x, sigmas, more = started(spec, VE)
    recording = Recording()
    drive(recorded(spec, recording, 3), lambda x, s: buffer.copy_(x * s), x, sigmas, **more)
    assert not torch.equal(recording.answers[0], recording.answers[1])


def test_infinite_options_survive(tmp_path: Path) -> None:
    spec = SAMPLERS["euler"]
    x, sigmas, more = started(spec, VE)
    more["options"] = {"s_churn": 1.0, "s_tmin": 0.5, "s_tmax": float("inf")}
    recording = Recording()
    drive(recorded(spec, recording, 2), lambda x, s: x, x, sigmas, **more)
    again = through_a_file(recording, tmp_path / "a.safetensors")
    assert again.facts == recording.facts
    assert again.facts["sigmas"] == sigmas


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "half.safetensors"
    stopped(settings={"seed": 3}).save(path)
    return path


def test_a_file_is_safetensors_and_holds_json(saved: Path) -> None:
    entries, metadata = read_safetensors(saved)
    assert entries["answers"].shape == (3, 2, *SHAPE)
    told = json.loads(metadata[KEY])
    assert told["sampler"] == "euler_ancestral"
    assert told["noise"] == {"type": "gaussian", "options": {}, "kind": "cpu", "seeds": SEEDS, "skip": 1}


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_cut_file(saved: Path, cut: int) -> None:
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(FileError, match=r"half.safetensors: .*(no stopped walk|truncated|damaged)"):
        Recording.load(saved)


@pytest.mark.parametrize("where", [-3, -60, 300])
def test_an_edited_file(saved: Path, where: int) -> None:
    data = bytearray(saved.read_bytes())
    data[where] ^= 1
    saved.write_bytes(bytes(data))
    with pytest.raises(FileError, match=r"half.safetensors: .*(changed|damaged|no stopped walk)"):
        Recording.load(saved)


@pytest.mark.parametrize("foreign", ["model", "text", "missing", "folder"])
def test_a_foreign_file(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / "a.safetensors"
    if foreign == "model":
        write_safetensors(path, {"weight": torch.ones(3)}, {"format": "pt"})
    elif foreign == "text":
        path.write_text("this is a text of some length")
    elif foreign == "folder":
        path.mkdir()
    with pytest.raises(FileError, match=r"a.safetensors"):
        Recording.load(path)


def test_another_format_says_who_wrote_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigmagraft.samplers.replay_file.FORMAT", 2)
    with pytest.raises(FileError, match=r"written by version .*format 2"):
        Recording.load(saved)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot write"):
        stopped().save(tmp_path / "missing" / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
