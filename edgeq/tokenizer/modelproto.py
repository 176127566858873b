"""The protobuf fields of a sentencepiece model that edgeq reads and writes.

Wire format of `ModelProto` as far as it matters here (field number: meaning):

    1  pieces, repeated: 1 piece (string), 2 score (float), 3 type (enum, default NORMAL)
    2  trainer_spec:     3 model_type (enum), 35 byte_fallback (bool), 40 … 43 ids of unk, bos, eos, pad
    3  normalizer_spec:  1 name, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces (bools)

A field that comes again overrides the one before it (messages are merged), so appending is a way of changing.
All input is untrusted: every length is compared with what is left before it is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edgeq.errors import FormatError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
PIECES_MAX = 1 << 20
PIECE_BYTES_MAX = 1 << 16
NO_PREFIX = b"\x1a\x02\x18\x00"  # normalizer_spec {add_dummy_prefix: false}, to append

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
    at = 0
    while at < len(data):
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
        yield number, wire, value


def read_pieces(model: bytes) -> list[Piece]:
    """The vocabulary of a sentencepiece model in the order of ids. Raises FormatError for a broken one."""
    pieces: list[Piece] = []
    for number, wire, value in read_fields(model):
        if number == 1 and isinstance(value, bytes):
            if len(pieces) == PIECES_MAX:
                raise FormatError(f"the sentencepiece model has more than {PIECES_MAX} pieces")
            pieces.append(_read_piece(value, len(pieces)))
        elif number in (1, 2, 3) and wire != LENGTH:
            raise FormatError("the file is no sentencepiece model")
    if not pieces:
        raise FormatError("the sentencepiece model has no pieces, or the file is of another kind")
    return pieces


def _read_piece(data: bytes, id: int) -> Piece:
    raw, score, type = b"", 0.0, NORMAL
    end = 2 + data[1] if data[:1] == b"\x0a" and len(data) > 2 and data[1] < 128 else 0
    if end and len(data) in (end + 5, end + 7) and data[end] == 0x15 and data[end + 5 : end + 6] in b"\x18":
        # text, score and perhaps a small type, as every writer puts them: three times as fast as the fields
        raw, (score,) = data[2:end], _FLOAT.unpack_from(data, end + 1)
        type = data[-1] if len(data) == end + 7 else NORMAL
    else:
        for number, _, value in read_fields(data):
            if number == 1 and isinstance(value, bytes):
                raw = value
            elif number == 2 and isinstance(value, int):
                (score,) = _FLOAT.unpack((value & 0xFFFFFFFF).to_bytes(4, "little"))
            elif number == 3 and isinstance(value, int):
                type = value
    if len(raw) > PIECE_BYTES_MAX:
        raise FormatError(f"piece {id} of the sentencepiece model has {len(raw)} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"piece {id} of the sentencepiece model is not UTF-8") from None
    if not text or not math.isfinite(score) or not NORMAL <= type <= BYTE:
        raise FormatError(f"piece {id} of the sentencepiece model has a wrong text, score or type")
    return Piece(text, score, type)


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
