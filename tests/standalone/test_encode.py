"""Encoded prompts of every family against transformers and diffusers, from the same random weights."""

from __future__ import annotations

import gzip
import json
import socket
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from diffusers.models.embeddings import Timesteps
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizerFast

from sigmagraft.core.errors import FileError, MissingPartError, OptionError
from sigmagraft.standalone.chunks import Vector
from sigmagraft.standalone.encode import encode_prompts
from sigmagraft.standalone.reader import Reader
from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.textrules import RULES, Sizes, hidden_layer
from sigmagraft.standalone.textual_inversion import Embeddings
from sigmagraft.standalone.tokens import MERGES, Tokenizer

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
# (width, layers, heads, activation, projection) of small text encoders, in each family's order
TEXTS = {
    "sd1": [(32, 4, 4, "quick_gelu", None)],
    "sd2": [(48, 24, 4, "gelu", None)],
    "sdxl": [(32, 4, 4, "quick_gelu", None), (48, 5, 4, "gelu", 40)],
    "sdxl-refiner": [(48, 5, 4, "gelu", 40)],
}
VECTOR = {"sdxl": 40 + 6 * 256, "sdxl-refiner": 40 + 5 * 256}
LONG = ", ".join(f"word{n} of a long prompt" for n in range(30))


def reference_text(width, layers, heads, act, projection, seed):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=act,
        projection_dim=projection or width,
        eos_token_id=49407,
        bos_token_id=49406,
    )
    model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, mean=0.6, std=0.2)
        elif "bias" not in name:
            parameter.data *= 3  # the library's initial weights are so small that layers hardly differ
    return model


def our_text(reference) -> TextEncoder:
    c = reference.config
    weights = reference.state_dict()
    if not any(
        name.startswith("text_model.") for name in weights
    ):  # transformers 5 names a bare CLIPTextModel so
        weights = {f"text_model.{name}": tensor for name, tensor in weights.items()}
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith("position_ids")}
    projection = c.projection_dim if "text_projection.weight" in weights else None
    config = TextConfig(
        c.vocab_size,
        c.hidden_size,
        c.num_hidden_layers,
        c.num_attention_heads,
        c.intermediate_size,
        c.max_position_embeddings,
        c.hidden_act,
        projection,
    )
    text = TextEncoder(config).eval()
    text.load_state_dict(weights)
    return text


def small_model(family: str, references, dtype=torch.float32) -> SimpleNamespace:
    return SimpleNamespace(
        texts=[our_text(reference) for reference in references],
        info=SimpleNamespace(family=family),
        unet=SimpleNamespace(config=SimpleNamespace(adm_in_channels=VECTOR.get(family))),
        tokenizer=None,
        source="random",
        dtype=dtype,
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="module", params=TEXTS)
def family(request):
    """(family, the references, our model with their weights)"""
    references = [reference_text(*sizes, seed=n) for n, sizes in enumerate(TEXTS[request.param])]
    return request.param, references, small_model(request.param, references)


@pytest.fixture(scope="module")
def sd1():
    references = [reference_text(*TEXTS["sd1"][0], seed=0)]
    return references[0], small_model("sd1", references)


@pytest.fixture(scope="module")
def sdxl():
    references = [reference_text(*sizes, seed=n) for n, sizes in enumerate(TEXTS["sdxl"])]
    return references, small_model("sdxl", references)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """transformers' tokenizer with CLIP-L's padding and with OpenCLIP's."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.json").write_text(json.dumps(Tokenizer.clip()._library.get_vocab()), encoding="utf-8")
    (folder / "merges.txt").write_bytes(b"#version: 0.2\n" + gzip.decompress(MERGES.read_bytes()))
    pads = {None: "<|endoftext|>", 0: "!"}
    return {
        key: CLIPTokenizerFast.from_pretrained(folder, pad_token=pad, model_max_length=77)
        for key, pad in pads.items()
    }


def padded(tokenizer, prompts):
    """Token ids [b, 77] as diffusers makes them."""
    return tokenizer(
        prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids


@torch.no_grad()
def reference_hidden(reference, ids, skip: int, final_norm: bool):
    """(hidden states, pooled) by transformers; skip 1 is the last layer."""
    out = reference(ids, output_hidden_states=True)
    hidden = out.hidden_states[-skip]
    if final_norm:
        inner = reference.text_model if hasattr(reference, "text_model") else reference
        hidden = inner.final_layer_norm(hidden)
    return hidden, getattr(out, "text_embeds", None)


@pytest.mark.parametrize("skip", [None, 1, 2, 3])
def test_equals_transformers(family, tokenizers, skip):
    name, references, model = family
    rule, prompts = RULES[name], ["a photo of a cat", "", "ünïcode 🐱, and more words"]
    found = encode_prompts(model, prompts, clip_skip=skip)
    hidden, pooled = [], None
    for reference, pad in zip(references, rule.pads, strict=True):
        ids = padded(tokenizers[pad], prompts)
        states, pooled = reference_hidden(reference, ids, skip or rule.skip, rule.final_norm)
        hidden.append(states)
    torch.testing.assert_close(found.context, torch.cat(hidden, dim=-1), **CLOSE)
    if rule.sizes:
        torch.testing.assert_close(found.vector[:, :40], pooled, **CLOSE)
    else:
        assert found.vector is None


@pytest.mark.parametrize("skip", [None, 1, 2])
def test_equals_diffusers_sd1(sd1, tokenizers, skip):
    reference, model = sd1
    pipe = StableDiffusionPipeline(
        vae=None,
        text_encoder=reference,
        tokenizer=tokenizers[None],
        unet=None,
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # transformers 5 dropped the attribute that diffusers asks for where it skips layers.
    reference.__dict__.setdefault("text_model", reference)
    with torch.no_grad():
        cond, uncond = pipe.encode_prompt("a red ball", "cpu", 1, True, "blurry", clip_skip=skip)
    ours = None if skip is None else skip + 1
    torch.testing.assert_close(encode_prompts(model, ["a red ball"], clip_skip=ours).context, cond, **CLOSE)
    # diffusers skips layers for the prompt alone, never for the negative prompt.
    torch.testing.assert_close(encode_prompts(model, ["blurry"], negative=True).context, uncond, **CLOSE)


def xl_pipeline(kind, references, tokenizers, vector: int, **config):
    """A pipeline that has just what encoding prompts and sizes asks of a UNet."""
    pipe = kind(
        vae=None,
        text_encoder=references[0] if len(references) > 1 else None,
        text_encoder_2=references[-1],
        tokenizer=tokenizers[None] if len(references) > 1 else None,
        tokenizer_2=tokenizers[0],
        unet=None,
        scheduler=None,
        **config,
    )
    pipe.unet = SimpleNamespace(
        config=SimpleNamespace(addition_time_embed_dim=256),
        add_embedding=SimpleNamespace(linear_1=SimpleNamespace(in_features=vector)),
    )
    return pipe


def reference_vector(pooled, time_ids):
    """What diffusers' UNet makes of text_embeds and time_ids."""
    project = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
    return torch.cat([pooled, project(time_ids.flatten()).reshape(len(time_ids), -1)], dim=-1)


@pytest.mark.parametrize("skip", [None, 1])
@pytest.mark.parametrize("negative", [None, "blurry"])
def test_equals_diffusers_sdxl(sdxl, tokenizers, negative, skip):
    references, model = sdxl
    pipe = xl_pipeline(StableDiffusionXLPipeline, references, tokenizers, VECTOR["sdxl"])
    with torch.no_grad():
        cond, uncond, pooled, negative_pooled = pipe.encode_prompt(
            "a red ball", None, "cpu", 1, True, negative, clip_skip=skip
        )
    ids = pipe._get_add_time_ids((768, 1024), (16, 32), (512, 640), torch.float32, 40)
    ours = None if skip is None else skip + 2
    sizes = Sizes(original=(1024, 768), crop=(32, 16), target=(640, 512))
    for prompt, is_negative, context, text in [
        ("a red ball", False, cond, pooled),
        (negative or "", True, uncond, negative_pooled),
    ]:
        skipped = None if is_negative else ours  # as above
        found = encode_prompts(model, [prompt], negative=is_negative, clip_skip=skipped, sizes=sizes)
        torch.testing.assert_close(found.context, context, **CLOSE)
        torch.testing.assert_close(found.vector, reference_vector(text, ids), **CLOSE)


def test_equals_diffusers_refiner(tokenizers):
    references = [reference_text(*TEXTS["sdxl-refiner"][0], seed=1)]
    model = small_model("sdxl-refiner", references)
    pipe = xl_pipeline(
        StableDiffusionXLImg2ImgPipeline,
        references,
        tokenizers,
        VECTOR["sdxl-refiner"],
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )
    with torch.no_grad():
        cond, uncond, pooled, negative_pooled = pipe.encode_prompt("a red ball", None, "cpu", 1, True, "")
    size, none = (768, 1024), (0, 0)
    ids, negative_ids = pipe._get_add_time_ids(
        size, none, size, 6.0, 2.5, size, none, size, torch.float32, text_encoder_projection_dim=40
    )
    found = encode_prompts(model, ["a red ball"], size=(1024, 768))
    torch.testing.assert_close(found.context, cond, **CLOSE)
    torch.testing.assert_close(found.vector, reference_vector(pooled, ids), **CLOSE)
    found = encode_prompts(model, [""], size=(1024, 768), negative=True)
    torch.testing.assert_close(found.context, uncond, **CLOSE)
    torch.testing.assert_close(found.vector, reference_vector(negative_pooled, negative_ids), **CLOSE)


def test_empty_negative_prompt_of_sdxl(sdxl):
    _, model = sdxl
    zeros = encode_prompts(model, ["", "x"], negative=True)
    assert not zeros.context[0].any()
    assert not zeros.vector[0, :40].any()
    assert zeros.vector[0, 40:].any()
    assert zeros.context[1].any()
    assert encode_prompts(model, [""], negative=True, emphasis="comfyui").context.any()
    assert encode_prompts(model, [""], negative=True, zero_empty=False).context.any()
    assert encode_prompts(model, [""]).context.any()


def test_sd2_file_without_its_last_layer():
    whole = reference_text(*TEXTS["sd2"][0], seed=0)
    model = small_model("sd2", [whole])
    short = small_model("sd2", [whole])
    text = short.texts[0]
    config = TextConfig(**{**text.config.__dict__, "layers": 23})
    cut = TextEncoder(config).eval()
    kept = {k: v for k, v in text.state_dict().items() if ".layers.23." not in k}
    cut.load_state_dict(kept)
    short.texts = [cut]
    for skip in (None, 2, 5):
        wanted = encode_prompts(model, ["a cat"], clip_skip=skip).context
        torch.testing.assert_close(encode_prompts(short, ["a cat"], clip_skip=skip).context, wanted)
    with pytest.raises(
        OptionError, match=r"clip skip 1 .*leaves out the last of 24 layers \(expected 2 to 24\)"
    ):
        encode_prompts(short, ["a cat"], clip_skip=1)


@pytest.mark.parametrize("skip", [0, -1, 5, 99])
def test_clip_skip_out_of_range(sd1, skip):
    with pytest.raises(
        OptionError, match=rf"--clip-skip: clip skip {skip} does not exist \(expected 1 to 4\)"
    ):
        encode_prompts(sd1[1], ["a"], clip_skip=skip)


def by_hand(reference, rows: list[list[int]], skip: int = 1):
    """Final-normed hidden states of framed ids, by transformers."""
    return reference_hidden(reference, torch.tensor(rows), skip, True)[0]


def framed(ids: list[int]) -> list[int]:
    return [49406, *ids, *[49407] * (76 - len(ids))]


@pytest.mark.parametrize("emphasis", ["a1111", "a1111-no-norm", "comfyui", "none"])
@pytest.mark.parametrize("skip", [1, 2])
def test_weights_end_to_end(sd1, emphasis, skip):
    reference, model = sd1
    clip = Tokenizer.clip()
    prompt = "a (red:1.4) ball, (very (round))"
    words = [("a", 1.0), ("red", 1.4), ("ball,", 1.0), ("very", 1.1), ("round", 1.21)]
    if emphasis == "none":
        words = [(prompt, 1.0)]
    ids = [i for word, _ in words for i in clip.encode(word)]
    weights = [w for word, w in words for _ in clip.encode(word)]
    z = by_hand(reference, [framed(ids)], skip)[0].double()
    w = torch.tensor([1.0, *weights] + [1.0] * (76 - len(weights)), dtype=torch.float64)[:, None]
    empty = by_hand(reference, [framed([])], skip)[0].double()
    wanted = {"none": z, "comfyui": (z - empty) * w + empty}.get(emphasis, z * w)
    if emphasis == "a1111":
        wanted = wanted * (z.mean() / wanted.mean())
    found = encode_prompts(model, [prompt], emphasis=emphasis, clip_skip=skip).context[0]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


def test_pooled_text_has_no_weights(sdxl):
    _, model = sdxl
    weighed, plain = encode_prompts(model, ["a (cat:1.5)"]), encode_prompts(model, ["a cat"])
    torch.testing.assert_close(weighed.vector, plain.vector)
    assert not torch.allclose(weighed.context, plain.context, atol=1e-3)


@pytest.mark.parametrize("emphasis", ["a1111", "comfyui"])
def test_chunks_end_to_end(sd1, emphasis):
    reference, model = sd1
    ids = Tokenizer.clip().encode(LONG)
    found = encode_prompts(model, [LONG], emphasis=emphasis, comma_backtrack=0).context
    parts = [ids[n : n + 75] for n in range(0, len(ids), 75)]
    assert len(parts) > 2
    wanted = by_hand(reference, [framed(part) for part in parts]).flatten(0, 1)
    torch.testing.assert_close(found[0], wanted, **CLOSE)


def test_break_end_to_end(sd1):
    _, model = sd1
    found = encode_prompts(model, ["a cat BREAK a dog"]).context[0]
    wanted = [encode_prompts(model, [text]).context[0] for text in ("a cat", "a dog")]
    torch.testing.assert_close(found, torch.cat(wanted))


def test_commas_move_words_to_the_next_chunk(sd1):
    _, model = sd1
    near, anywhere = (Reader.of(model, comma_backtrack=n).chunks(LONG) for n in (20, 0))
    assert len(near[0]) < 75 == len(anywhere[0])
    assert near[0][-1][0] == Tokenizer.clip().comma


def test_pooled_of_a_long_prompt_is_its_first_chunks(sdxl):
    _, model = sdxl
    first = LONG[: LONG.index("word5")]
    found = encode_prompts(model, [f"{first} BREAK more"])
    torch.testing.assert_close(found.vector, encode_prompts(model, [first]).vector)


@pytest.mark.parametrize("emphasis", ["a1111", "comfyui"])
def test_each_prompt_of_a_batch_is_as_alone(sdxl, emphasis):
    _, model = sdxl
    prompts = ["a cat", LONG, "a (dog:1.3)", "a cat", "x BREAK y"]
    batch = encode_prompts(model, prompts, emphasis=emphasis)
    assert len(batch) == 5
    for n, prompt in enumerate(prompts):
        alone = encode_prompts(model, [prompt], emphasis=emphasis)
        for part in batch.context[n].split(alone.context.shape[1]):
            torch.testing.assert_close(part, alone.context[0], **CLOSE)
        torch.testing.assert_close(batch.vector[n], alone.vector[0], **CLOSE)
    assert torch.equal(batch.context[0], batch.context[3])


def test_textual_inversion_end_to_end(sd1, tmp_path):
    """Against transformers with the vectors as new rows of its token table."""
    _, model = sd1
    vectors = torch.randn(2, 32)
    torch.save({"string_to_param": {"*": vectors}}, tmp_path / "my-style.pt")
    embeddings = Embeddings([tmp_path])
    grown = reference_text(*TEXTS["sd1"][0], seed=0)
    grown.resize_token_embeddings(49410)
    grown.get_input_embeddings().weight.data[49408:] = vectors
    clip = Tokenizer.clip()
    ids = [*clip.encode("art by"), 49408, 49409, *clip.encode(", red")]
    # The end token is no longer the largest id, which only the pooled output (unused here) looks at.
    wanted = by_hand(grown, [framed(ids)])
    for prompt in ("art by my-style, red", "art by embedding:my-style, red"):
        found = encode_prompts(model, [prompt], embeddings=embeddings)
        torch.testing.assert_close(found.context, wanted, **CLOSE)
    plain = encode_prompts(model, ["art by my-style, red"], embeddings=embeddings, emphasis="comfyui").context
    torch.testing.assert_close(plain, encode_prompts(model, ["art by my-style, red"]).context)


def test_textual_inversion_of_sdxl_feeds_each_encoder_its_own(sdxl, tmp_path):
    _, model = sdxl
    tables = [text.text_model.embeddings.token_embedding.weight for text in model.texts]
    ids = Tokenizer.clip().encode("red ball")
    torch.save({"clip_l": tables[0][ids].detach(), "clip_g": tables[1][ids].detach()}, tmp_path / "thing.pt")
    found = encode_prompts(model, ["a thing"], embeddings=Embeddings([tmp_path]))
    wanted = encode_prompts(model, ["a red ball"])
    torch.testing.assert_close(found.context, wanted.context, **CLOSE)
    torch.testing.assert_close(found.vector, wanted.vector, **CLOSE)
    weights = [w for e, w in Reader.of(model, embeddings=Embeddings([tmp_path])).chunks("(thing:1.3)")[0]]
    assert weights == [1.3, 1.3]


def test_textual_inversion_of_another_family(sd1, tmp_path):
    torch.save({"<x>": torch.zeros(1, 1024)}, tmp_path / "other.bin")
    with pytest.raises(FileError, match=r"other\.bin: .*1024 wide, for SD2\.x \(expected 32, "):
        encode_prompts(sd1[1], ["an other cat"], embeddings=Embeddings([tmp_path]))


def test_end_token_in_the_text_ends_the_pooled_text(sdxl):
    _, model = sdxl
    cut = encode_prompts(model, ["a cat<|endoftext|> with more"])
    torch.testing.assert_close(cut.vector, encode_prompts(model, ["a cat"]).vector, **CLOSE)


def test_the_folders_padding_wins(tokenizers):
    references = [reference_text(*TEXTS["sd1"][0], seed=0)]
    model = small_model("sd1", references)
    model.tokenizer = Tokenizer(Tokenizer.clip()._library, pad=0)
    wanted, _ = reference_hidden(references[0], padded(tokenizers[0], ["a cat"]), 1, True)
    torch.testing.assert_close(encode_prompts(model, ["a cat"]).context, wanted, **CLOSE)


def test_a_smaller_text_encoder_gets_a_smaller_vocabulary():
    torch.manual_seed(0)
    model = small_model("sd1", [])
    model.texts = [
        TextEncoder(TextConfig(vocab=2000, width=16, layers=2, heads=2, intermediate=32, max_length=20))
    ]
    chunks = Reader.of(model).chunks(
        "an extraordinarily long and rather unusual sentence about hippopotamuses"
    )
    assert max(entry for chunk in chunks for entry, _ in chunk if not isinstance(entry, Vector)) < 1998
    assert all(len(chunk) <= 18 for chunk in chunks)
    assert encode_prompts(model, ["a cat"]).context.shape == (1, 20, 16)


def test_half_precision_model(sd1):
    reference, model = sd1
    half = small_model("sd1", [reference], dtype=torch.bfloat16)
    half.texts = [text.to(torch.bfloat16) for text in half.texts]
    found = encode_prompts(half, ["a (cat:1.2)", "x"])
    assert found.context.dtype == torch.bfloat16
    wanted = encode_prompts(model, ["a (cat:1.2)", "x"]).context
    torch.testing.assert_close(found.context.float(), wanted, rtol=0.1, atol=0.15)


def test_no_socket_is_opened(sd1, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    from sigmagraft.standalone.tokens import _clip

    _clip.cache_clear()
    assert encode_prompts(sd1[1], ["a cat"]).context.shape == (1, 77, 32)


def test_mistakes(sd1, sdxl):
    model = sd1[1]
    with pytest.raises(OptionError, match="no prompt"):
        encode_prompts(model, [])
    with pytest.raises(OptionError, match="unknown emphasis 'comfy'; did you mean 'comfyui'"):
        encode_prompts(model, ["a"], emphasis="comfy")
    with pytest.raises(OptionError, match="no embedding is named 'nothing'"):
        encode_prompts(model, ["embedding:nothing"])
    one = SimpleNamespace(**{**sdxl[1].__dict__, "texts": sdxl[1].texts[:1]})
    with pytest.raises(
        MissingPartError, match=r"sdxl model has 1 text encoders .*clip_l, clip_g\)\); .*--text-encoder"
    ):
        encode_prompts(one, ["a"])
    small = SimpleNamespace(**model.__dict__)
    small.tokenizer, small.texts = Tokenizer.clip(), [TextEncoder(TextConfig(600, 16, 2, 2, 32))]
    with pytest.raises(FileError, match="49408 tokens, the text encoder 600"):
        encode_prompts(small, ["a"])


def test_hidden_layer_by_family():
    assert [hidden_layer(f, n) for f, n in (("sd1", 12), ("sd2", 24), ("sd2", 23), ("sdxl", 12))] == [
        -1,
        -2,
        -1,
        -2,
    ]
