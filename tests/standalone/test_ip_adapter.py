"""Image prompts in a run of the pipeline: what they do, what they cost, and that nothing of them stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sigmagraft.controlnet.clip_vision import ImageEncoder
from sigmagraft.controlnet.ip_adapter import IPAdapter
from sigmagraft.controlnet.ip_attention import ImageTerm
from sigmagraft.controlnet.ip_features import save_features
from sigmagraft.controlnet.ip_settings import ImagePrompt
from sigmagraft.core.errors import FileError, MissingPartError, OptionError
from sigmagraft.standalone import ip_adapter_source, lora_source
from sigmagraft.standalone.cli import main
from sigmagraft.standalone.ip_adapter_source import locate_ip_adapter
from sigmagraft.standalone.ip_adapter_text import ImageRequest, portable, read_request
from sigmagraft.standalone.pipeline import Pipeline

from ..controlnet.ip_small import image_encoder, picture, random_adapter, saved
from .small import small_model

SETTINGS: dict[str, Any] = {"steps": 3, "cfg": 2.0, "seed": 1, "size": (64, 64)}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture(scope="module")
def files(pipe: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and a plus adapter, a FaceID with its own LoRA, an encoder beside them, pictures."""
    folder = tmp_path_factory.mktemp("ip")
    config = pipe.model.unet.config
    saved(random_adapter("ipadapter_sd15", config), folder / "base.safetensors")
    saved(random_adapter("ipadapter-plus_sd15", config), folder / "plus.safetensors")
    saved(random_adapter("ipadapter-faceid_sd15", config, loras=True), folder / "faceid.safetensors")
    image_encoder().save_pretrained(folder / "image_encoder")
    for k in range(3):
        picture(k).save(folder / f"{k}.png")
    torch.save(torch.zeros(1, 512), folder / "face512.pt")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(folder / "mask.png")
    return folder


@pytest.fixture(autouse=True)
def unchanged(pipe: Pipeline) -> Iterator[None]:
    """Whatever a test does, the model's weights, hooks and attributes are what they were."""
    before = fingerprint(pipe)
    yield
    pipe.unload_ip_adapter()
    if pipe.loras.originals():
        pipe("a", **SETTINGS)
    assert fingerprint(pipe) == before


def fingerprint(pipe: Pipeline) -> tuple[str, int]:
    digest = hashlib.sha256()
    hooks = 0
    for name, value in pipe.model.unet.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    for module in pipe.model.unet.modules():
        hooks += len(module._forward_hooks) + len(module._forward_pre_hooks)
    return digest.hexdigest(), hooks


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return bool((a - b).norm() / b.norm() < tolerance)


def drawn(pipe: Pipeline, *given: Any, prompt: Any = "a circle", **more: Any) -> Tensor:
    return pipe(prompt, ip_adapter=list(given) or None, **{**SETTINGS, **more}).latents


def test_it_acts_and_leaves_nothing(pipe: Pipeline, files: Path) -> None:
    plain = drawn(pipe)
    prompted = drawn(pipe, f"{files}/base.safetensors:{files}/0.png:weight=0.8")
    assert not close(prompted, plain, 1e-3)
    assert torch.equal(drawn(pipe), plain)
    other = drawn(pipe, f"{files}/base.safetensors:{files}/1.png:weight=0.8")
    assert not close(other, prompted, 1e-3)


class Hub:
    """Answers with paths of the files that are chosen from a repository laid out as the published one."""

    revision = token = offline = None
    names = ("models/ip-adapter_sd15.bin", "models/ip-adapter_sd15.safetensors", "README.md")

    def file(self, repo: str, choose: Any) -> Path:
        return Path("/cache") / repo / choose(list(self.names))[0]

    def fetch(self, repo: str, subfolder: str | None = None) -> Path:
        return Path("/cache") / repo / (subfolder or "")


def test_files_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_source, "Hub", lambda *_: Hub())
    wanted = Path("/cache/h94/IP-Adapter/models/ip-adapter_sd15.bin")
    assert locate_ip_adapter("h94/IP-Adapter/models/ip-adapter_sd15.bin", hub=Hub()) == wanted  # type: ignore[arg-type]
    found = locate_ip_adapter("h94/IP-Adapter", "models", "ip-adapter_sd15.bin", Hub())  # type: ignore[arg-type]
    assert found == wanted
    encoder = ip_adapter_source._local("h94/IP-Adapter/models/image_encoder", Hub())  # type: ignore[arg-type]
    assert encoder == Path("/cache/h94/IP-Adapter/models/image_encoder")
    with pytest.raises(FileError, match="no such adapter"):
        locate_ip_adapter("/nowhere/at/all.safetensors")


@pytest.mark.parametrize("setting", ["weight=0", "start=0.9", "sigma_start=0.0001", "layers=default=0"])
def test_what_does_not_act_is_never_asked(
    pipe: Pipeline, files: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = drawn(pipe)

    def never(*_: Any) -> Tensor:
        raise AssertionError("a term was computed")

    monkeypatch.setattr(ImageTerm, "__call__", never)
    assert torch.equal(drawn(pipe, f"{files}/base.safetensors:{files}/0.png:{setting}"), plain)


def test_pictures_are_encoded_once(pipe: Pipeline, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = ImageEncoder.encode

    def encode(self: ImageEncoder, images: Any, *rest: Any) -> Any:
        seen.append(len(images))
        return real(self, images, *rest)

    monkeypatch.setattr(ImageEncoder, "encode", encode)
    pipe.ip_adapters._features.clear()
    text = f"{files}/plus.safetensors:{files}/0.png"
    drawn(pipe, text, f"{text}:weight=0.3")
    drawn(pipe, text, prompt="another")
    assert seen == [1]
    pipe.ip_adapters._features.clear()
    drawn(pipe, f"{text}:weight=0")
    assert seen == [1]


@pytest.mark.parametrize("tiled", ["", ":tiled"])
@pytest.mark.parametrize("name", ["base", "plus"])
def test_a_picture_of_a_batch_is_the_picture_alone(
    pipe: Pipeline, files: Path, name: str, tiled: str
) -> None:
    start = f"{files}/{name}.safetensors:{files}/0.png+{files}/1.png:weight=0.5,0.9"
    text = start + tiled if tiled else f"{start}:each"
    batch = drawn(pipe, text, batch=2)
    if tiled:
        alone = drawn(pipe, text.replace("0.5,0.9", "0.9"), seed=2)
    else:
        alone = drawn(pipe, f"{files}/{name}.safetensors:{files}/1.png:weight=0.9", seed=2)
    assert close(batch[1], alone[0], 1e-4)
    if name == "base" and not tiled:
        singly = drawn(pipe, text, batch=2, sampler="dpm_adaptive", size=(32, 32))
        lone = drawn(
            pipe,
            f"{files}/base.safetensors:{files}/1.png:weight=0.9",
            seed=2,
            sampler="dpm_adaptive",
            size=(32, 32),
        )
        assert close(singly[1], lone[0])


def test_no_picture_needs_no_half_of_its_own(pipe: Pipeline, files: Path) -> None:
    """At cfg 1 there is only the prompt's half; guidance of weight 1 between two halves is the same."""
    text = f"{files}/plus.safetensors:{files}/0.png"
    one = drawn(pipe, text, cfg=1.0)
    both = drawn(pipe, text, cfg=1.0 + 1e-6)
    assert close(one, both, 1e-4)


@pytest.mark.parametrize(
    "combine", ["concat", "add", "subtract", "average", "norm-average", "norm-average@comfyui"]
)
def test_every_way_to_combine_draws(pipe: Pipeline, files: Path, combine: str) -> None:
    text = f"{files}/plus.safetensors:{files}/0.png+{files}/1.png"
    single = drawn(pipe, f"{files}/plus.safetensors:{files}/0.png")
    assert not close(drawn(pipe, f"{text}:combine={combine}"), single, 1e-4)


def test_two_pictures_side_by_side_read_as_one_set(pipe: Pipeline, files: Path) -> None:
    """The same picture twice is the picture once: attention over equal tokens divides what it sums."""
    once = drawn(pipe, f"{files}/plus.safetensors:{files}/0.png")
    twice = drawn(pipe, f"{files}/plus.safetensors:{files}/0.png+{files}/0.png")
    assert close(twice, once, 1e-4)


def test_a_mask_keeps_the_image_to_its_place(pipe: Pipeline, files: Path) -> None:
    text = f"{files}/base.safetensors:{files}/0.png"
    plain, everywhere = drawn(pipe), drawn(pipe, text)
    left = drawn(pipe, f"{text}:mask={files}/mask.png")
    assert not close(left, plain, 1e-3)
    assert not close(left, everywhere, 1e-3)


def test_features_in_the_place_of_pictures(pipe: Pipeline, files: Path) -> None:
    encoder = ImageEncoder.load(files / "image_encoder")
    for name, wanted in (("base", "pooled"), ("plus", "hidden")):
        features = encoder.encode([picture(0)], [wanted])
        save_features(features, files / f"{wanted}.safetensors")
        expected = drawn(pipe, f"{files}/{name}.safetensors:{files}/0.png")
        assert close(drawn(pipe, f"{files}/{name}.safetensors:{files}/{wanted}.safetensors"), expected)


def test_a_negative_image_is_what_the_other_half_sees(pipe: Pipeline, files: Path) -> None:
    text = f"{files}/base.safetensors:{files}/0.png"
    plain, led = drawn(pipe, text), drawn(pipe, f"{text}:negative={files}/1.png")
    assert not close(led, plain, 1e-3)
    assert close(drawn(pipe, f"{text}:negative={files}/1.png", cfg=1.0), drawn(pipe, text, cfg=1.0))


def test_a_face_brings_its_change_of_the_weights(pipe: Pipeline, files: Path) -> None:
    torch.save(torch.randn(1, 512, generator=torch.Generator().manual_seed(0)), files / "face.pt")
    text = f"{files}/faceid.safetensors::face={files}/face.pt"
    found, without = drawn(pipe, text), drawn(pipe, f"{text}:lora=0")
    assert not close(found, without, 1e-3)
    weights = {name: value.clone() for name, value in pipe.model.unet.state_dict().items()}
    drawn(pipe)
    try:
        for patch in IPAdapter.load(files / "faceid.safetensors").weight_patches(pipe.model.unet.config):
            weight = pipe.model.unet.get_parameter(patch.key)
            weights.setdefault(patch.key, weight.clone())
            weights[patch.key] = weight.clone()
            weight.data += patch.delta.delta(weight)
        assert close(drawn(pipe, f"{text}:lora=0"), found, 1e-4)
    finally:
        for patch in IPAdapter.load(files / "faceid.safetensors").weight_patches(pipe.model.unet.config):
            pipe.model.unet.get_parameter(patch.key).data = weights[patch.key]


def test_by_the_names_that_diffusers_has(pipe: Pipeline, files: Path) -> None:
    pipe.load_ip_adapter(files, weight_name="base.safetensors")
    pipe.set_ip_adapter_scale(0.6)
    found = pipe("a circle", ip_adapter_image=picture(0), **SETTINGS).latents
    assert close(found, drawn_with_none_loaded(pipe, f"{files}/base.safetensors:{files}/0.png:weight=0.6"))
    pipe.load_ip_adapter([files, files], weight_name=["base.safetensors", "plus.safetensors"])
    pipe.set_ip_adapter_scale([0.6, {"down": {"block_0": [0.9]}}])
    found = pipe("a circle", ip_adapter_image=[picture(0), [picture(1), picture(2)]], **SETTINGS).latents
    expected = drawn_with_none_loaded(
        pipe,
        f"{files}/base.safetensors:{files}/0.png:weight=0.6",
        f"{files}/plus.safetensors:{files}/1.png+{files}/2.png:layers=input1=0.9",
    )
    assert close(found, expected)
    pipe.load_ip_adapter(files / "base.safetensors")
    pooled = ImageEncoder.load(files / "image_encoder").encode([picture(0)], ["pooled"]).pooled
    assert pooled is not None
    embeds = torch.stack([torch.zeros_like(pooled), pooled])
    found = pipe("a circle", ip_adapter_image_embeds=[embeds], **SETTINGS).latents
    assert close(found, drawn_with_none_loaded(pipe, f"{files}/base.safetensors:{files}/0.png"))
    pipe.load_ip_adapter(files / "base.safetensors")
    with pytest.raises(OptionError, match="no picture is given"):
        pipe("a circle", **SETTINGS)


def drawn_with_none_loaded(pipe: Pipeline, *given: Any) -> Tensor:
    pipe.unload_ip_adapter()
    return drawn(pipe, *given)


def test_settings_make_the_same_picture_again(pipe: Pipeline, files: Path) -> None:
    table = {"model": f"{files}/base.safetensors", "image": f"{files}/0.png", "weight": 0.4}
    text = f"{files}/plus.safetensors:{files}/0.png:layers=middle=1,output0=0.5:combine=add"
    first = pipe("a circle", ip_adapter=[table, text], **SETTINGS)
    again = json.loads(json.dumps({k: v for k, v in first.settings.items() if k != "model"}))
    assert again["ip_adapter"] == [table, text]
    again["size"] = tuple(again["size"])
    assert torch.equal(pipe(again.pop("prompt"), **again).latents, first.latents)


def test_text_means_settings(files: Path) -> None:
    text = (
        f"a.safetensors:{files}/0.png+{files}/1.png:weight=0.5,0.25:type=style:combine=norm average:crop=top:each"
        f":start=0.1:end=0.9:sigma_end=0.5:mask={files}/mask.png:scaling=K+V:version=2:encoder=e"
    )
    found = read_request(text)
    prompt = found.prompt
    assert (found.model, found.version, found.encoder) == ("a.safetensors", 2, "e")
    assert (list(prompt.weights), prompt.weight_type, prompt.combine) == (
        [0.5, 0.25],
        "style",
        "norm-average",
    )
    assert (prompt.crop, prompt.each, prompt.start, prompt.end, prompt.sigma_end) == (
        "top",
        True,
        0.1,
        0.9,
        0.5,
    )
    assert len(prompt.images) == 2
    assert prompt.scaling == "K+V"
    windows = portable(r"C:\a.safetensors:D:\b.png+D:\c.png:weight=1:mask=E:\m.png", str.lower)
    assert windows == r"c:\a.safetensors:d:\b.png+d:\c.png:weight=1:mask=e:\m.png"


BAD = {
    "FILE:PICTURE": "{0}/base.safetensors",
    "SETTING=VALUE": "{0}/base.safetensors:{0}/0.png:strong",
    "did you mean 'weight'": "{0}/base.safetensors:{0}/0.png:wieght=1",
    "expected a number": "{0}/base.safetensors:{0}/0.png:weight=much",
    "no such picture": "{0}/base.safetensors:{0}/9.png",
    "no such adapter": "{0}/other.safetensors:{0}/0.png",
    "2 images for 3 pictures": "{0}/base.safetensors:{0}/0.png+{0}/1.png:each",
    "2 weights for 3 pictures": "{0}/base.safetensors:{0}/0.png:weight=1,2",
    "by hand": "{0}/base.safetensors:{0}/0.png:type=style",
    "no layer": "{0}/base.safetensors:{0}/0.png:layers=input9=1",
    "no CLIP image encoder": "{0}/base.safetensors:{0}/0.png:encoder={0}/plus.safetensors",
    "hidden features for IP-Adapter": "{0}/base.safetensors:{0}/hidden.safetensors",
    "which takes none": "{0}/base.safetensors:{0}/0.png:face={0}/face512.pt",
    "has no change of weights": "{0}/base.safetensors:{0}/0.png:lora=0.5",
    "version 2 of IP-Adapter": "{0}/base.safetensors:{0}/0.png:version=2",
    "composition with type": "{0}/base.safetensors:{0}/0.png:composition=0.5",
    "one of them": "{0}/base.safetensors:{0}/0.png:layers=middle=1:type=ease-in",
    "insightface": "{0}/faceid.safetensors:{0}/0.png",
}


@pytest.mark.parametrize("message", BAD)
def test_a_mistake_is_named_and_changes_nothing(pipe: Pipeline, files: Path, message: str) -> None:
    if not (files / "hidden.safetensors").exists():
        test_features_in_the_place_of_pictures(pipe, files)
    plain = drawn(pipe)
    with pytest.raises((OptionError, FileError, MissingPartError), match=message):
        drawn(pipe, BAD[message].format(files), batch=3)
    assert torch.equal(drawn(pipe), plain)


def test_another_familys_adapter_is_named(pipe: Pipeline, files: Path) -> None:
    from sigmagraft.core.unet_config import UNetConfig

    other = UNetConfig(
        model_channels=64, channel_mult=(1, 2), num_res_blocks=(2, 2), transformer_depth=(1, 1)
    )
    saved(random_adapter("ipadapter_sd15", other), files / "foreign.safetensors")
    with pytest.raises(OptionError, match="made for this model's family"):
        drawn(pipe, f"{files}/foreign.safetensors:{files}/0.png")


def test_a_missing_encoder_is_named_with_where_to_get_it(pipe: Pipeline, files: Path, tmp_path: Path) -> None:
    tensors = random_adapter("ipadapter_sd15", pipe.model.unet.config)
    tensors["image_proj.proj.weight"] = torch.randn(256, 1024)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    saved(tensors, tmp_path / "deep" / "er" / "a.safetensors")
    with pytest.raises(MissingPartError, match=r"ViT-H/14.*h94/IP-Adapter, folder models/image_encoder"):
        drawn(pipe, f"{tmp_path}/deep/er/a.safetensors:{files}/0.png")
    with pytest.raises(OptionError, match=r"pooled features of 40 channels.*1024"):
        drawn(pipe, f"{tmp_path}/deep/er/a.safetensors:{files}/0.png:encoder={files}/image_encoder")


def test_an_exception_inside_a_term_leaves_the_model_as_it_was(
    pipe: Pipeline, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = drawn(pipe)

    def fail(*_: Any) -> Tensor:
        raise RuntimeError("inside")

    with monkeypatch.context() as inside:
        inside.setattr(ImageTerm, "_prepare", fail)
        with pytest.raises(RuntimeError, match="inside"):
            drawn(pipe, f"{files}/base.safetensors:{files}/0.png")
    assert torch.equal(drawn(pipe), plain)


def test_it_acts_beside_a_control(pipe: Pipeline, files: Path) -> None:
    """Each changes what the other alone gives, and neither is left behind."""
    text, control = f"{files}/base.safetensors:{files}/0.png", f"reference:{files}/1.png"
    plain, both = drawn(pipe), drawn(pipe, text, control=control)
    assert not close(both, drawn(pipe, text), 1e-3)
    assert not close(both, drawn(pipe, control=control), 1e-3)
    assert torch.equal(drawn(pipe), plain)


def test_a_loaded_adapter_serves_python(pipe: Pipeline, files: Path) -> None:
    weights = IPAdapter.load(files / "base.safetensors")
    request = ImageRequest(weights, ImagePrompt([picture(0)], weight=0.4))
    text = f"{files}/base.safetensors:{files}/0.png:weight=0.4"
    assert close(drawn(pipe, request), drawn(pipe, text))


def test_the_command_reads_a_table_from_a_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in it is found before any model loads, so none is needed here."""
    table = {"ip_adapter": [{"model": "a.safetensors", "image": f"{files}/0.png", "wieght": 1}]}
    (files / "prompts.json").write_text(json.dumps(table))
    assert main(["txt2img", "a", "--ip-adapter", f"@{files}/prompts.json"]) == 2
    assert "did you mean 'weight'" in capsys.readouterr().err
