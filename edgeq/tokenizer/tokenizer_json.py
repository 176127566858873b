"""Tokenizers of kind "tokenizer.json": the blob is the JSON that the `tokenizers` library reads.

The converter has settled what the library's file leaves open: every reserved token is an added token with
"special": true (so that `encode_special_tokens` keeps it out of plain text), and there is no post-processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

from edgeq.errors import FormatError
from edgeq.tokenizer.base import Spec, Tokenizer
from edgeq.tokenizer.document import Document
from edgeq.tokenizer.pieces import BYTE_PIECE, SPACE
from edgeq.tokenizer.pipeline import check_settings
from edgeq.tokenizer.splitting import Normalize, Splitter, rewritten


class JsonTokenizer(Tokenizer):
    """The tokenizers library without its special-token matching, with our own decoding."""

    def __init__(self, spec: Spec, blob: bytes) -> None:
        super().__init__(spec)
        document = checked(blob)
        self._document, splits = rewritten(document)
        self._library = library_of(self._document)
        self._split: Normalize | None = None
        if splits:
            self._split = Splitter(splits, normalizer_of(document))
        if self._library.get_vocab_size(with_added_tokens=True) > spec.vocab_size:
            raise FormatError(
                f"the tokenizer.json has more tokens than the {spec.vocab_size} that the header says"
            )
        added = self._library.get_added_tokens_decoder()
        self._added = frozenset(added)
        for id in self.reserved_ids:
            if id in added and not added[id].special:
                raise FormatError(f"token {id} is a control token of the header but a word of the model")

    @cached_property
    def _without_prefix(self) -> Any:
        settings = without_prefix(self._document.settings)
        if settings == self._document.settings:
            return self._library
        return library_of(self._document.with_settings(settings))

    def _plain(self, text: str, first: bool) -> list[int]:
        library = self._library if first else self._without_prefix
        if self._split:
            text = self._split(text)
        with library_errors("tokenize a text"):
            return library.encode(text, add_special_tokens=False).ids

    def spelling(self, id: int) -> str:
        return self._library.id_to_token(id) or ""

    def _bytes(self, id: int) -> bytes:
        word = self.spelling(id)
        if id in self._added:
            return word.encode()
        if self.spec.byte_level:
            alphabet = byte_alphabet()
            return bytes(alphabet[c] for c in word) if all(c in alphabet for c in word) else word.encode()
        if self.spec.word_pieces:
            return (word[2:] if word.startswith("##") else f" {word}").encode()
        if match := BYTE_PIECE.fullmatch(word):
            return bytes([int(match[1], 16)])
        return word.replace(SPACE, " ").encode()

    def id(self, token: str) -> int | None:
        return self._library.token_to_id(token)


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """FormatError for whatever the library raises: a panic inside it is a BaseException that no `except
    Exception` sees."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        words = "".join(c if c.isprintable() else " " for c in str(error))
        raise FormatError(f"the tokenizer.json cannot {what} ({' '.join(words.split())[:200]})") from None


def checked(blob: bytes) -> Document:
    """A tokenizer.json from anywhere; FormatError or UnsupportedError for what the library must not see."""
    document = Document.parse(blob)
    check_settings(document.settings)
    return document


def without_prefix(value: Any) -> Any:
    """Settings whose steps put no space before a text where they did so before the first piece alone."""
    if isinstance(value, dict):
        found = {key: without_prefix(inner) for key, inner in value.items()}
        return found | {"prepend_scheme": "never"} if found.get("prepend_scheme") == "first" else found
    return [without_prefix(inner) for inner in value] if isinstance(value, list) else value


def normalizer_of(document: Document) -> Normalize:
    """What the normalizer of a checked tokenizer.json makes of a text."""
    normalizer = document.settings.get("normalizer")
    if normalizer is None:
        return str
    model = {"type": "BPE", "vocab": {}, "merges": []}
    found = library_of(Document({"normalizer": normalizer, "model": model}, {})).normalizer

    def normalize(text: str) -> str:
        with library_errors("normalize a text"):
            return str(found.normalize_str(text))

    return normalize


def library_of(document: Document) -> Any:
    """The library's object for a checked tokenizer.json. Raises FormatError when the library refuses it."""
    from tokenizers import Tokenizer as Library

    with library_errors("be loaded"):
        library = Library.from_buffer(document.to_bytes())
    library.encode_special_tokens = True
    library.no_truncation()
    library.no_padding()
    return library


@cache
def byte_alphabet() -> dict[str, int]:
    """Character -> byte of the byte-level alphabet: printable Latin-1 stands for itself, the other bytes are
    spelled with the characters from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
