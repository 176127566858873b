"""Tokenizers of kind "sentencepiece": the blob is a sentencepiece model."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from edgeq.errors import FormatError
from edgeq.tokenizer import modelproto
from edgeq.tokenizer.base import Spec, Tokenizer

SPACE = "\u2581"
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class PiecesTokenizer(Tokenizer):
    """The sentencepiece library with a checked vocabulary and our own decoding."""

    def __init__(self, spec: Spec, blob: bytes) -> None:
        super().__init__(spec)
        self._blob = blob
        # Refuses what the library would trust.
        self._words, _, self._types = modelproto.read_columns(blob)
        self._check()
        self._processor = load_processor(blob)
        if self._processor.vocab_size() != len(self._words):
            raise FormatError("the sentencepiece model and its library disagree about the number of pieces")

    def _check(self) -> None:
        count = len(self._words)
        if count != self.spec.vocab_size:
            raise FormatError(
                f"the sentencepiece model has {count} pieces, the header says {self.spec.vocab_size}"
            )
        for id, (word, type) in enumerate(zip(self._words, self._types, strict=True)):
            if type == modelproto.BYTE and not BYTE_PIECE.fullmatch(word):
                raise FormatError(f"piece {id} of the sentencepiece model is a byte not spelled <0x..>")
        for id in self.reserved_ids:
            if self._types[id] not in (modelproto.CONTROL, modelproto.UNKNOWN, modelproto.UNUSED):
                raise FormatError(f"token {id} is a control token of the header but a word of the model")

    @cached_property
    def _without_prefix(self) -> Any:
        return load_processor(self._blob + modelproto.PREFIX[False])

    def _plain(self, text: str, first: bool) -> list[int]:
        return (self._processor if first else self._without_prefix).encode(text)

    def spelling(self, id: int) -> str:
        return self._words[id]

    def _bytes(self, id: int) -> bytes:
        if self._types[id] == modelproto.BYTE:
            return bytes([int(self._words[id][3:5], 16)])
        if self._types[id] == modelproto.UNKNOWN:
            return " \u2047 ".encode()  # what sentencepiece prints for it
        return self._words[id].replace(SPACE, " ").encode()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: id for id, word in reversed(list(enumerate(self._words)))}

    def id(self, token: str) -> int | None:
        return self._ids.get(token)


def load_processor(blob: bytes) -> Any:
    """The library's object for a model. Raises FormatError when the library refuses it."""
    from sentencepiece import SentencePieceProcessor, set_min_log_level

    set_min_log_level(3)  # what it logs of a file it also raises, and the rest is nobody's business
    try:
        return SentencePieceProcessor(model_proto=blob)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        words = "".join(c if c.isprintable() else " " for c in str(error))
        raise FormatError(
            f"the sentencepiece model cannot be loaded ({' '.join(words.split())[-200:]})"
        ) from None
