"""The protobuf fields of a sentencepiece model that edgeq reads and writes.

Wire format of `ModelProto` as far as it matters here (field number: meaning):

    1  pieces, repeated: 1 piece (string), 2 score (float), 3 type (enum, default NORMAL)
    2  trainer_spec:     3 model_type (enum), 35 byte_fallback (bool), 40 … 43 ids of unk, bos, eos, pad
    3  normalizer_spec:  1 name, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces (bools)

A field that comes again overrides the one before it (messages are merged), so appending is a way of changing.
All input is untrusted: every length is compared with what is left before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from edgeq.errors import FormatError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
PIECES_MAX = 1 << 19
PIECE_BYTES_MAX = 1 << 16
PIECE_FIELDS_MAX = 8
FIELDS_MAX = PIECES_MAX + 16  # of any message
SLOW_MAX = 1 << 16  # fields of the model that are not pieces written as every writer does
PREFIX = {flag: b"\x1a\x02\x18" + bytes([flag]) for flag in (False, True)}
"""normalizer_spec {add_dummy_prefix: flag}, to append to a model."""

_FLOAT = struct.Struct("<f")
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Piece(NamedTuple):
    """One word of the vocabulary."""

    text: str
    score: float
    type: int


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise FormatError("the sentencepiece model is cut off or holds a number of more than 64 bits")


def read_fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of one message: an int for numbers (unsigned), else bytes."""
    at = count = 0
    while at < len(data):
        number, wire, value, at = read_field(data, at)
        yield number, wire, value
        count += 1
        if count > FIELDS_MAX:
            raise FormatError(f"the sentencepiece model has a message of more than {FIELDS_MAX} fields")


def read_field(data: bytes, at: int) -> tuple[int, int, int | bytes, int]:
    """(field number, wire type, value, position after it) of the field that begins at a position."""
    key, at = read_varint(data, at)
    number, wire = key >> 3, key & 7
    value: int | bytes
    if wire == VARINT:
        value, at = read_varint(data, at)
    elif wire in (FIXED64, FIXED32):
        size = 8 if wire == FIXED64 else 4
        value, at = int.from_bytes(data[at : at + size], "little"), at + size
    elif wire == LENGTH:
        size, at = read_varint(data, at)
        value, at = data[at : at + size], at + size
    else:
        raise FormatError(f"the sentencepiece model holds a field of the unknown wire type {wire}")
    if at > len(data) or not number:
        raise FormatError("the sentencepiece model is cut off or no sentencepiece model")
    return number, wire, value, at


def read_pieces(model: bytes) -> list[Piece]:
    """The vocabulary of a sentencepiece model in the order of ids. Raises FormatError for a broken one."""
    return list(map(Piece, *read_columns(model)))


def read_columns(model: bytes) -> tuple[list[str], list[float], bytes]:
    """The texts, scores and types of `read_pieces`, which takes less time and memory."""
    texts: list[bytes] = []
    scores, types = bytearray(), bytearray()
    at, end, slow = 0, len(model), 0
    while at < end and len(texts) <= PIECES_MAX:
        # text, score and perhaps a small type, as every writer puts them: far faster than the fields
        plain = at + 4 < end and model[at] == 0x0A and model[at + 1] < 128
        stop = at + 2 + model[at + 1] if plain else end
        if plain and stop <= end and model[at + 2] == 0x0A and model[at + 3] < 128:
            text = at + 4 + model[at + 3]
            tail = stop - text
            if (tail == 5 or tail == 7 and model[text + 5] == 0x18) and model[text] == 0x15:
                texts.append(model[at + 4 : text])
                scores += model[text + 1 : text + 5]
                types.append(model[text + 6] if tail == 7 else NORMAL)
                at = stop
                continue
        slow += 1
        if slow > SLOW_MAX:
            raise FormatError("the sentencepiece model is not written as such models are")
        number, wire, value, at = read_field(model, at)
        if number == 1 and isinstance(value, bytes):
            raw, score, type = _read_piece(value, len(texts))
            texts.append(raw)
            scores += score
            types.append(type)
        elif number in (1, 2, 3) and wire != LENGTH:
            raise FormatError("the file is no sentencepiece model")
    if len(texts) > PIECES_MAX:
        raise FormatError(f"the sentencepiece model has more than {PIECES_MAX} pieces")
    if not texts:
        raise FormatError("the sentencepiece model has no pieces, or the file is of another kind")
    return _checked(texts, bytes(scores), bytes(types))


def _checked(texts: list[bytes], scores: bytes, types: bytes) -> tuple[list[str], list[float], bytes]:
    numbers = np.frombuffer(scores, "<f4")
    kinds = np.frombuffer(types, np.uint8)
    wrong = ~np.isfinite(numbers) | (kinds < NORMAL) | (kinds > BYTE)
    if wrong.any() or not all(texts):
        id = int(wrong.argmax()) if wrong.any() else texts.index(b"")
        raise FormatError(f"piece {id} of the sentencepiece model has a wrong text, score or type")
    try:
        words = list(map(bytes.decode, texts))
    except UnicodeDecodeError as error:
        id = texts.index(error.object)
        raise FormatError(f"piece {id} of the sentencepiece model is not UTF-8") from None
    return words, numbers.tolist(), types


def _read_piece(data: bytes, id: int) -> tuple[bytes, bytes, int]:
    """(text, four bytes of score, type, 0 for any wrong one) of a piece in any order of its fields."""
    raw, score, type = b"", bytes(4), NORMAL
    for count, (number, _, value) in enumerate(read_fields(data)):
        if count == PIECE_FIELDS_MAX:
            raise FormatError(f"piece {id} of the sentencepiece model has more than {count} fields")
        if number == 1 and isinstance(value, bytes):
            raw = value
        elif number == 2 and isinstance(value, int):
            score = (value & 0xFFFFFFFF).to_bytes(4, "little")
        elif number == 3 and isinstance(value, int):
            type = value if value <= BYTE else 0
    if len(raw) > PIECE_BYTES_MAX:
        raise FormatError(f"piece {id} of the sentencepiece model has {len(raw)} bytes")
    return raw, score, type


def write_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_message(number: int, data: bytes) -> bytes:
    """A field that holds bytes: a string or a message."""
    return write_varint(number << 3 | LENGTH) + write_varint(len(data)) + data


def write_int(number: int, value: int) -> bytes:
    return write_varint(number << 3 | VARINT) + write_varint(value & (1 << 64) - 1)


def write_piece(piece: Piece) -> bytes:
    """The field of ModelProto that holds one piece; also to append a piece to a model."""
    text = write_message(1, piece.text.encode("utf-8"))
    score = write_varint(2 << 3 | FIXED32) + _FLOAT.pack(piece.score)
    return write_message(1, text + score + write_int(3, piece.type))


def write_model(pieces: list[Piece], *, unknown: int, prefix: bool) -> bytes:
    """A BPE model that changes nothing in a text but spaces into U+2581, with byte fallback where there are
    byte pieces; prefix: a space is put before a text. Exactly the piece `unknown` must have type UNKNOWN."""
    bytes_known = any(piece.type == BYTE for piece in pieces)
    trainer = write_int(3, BPE) + write_int(35, bytes_known) + write_int(40, unknown)
    trainer += b"".join(write_int(role, -1) for role in (41, 42, 43))  # bos, eos, pad: the spec knows them
    normalizer = (
        write_message(1, b"identity") + write_int(3, prefix) + write_int(4, False) + write_int(5, True)
    )
    return b"".join(map(write_piece, pieces)) + write_message(2, trainer) + write_message(3, normalizer)


def replace_pieces(model: bytes, pieces: Iterable[Piece]) -> bytes:
    """The same model with another vocabulary."""
    rest = (
        write_message(number, value)
        for number, _, value in read_fields(model)
        if number != 1 and isinstance(value, bytes)  # a model has no numbers at its top
    )
    return b"".join([*map(write_piece, pieces), *rest])


def read_flag(model: bytes, message: int, field: int, default: bool) -> bool:
    """A bool inside one of the messages of the model, e.g. (3, 3): normalizer_spec.add_dummy_prefix."""
    for number, _, value in read_fields(model):
        if number == message and isinstance(value, bytes):
            for inner, _, flag in read_fields(value):
                if inner == field and isinstance(flag, int):
                    default = bool(flag)
    return default
