"""CLIP's byte-pair tokenizer (arXiv:2103.00020): text -> token ids, from data that ships with the package.

`assets/clip/merges.txt.gz` holds the 48,894 merges of CLIP's vocabulary (MIT, licence beside it). The
vocabulary follows from them: 256 byte symbols, the same 256 ending a word (`</w>`), one token for each
merge, start and end of text.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import FileError

if TYPE_CHECKING:
    import tokenizers

MERGES = Path(__file__).parent / "assets" / "clip" / "merges.txt.gz"
VOCAB = 49408
START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Text -> token ids, without start, end or padding; `pad`: what a folder says to pad with, else None.

    `start` and `end` are the ids that frame a chunk, `comma` the one at which a long prompt prefers to break.
    """

    def __init__(self, library: tokenizers.Tokenizer, pad: int | None = None, where: object = MERGES) -> None:
        self._library = library
        self.start = self._special(START, where)
        self.end = self._special(END, where)
        self.comma = library.token_to_id("," + _WORD_END)
        self.pad = pad

    def _special(self, token: str, where: object) -> int:
        found = self._library.token_to_id(token)
        if found is None:
            raise FileError(f"this tokenizer has no token {token}", where, "a CLIP tokenizer")
        return found

    def save(self, folder: str | Path) -> None:
        """Writes vocab.json and merges.txt, as a model folder's tokenizer/ has them."""
        self._library.model.save(str(folder))

    def word(self, token: int | None) -> str:
        """The text of a token's id; the end token's for None."""
        return self._library.id_to_token(self.end if token is None else token) or END

    @property
    def vocab_size(self) -> int:
        return self._library.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of one text; half a surrogate pair (an undecodable command line) counts as `?`."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        return self._library.encode(text, add_special_tokens=False).ids

    def encode_all(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text (one by one: the library's batches start threads, which then warn of forks)."""
        return [self.encode(text) for text in texts]

    @classmethod
    def clip(cls, vocab: int = VOCAB) -> Tokenizer:
        """CLIP's tokenizer; a text encoder with fewer rows than 49,408 gets the one with that many tokens.

        Merges are ordered by how often they occur, so the first `vocab - 514` of them are a smaller CLIP
        vocabulary that splits rarer words further.
        """
        return _clip(vocab)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """A model folder's own `tokenizer/`: `vocab.json` with `merges.txt`, or `tokenizer.json`."""
        folder = Path(folder)
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            library = _from_lists(folder)
        elif (folder / "tokenizer.json").is_file():
            library = _from_file(folder / "tokenizer.json")
        else:
            raise FileError("no tokenizer here", folder, "vocab.json and merges.txt, or tokenizer.json")
        return cls(library, _folder_pad(folder, library), folder)


@lru_cache(maxsize=4)
def _clip(vocab: int) -> Tokenizer:
    merges = _merges(gzip.decompress(MERGES.read_bytes()).decode("utf-8"))
    symbols = _byte_symbols()
    kept = vocab - 2 * len(symbols) - 2
    if not 0 <= kept <= len(merges):
        raise FileError(
            f"CLIP's vocabulary has no form with {vocab} tokens",
            expected=f"514 to {VOCAB}",
            todo="a text encoder with another vocabulary needs its own tokenizer/ folder",
        )
    merges = merges[:kept]
    words = [*symbols, *(s + _WORD_END for s in symbols), *map("".join, merges), START, END]
    return Tokenizer(_build({word: i for i, word in enumerate(words)}, merges))


def _byte_symbols() -> list[str]:
    """One printable character for each byte, printable Latin-1 first (the order CLIP's ids have)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


def _merges(text: str) -> list[tuple[str, str]]:
    """Two symbols a line; no symbol holds white space, so the words of the whole text pair up."""
    words = text.partition("\n")[2] if text.startswith("#version") else text
    halves = words.split()
    return list(zip(halves[::2], halves[1::2], strict=True))


def _build(vocab: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    model = models.BPE(vocab=vocab, merges=merges, end_of_word_suffix=_WORD_END, unk_token=END)
    library = Tokenizer(model)
    library.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    # The split above already is CLIP's: the library's own (GPT-2's) must not cut again.
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    library.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in (START, END) if t in vocab]
    )
    return library


def _from_lists(folder: Path) -> tokenizers.Tokenizer:
    vocab, lines = _read_json(folder / "vocab.json"), (folder / "merges.txt").read_text(encoding="utf-8")
    try:
        merges = _merges(lines)
    except ValueError:
        raise FileError("not a list of merges", folder / "merges.txt", "two symbols a line") from None
    # The library dies of a merge whose result the vocabulary lacks.
    lost = next((m for m in merges if any(word not in vocab for word in (*m, "".join(m)))), None)
    if lost:
        raise FileError(f"vocab.json lacks the merge {lost[0]!r} + {lost[1]!r} of merges.txt", folder)
    return _build(vocab, merges)


def _from_file(path: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    try:
        library = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise FileError(f"not a tokenizer: {error}", path) from error
    library.no_padding()
    library.no_truncation()
    return library


def _folder_pad(folder: Path, library: tokenizers.Tokenizer) -> int | None:
    """The padding token that the folder's settings name."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            token = _read_json(folder / name).get("pad_token")
            token = token.get("content") if isinstance(token, dict) else token
            if token is not None and (found := library.token_to_id(token)) is not None:
                return found
    return None


def _read_json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileError(f"not JSON: {error}", path) from error
    if not isinstance(found, dict):
        raise FileError("not a JSON object", path)
    return found
