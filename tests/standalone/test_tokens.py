"""CLIP's tokenizer: equal to transformers' on any text, from the package's data or a model folder's."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import sys

import pytest
from transformers import CLIPTokenizerFast

import sigmagraft.standalone.tokens as tokens
from sigmagraft.core.errors import FileError
from sigmagraft.standalone.tokens import Tokenizer

TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "Hello, World! don't we'll I'M they'VE a'sb 's",
    '!!! "quoted" (x:1.2) [y] <lora:z:0.8>',
    "café CAFÉ cafe\u0301 naïve ﬁne İstanbul ß ẞ Ω",
    "日本語 テスト 한국어 АБВ где עברית العربية ไทย",
    "🐱🐶👩‍👩‍👧‍👦 🇬🇧 ❤️ ☕",
    "1234 3.14 ² ⅣⅤ ½ 50% $5 #tag @home C++/C#",
    "\t a\n\n b \u3000c\u00a0d\r\n",
    "<|endoftext|> x <|startoftext|>y <|ENDOFTEXT|> <|endof",
    "__init__ foo_bar -- ... ''' \"'s",
    "a" * 300,
    "\x00 \u200b \ufeff \ud7ff \ue000 zero",
    "antidisestablishmentarianism supercalifragilisticexpialidocious",
]
POOL = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789     \t\n"
    ",.:;!?'\"()[]{}<>|\\/@#$%^&*-_=+~`éüñçøåßÆ日本語ひらカタ한글абвΩ🐱🎨👍½²\u0301\u00a0\u3000"
)


def write_folder(folder, size: int = tokens.VOCAB):
    """vocab.json and merges.txt as published folders have them, made from the merges by CLIP's definition."""
    merges = gzip.decompress(tokens.MERGES.read_bytes()).decode("utf-8").split("\n")[: size - 514]
    visible = [b for b in range(256) if chr(b).isprintable() and not chr(b).isspace()]
    hidden = [b for b in range(256) if b not in visible]
    table = {b: chr(b) for b in visible} | {b: chr(256 + n) for n, b in enumerate(hidden)}
    symbols = [table[b] for b in visible + hidden]
    words = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {word: n for n, word in enumerate(words)}
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("clip") / "tokenizer")


@pytest.fixture(scope="module")
def reference(folder):
    return CLIPTokenizerFast.from_pretrained(folder)


def expected(reference, text: str) -> list[int]:
    return reference(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", TEXTS)
def test_equals_transformers(reference, text):
    assert Tokenizer.clip().encode(text) == expected(reference, text)


def test_equals_transformers_on_random_text(reference):
    draw = random.Random(0)
    for _ in range(400):
        text = "".join(draw.choices(POOL, k=draw.randint(1, 60)))
        assert Tokenizer.clip().encode(text) == expected(reference, text), repr(text)


def test_published_ids():
    clip = Tokenizer.clip()
    assert clip.encode("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (clip.start, clip.end, clip.comma, clip.vocab_size) == (49406, 49407, 267, 49408)


def test_encode_all_is_encode_of_each():
    clip = Tokenizer.clip()
    assert clip.encode_all(TEXTS) == [clip.encode(text) for text in TEXTS]


def test_half_a_surrogate_pair_is_a_question_mark():
    assert Tokenizer.clip().encode("a\udc80b") == Tokenizer.clip().encode("a?b")


def test_loaded_once():
    assert Tokenizer.clip() is Tokenizer.clip()


@pytest.mark.parametrize("size", [600, 5000])
def test_smaller_vocabulary_is_the_start_of_clips(tmp_path, size):
    reference = CLIPTokenizerFast.from_pretrained(write_folder(tmp_path / "tokenizer", size))
    small = Tokenizer.clip(size)
    assert (small.vocab_size, small.start, small.end) == (size, size - 2, size - 1)
    for text in TEXTS:
        assert small.encode(text) == expected(reference, text)


@pytest.mark.parametrize("size", [513, 49409])
def test_impossible_vocabulary(size):
    with pytest.raises(FileError, match=f"{size} tokens.*514 to 49408"):
        Tokenizer.clip(size)


def test_folder_with_vocab_and_merges(folder, reference):
    own = Tokenizer.from_folder(folder)
    assert own.pad is None
    for text in TEXTS:
        assert own.encode(text) == expected(reference, text)


@pytest.mark.parametrize("pad", ["!", "<|endoftext|>"])
def test_folder_as_transformers_saves_it(tmp_path, folder, pad):
    reference = CLIPTokenizerFast.from_pretrained(folder, pad_token=pad)
    reference.save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    own = Tokenizer.from_folder(tmp_path)
    assert own.pad == reference.pad_token_id
    for text in TEXTS:
        assert own.encode(text) == expected(reference, text)


def test_folder_pad_in_special_tokens_map(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "tokenizer")
    tokens_map = {"pad_token": {"content": "!", "lstrip": False}}
    (tmp_path / "tokenizer" / "special_tokens_map.json").write_text(json.dumps(tokens_map))
    assert Tokenizer.from_folder(tmp_path / "tokenizer").pad == 0


def test_folder_without_tokenizer(tmp_path):
    with pytest.raises(FileError, match=r"no tokenizer here.*vocab\.json"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ("{", "a b\n", "not JSON"),
        ("[]", "a b\n", "not a JSON object"),
        ('{"a": 0, "b": 1}', "a b\n", "lacks the merge 'a' [+] 'b'"),
        ('{"a": 0, "b": 1, "ab": 2}', "a b\n", "no token"),
        ('{"a": 0, "b": 1, "ab": 2}', "a b c\n", "not a list of merges"),
    ],
)
def test_broken_folder(tmp_path, vocab, merges, message):
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(FileError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_broken_tokenizer_json(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileError, match="not a tokenizer"):
        Tokenizer.from_folder(tmp_path)


def test_licence_ships_with_the_data():
    licence = (tokens.MERGES.parent / "LICENSE").read_text()
    assert "MIT License" in licence
    assert "OpenAI" in licence


def test_import_is_light():
    code = "import sys, {0}; sys.exit(any(m in sys.modules for m in ('torch', 'tokenizers', 'transformers')))"
    path = tokens.MERGES.parents[3]
    setup = f"import runpy; runpy.run_path({str(path / 'bootstrap.py')!r})['load'](); "
    command = [sys.executable, "-c", setup + code.format("sigmagraft.standalone.tokens")]
    assert subprocess.run(command, check=False).returncode == 0
