"""Text to token ids and back, from the bytes in a model file.

    tokenizer = load(header["tokenizer"], blob)
    ids = tokenizer.encode("Once upon a time")

A kind of tokenizer is one file and one row of KINDS. The package knows nothing of chat templates and models;
the libraries that tokenize are imported when the first tokenizer is loaded.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer.base import BLOB_BYTES_MAX, TOKENS_MAX, Spec, StreamDecoder, Tokenizer

__all__ = [
    "BLOB_BYTES_MAX",
    "KINDS",
    "TOKENS_MAX",
    "Spec",
    "StreamDecoder",
    "Tokenizer",
    "load",
]


def _sentencepiece(spec: Spec, blob: bytes) -> Tokenizer:
    from edgeq.tokenizer.pieces import PiecesTokenizer

    return PiecesTokenizer(spec, blob)


def _tokenizer_json(spec: Spec, blob: bytes) -> Tokenizer:
    from edgeq.tokenizer.tokenizer_json import JsonTokenizer

    return JsonTokenizer(spec, blob)


KINDS: dict[str, Callable[[Spec, bytes], Tokenizer]] = {
    "sentencepiece": _sentencepiece,
    "tokenizer.json": _tokenizer_json,
}


def load(spec: object, blob: bytes, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer of a model file: `spec` is header["tokenizer"], `blob` the bytes of its tensor.

    vocab_size is the model's number of embedding rows: a tokenizer with more tokens is refused. Both
    arguments are untrusted. Raises FormatError for a broken one, UnsupportedError for an unknown kind.
    """
    checked = Spec.from_header(spec)
    if checked.kind not in KINDS:
        raise UnsupportedError(
            f"the tokenizer kind {checked.kind[:64]!r} is not known; known are {', '.join(sorted(KINDS))}"
        )
    blob = bytes(blob)
    if not 0 < len(blob) <= BLOB_BYTES_MAX:
        raise FormatError(f"the tokenizer has {len(blob)} bytes where 1 to {BLOB_BYTES_MAX} are allowed")
    if vocab_size is not None and checked.vocab_size > vocab_size:
        raise FormatError(
            f"the tokenizer has {checked.vocab_size} tokens, "
            f"more than the {vocab_size} rows of the model's embedding"
        )
    return KINDS[checked.kind](checked, blob)
