"""`<lora:...>` in doubles of the web UIs: ours beside the host's own, as the runner computes it, without a trace."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ...loras.small import Small
from ..patcher import HostLora, ModelPatcher, WeightAdapterBase
from ..small_lora import SIGMAS, Held, by_runner, inputs, write_files
from .double import WebUI

KINDS = ("a1111", "forge", "adapters")  # plain modules; functions for patches; classes for patches
TOKENS = torch.arange(3, 80)[None]


def read(encoder: Any) -> Tensor:
    return encoder(encoder.embed(TOKENS), torch.tensor([9]))[0]


class Params:
    """A tag as the hosts hand it over."""

    def __init__(self, text: str) -> None:
        self.items = text.split(":")


class HostLoras:
    """The host's own extra network: keeps what it is given."""

    name = "lora"

    def __init__(self) -> None:
        self.given: list[str] = []
        self.before: Callable[[], None] = lambda: None
        self.errors: dict[str, int] = {}

    def activate(self, p: Any, params_list: list[Any]) -> None:
        self.given = [":".join(one.items) for one in params_list]
        self.before()

    def deactivate(self, p: Any) -> None:
        self.given = []


class ForgePatcher(ModelPatcher):
    """Forge's: patches by the name of their file, merged by functions for their types."""

    calculators: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, model: nn.Module, backup: Any = None) -> None:
        super().__init__(model, backup)
        self.lora_loader = SimpleNamespace(backup={})
        self.named: dict[str, dict[str, Any]] = {}

    def clone(self) -> ForgePatcher:
        made = super().clone()
        assert isinstance(made, ForgePatcher)
        made.lora_loader, made.named = self.lora_loader, dict(self.named)
        return made

    def add_patches(self, *, filename: str, patches: dict[str, Any]) -> set[str]:  # type: ignore[override]
        self.named[filename] = {
            key: patches[key] for key in patches if key in dict(self.model.named_parameters())
        }
        return set(self.named[filename])

    @torch.inference_mode()
    def load(self, stream: bool = False) -> None:
        self.unload()
        kept = self.lora_loader.backup
        for patches in self.named.values():
            for key, (kind, value) in patches.items():
                parameter = self.model.get_parameter(key)
                kept.setdefault(key, parameter.data)
                parameter.data = self.calculators[kind](parameter.data.clone(), 1.0, value)

    def unload(self) -> None:
        for key, weight in self.lora_loader.backup.items():
            self.model.get_parameter(key).data = weight
        self.lora_loader.backup.clear()


class World:
    """A web UI with one small model loaded."""

    def __init__(self, kind: str, folder: Path, host: WebUI, set_module: Callable[[str, Any], None]) -> None:
        self.kind, self.folder, self.small = kind, folder, Small()
        write_files(folder, self.small.targets)
        self.unet, self.text = self.small.networks["unet"], self.small.networks["text_encoder"]
        self.own = HostLoras()
        self.networks: Any = ModuleType("modules.extra_networks")
        self.networks.extra_network_registry = {"lora": self.own}
        self.networks.extra_network_aliases = {"lyco": self.own}
        set_module("modules.extra_networks", self.networks)
        host.shared.cmd_opts = SimpleNamespace(lora_dir=str(folder))
        self.model = self._model(set_module)
        self.lora = importlib.import_module("sigmagraft.hosts.webui.lora")
        self.place = importlib.import_module("sigmagraft.hosts.webui.lora_place")
        self.lora.graft()

    def _model(self, set_module: Callable[[str, Any], None]) -> Any:
        if self.kind == "a1111":
            clip = SimpleNamespace(transformer=self.text, tokenizer=object())
            return SimpleNamespace(
                model=SimpleNamespace(diffusion_model=self.unet),
                cond_stage_model=SimpleNamespace(wrapped=clip),
            )
        patcher = ForgePatcher if self.kind == "forge" else ModelPatcher
        module: Any = ModuleType("backend.patcher.lora")
        if self.kind == "forge":
            ForgePatcher.calculators = module.extra_weight_calculators = {}
        else:
            module.weight_adapter = SimpleNamespace(WeightAdapterBase=WeightAdapterBase)
        set_module("backend.patcher.lora", module)
        clip = Clip(patcher(Held(clip_l=Held(transformer=self.text))))
        self.objects = lambda: SimpleNamespace(unet=unet, clip=clip)
        unet = patcher(Held(diffusion_model=self.unet))
        return SimpleNamespace(
            forge_objects=self.objects(),
            forge_objects_original=self.objects(),
            forge_objects_after_applying_lora=self.objects(),
        )

    def p(self) -> Any:
        made = SimpleNamespace(sd_model=self.model, extra_generation_params={}, comments=[])
        made.comment = made.comments.append
        return made

    def start(self, *tags: str) -> Any:
        """A job's beginning, with these in its prompt."""
        p = self.p()
        self.networks.extra_network_registry["lora"].activate(p, [Params(tag) for tag in tags])
        return p

    def end(self, p: Any) -> None:
        self.networks.extra_network_registry["lora"].deactivate(p)

    @torch.inference_mode()
    def answer(self, sigma: float = 5.0) -> Tensor:
        """An evaluation as in a walk down SIGMAS."""
        walk = SimpleNamespace(get_sigmas=lambda p, steps: torch.tensor(SIGMAS))
        denoiser = SimpleNamespace(sampler=walk, p=None, step=0, steps=5, total_steps=5, init_latent=None)
        self.place.follow(SimpleNamespace(denoiser=denoiser, sigma=torch.tensor([sigma, sigma])))
        return self._loaded("unet", lambda: self.unet(*inputs()))

    @torch.inference_mode()
    def words(self) -> Tensor:
        return self._loaded("clip", lambda: read(self.text))

    def _loaded(self, name: str, call: Callable[[], Tensor]) -> Tensor:
        if self.kind == "a1111":
            return call()
        found = getattr(self.model.forge_objects_after_applying_lora, name)
        patcher = found if name == "unet" else found.patcher
        patcher.load()
        try:
            return call()
        finally:
            patcher.unload()

    def by_runner(self, text: str, sigma: float = 5.0) -> Tensor:
        other = Small()  # the same weights, apart
        return by_runner(other, self.folder, text, sigma, lambda: other.networks["unet"](*inputs()))


class Clip:
    def __init__(self, patcher: ModelPatcher) -> None:
        self.patcher = patcher

    def clone(self) -> Clip:
        return Clip(self.patcher.clone())


@pytest.fixture(params=KINDS)
def world(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make: Callable[..., WebUI],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    host = make("a1111" if request.param == "a1111" else "forge")
    made = World(
        request.param, tmp_path, host, lambda name, module: monkeypatch.setitem(sys.modules, name, module)
    )
    yield made
    made.lora.ungraft()


CASES = (
    "many:0.7:blocks=IN=0,OUT=0.5",
    "peft:1:sigma=0@10,1@2",
    "many:0.7:step=0@0,1@4",
)


@pytest.mark.parametrize("text", CASES)
def test_an_evaluation_is_the_runner_s_and_the_next_job_as_before(world: World, text: str) -> None:
    plain, words, before = world.answer(), world.words(), world.small.hashes()
    job = world.start(text)
    assert world.own.given == []
    for sigma in (14.0, 5.0, 1.0):
        assert torch.allclose(world.answer(sigma), world.by_runner(text, sigma), atol=1e-5)
    assert not torch.allclose(world.answer(1.0), plain, atol=1e-3)
    world.end(job)
    world.start()
    assert torch.equal(world.answer(), plain)
    assert torch.equal(world.words(), words)
    assert world.small.hashes() == before
    layers = (*world.unet.modules(), *world.text.modules())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def test_the_text_encoder_has_its_own_weight(world: World) -> None:
    plain = world.words()
    world.start("ink:1:te=0.5:unet=0:blocks=ALL")
    changed = world.words()
    assert not torch.allclose(changed, plain, atol=1e-3)
    other = Small()
    text = other.networks["text_encoder"]
    expected = by_runner(other, world.folder, "ink:1:te=0.5:unet=0", 1.0, lambda: read(text))
    assert torch.allclose(changed, expected, atol=1e-5)


def test_a_plain_tag_of_a_file_that_the_host_reads_is_the_host_s(world: World) -> None:
    world.start("ink:0.8", "peft:0.5", "ink:0.5:0.7", "nowhere:1", "other:1")
    assert world.own.given == ["ink:0.8", "ink:0.5:0.7", "nowhere:1", "other:1"]
    assert torch.allclose(world.answer(), world.by_runner("peft:0.5"), atol=1e-5)


def test_families_that_the_host_lacks_are_ours(world: World) -> None:
    world.start("ia3:1", "many:1")
    theirs = ["ia3:1", "many:1"] if world.kind == "a1111" else []
    assert world.own.given == theirs


def test_both_act_in_one_prompt_and_pass_by_pass(world: World) -> None:
    """The host rebuilds its objects when its own tags change, and leaves them when they do not."""
    if world.kind != "adapters":
        pytest.skip("the others' ways to merge are not doubled together")
    key = "diffusion_model.middle_block.1.proj_in.weight"
    up, down = torch.randn(64, 2) * 0.3, torch.randn(2, 64)
    rebuilt = {"wanted": True}

    def host_puts_its_own() -> None:
        if rebuilt["wanted"]:
            world.model.forge_objects = world.objects()
            unet = world.model.forge_objects.unet.clone()
            unet.add_patches({key: HostLora(set(), (up, down))})
            world.model.forge_objects.unet = unet
            world.model.forge_objects_after_applying_lora = SimpleNamespace(**vars(world.model.forge_objects))

    world.own.before = host_puts_its_own
    world.start("ink:0.5")
    alone = world.answer()
    rebuilt["wanted"] = False
    for _ in range(2):
        job = world.start("ink:0.5", "peft:0.6")
        patches = world.model.forge_objects_after_applying_lora.unet.patches[key]
        assert len(patches) == 2
        both = world.answer()
        assert not torch.allclose(both, alone, atol=1e-3)
        world.end(job)
        assert torch.equal(world.answer(), alone)


def test_what_is_wrong_ends_the_job_and_leaves_the_model(world: World) -> None:
    plain, before = world.answer(), world.small.hashes()
    for tag, said in (
        ("other:1:blocks=ALL", "made for a weight of 999"),
        ("ink:1:blocks=NOPE", "unknown blocks"),
        ("gone:1:sigma=0@1", "no such LoRA"),
        ("ink:1:1:1:4:blocks=ALL", "4 weights"),
        ("ink:1:dyn=4:blocks=ALL", "dyn=4"),
    ):
        p = world.start("ink:1:blocks=ALL", tag)
        with pytest.raises(Exception, match=said):
            p.setup_conds()
        assert torch.equal(world.answer(), plain)
        assert world.small.hashes() == before
    p = world.start("other:1:blocks=ALL:force=1", "ink:0.5:blocks=ALL")
    assert not hasattr(p, "setup_conds")
    assert not torch.allclose(world.answer(), plain, atol=1e-3)


def test_on_a_model_of_another_kind_all_is_the_host_s_and_ours_are_refused(world: World) -> None:
    world.lora.model_of(world.p()).layout = None
    p = world.start("ink:1", "peft:1")
    assert world.own.given == ["ink:1", "peft:1"]
    assert not hasattr(p, "setup_conds")
    p = world.start("ink:1:blocks=ALL")
    with pytest.raises(Exception, match="not SD1, SD2 or SDXL"):
        p.setup_conds()


def test_what_is_not_used_is_said_beside_the_picture(world: World) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(world.folder / "ink.safetensors")
    save_file(tensors | {"lora_unet_nowhere.alpha": torch.tensor(1.0)}, world.folder / "odd.safetensors")
    p = world.start("odd:1:blocks=ALL")
    assert any("lora_unet_nowhere.alpha" in line for line in p.comments)


def test_the_same_tags_are_merged_once(world: World) -> None:
    if world.kind == "a1111":
        pytest.skip("nothing is merged there")
    first = world.start("ink:0.5:blocks=ALL")
    made = world.model.forge_objects_after_applying_lora.unet
    world.end(first)
    world.start("ink:0.5:blocks=ALL")
    assert world.model.forge_objects_after_applying_lora.unet is made
    world.start("ink:0.5:blocks=OUT=0")
    assert world.model.forge_objects_after_applying_lora.unet is not made


def test_leaving_gives_the_host_its_own_back(world: World) -> None:
    plain = world.answer()
    assert world.networks.extra_network_registry["lora"] is not world.own
    assert world.networks.extra_network_registry["lora"].errors is world.own.errors
    world.lora.graft()
    world.start("ink:1:blocks=ALL")
    data = SimpleNamespace(model_data=SimpleNamespace(sd_model=world.model))
    sys.modules["modules.sd_models"] = data  # type: ignore[assignment]
    try:
        world.lora.ungraft()
    finally:
        del sys.modules["modules.sd_models"]
    assert world.networks.extra_network_registry == {"lora": world.own}
    assert world.networks.extra_network_aliases == {"lyco": world.own}
    assert torch.equal(world.answer(), plain)
    assert not hasattr(world.model, "sigmagraft_lora")


def test_openclip_s_joined_projections_are_changed_as_apart() -> None:
    """q, k and v in one matrix: the attention is called with it changed, whatever dtype and masks it is given."""
    from sigmagraft.hosts.webui.lora_text import encoder_of
    from sigmagraft.loras.forward import Term
    from sigmagraft.loras.lowrank import LowRank

    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2, self.attn = nn.LayerNorm(16), nn.LayerNorm(16), nn.MultiheadAttention(16, 2)
            self.mlp = nn.Sequential()
            self.mlp.c_fc, self.mlp.c_proj = nn.Linear(16, 32), nn.Linear(32, 16)

    block = Block()
    model = Held(transformer=Held(resblocks=nn.ModuleList([block])), ln_final=nn.LayerNorm(16))
    encoder = encoder_of(SimpleNamespace(model=model))
    assert encoder is not None
    attention, x = block.attn, torch.randn(5, 3, 16)
    where = "text_model.encoder.layers.0.self_attn"
    shapes = encoder.shapes
    assert shapes[f"{where}.k_proj.weight"] == (16, 16)
    assert shapes["text_model.encoder.layers.0.mlp.fc1.weight"] == (32, 16)
    deltas = {
        name: LowRank(torch.randn(16, 2), torch.randn(2, 16)) for name in ("q_proj", "v_proj", "out_proj")
    }
    terms = {f"{where}.{name}.weight": [Term(delta, 0.3)] for name, delta in deltas.items()}
    plain = attention(x, x, x, need_weights=False)[0]
    encoder.join(terms, lambda layer, name: getattr(layer, name).data)
    changed = attention(x, x, x, need_weights=False)[0]
    encoder.part()
    assert torch.equal(attention(x, x, x, need_weights=False)[0], plain)
    with torch.no_grad():
        for slot, name in ((0, "q_proj"), (2, "v_proj")):
            rows = attention.in_proj_weight[16 * slot : 16 * (slot + 1)]
            rows += 0.3 * deltas[name].change(rows)
        attention.out_proj.weight += 0.3 * deltas["out_proj"].change(attention.out_proj.weight)
    assert torch.allclose(attention(x, x, x, need_weights=False)[0], changed, atol=1e-5)
    assert not torch.allclose(changed, plain, atol=1e-3)


def test_the_host_s_copy_of_a_weight_is_what_changes_stand_on(make: Callable[..., WebUI]) -> None:
    """Automatic1111 leaves its own LoRA merged until a layer is called next."""
    make("a1111")
    module = importlib.import_module("sigmagraft.hosts.webui.lora_ldm")
    layer: Any = nn.Linear(4, 4)
    original = layer.weight.data.clone()
    assert torch.equal(module._original(layer, "weight"), original)
    layer.network_weights_backup, layer.network_bias_backup = original, None
    layer.weight.data += 1
    assert torch.equal(module._original(layer, "weight"), original)
    assert torch.equal(module._original(layer, "bias"), layer.bias)


@pytest.mark.parametrize("timesteps", [False, True])
def test_a_place_is_that_of_the_sampler_s_own_list(make: Callable[..., WebUI], timesteps: bool) -> None:
    host = make("a1111")
    place = importlib.import_module("sigmagraft.hosts.webui.lora_place")
    whole = torch.tensor([14.0, 9.0, 5.0, 2.0, 0.0])
    kept = torch.cumprod(torch.linspace(0.999, 0.98, 1000), 0)
    host.shared.sd_model = SimpleNamespace(alphas_cumprod=kept)
    sigma_of = lambda t: ((1 - kept[t]) / kept[t]).sqrt().item()  # noqa: E731
    sampler = SimpleNamespace(get_sigmas=lambda p, steps: whole)
    told = 2.0
    if timesteps:
        sampler, told = (
            SimpleNamespace(get_timesteps=lambda p, steps: torch.tensor([1, 251, 501, 751])),
            251.0,
        )
    denoiser = SimpleNamespace(sampler=sampler, p=None, step=1, steps=4, total_steps=4, init_latent=None)
    place.follow(SimpleNamespace(denoiser=denoiser, sigma=torch.tensor([told])))
    at = place.place()
    assert at.steps == 4
    assert at.step == (2.0 if timesteps else 3.0)
    assert at.sigma == pytest.approx(sigma_of(251) if timesteps else 2.0)
    # a walk from a picture takes the end of a longer list
    host.sd_samplers_common.setup_img2img_steps = lambda p, steps: (4, 1)
    if not timesteps:
        p = SimpleNamespace(is_hr_pass=False)
        half = SimpleNamespace(**{**vars(denoiser), "p": p, "init_latent": whole, "steps": 2, "step": 0})
        place.follow(SimpleNamespace(denoiser=half, sigma=torch.tensor([5.0])))
        assert place.place() == (5.0, 0.0, 2)
    # a sampler without a list: its steps are counted
    other = SimpleNamespace(sampler=object(), p=None, step=3, steps=4, total_steps=8, init_latent=None)
    place.follow(SimpleNamespace(denoiser=other, sigma=torch.tensor([7.0])))
    assert place.place() == (7.0, 3.0, 8)
    place.forget()
