"""The head of an .edgeq file, prelude and JSON header, from bytes to checked values and back.

Nothing is trusted: every count is a Python integer that is checked before use.  Knows bytes, not files.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from edgeq.errors import EdgeqError, FormatError, UnsupportedError, quote

from . import foreign, strictjson
from .layout import check_shape, geometry, place
from .schemes import Scheme, scheme_of

MAGIC = b"EDGEQ\0\r\n"
AGAIN = "copy it again, or make it again"
READ_VERSION = 1  # the newest meaning this code can read; a file says which one a reader needs
WRITE_VERSION = 1  # the newest rules this code writes by
PRELUDE = struct.Struct("<8sIIQQI24sI")
PRELUDE_BYTES = PRELUDE.size
HEADER_BYTES_MAX = 16 << 20
BYTES_MAX = 64 << 20  # of a tensor of scheme bytes: unlike weights, it is copied by whoever reads it
MARKS_MAX = 1 << 20  # , : [ { in the header: bounds the values, and so the memory, that parsing can make
DEPTH_MAX = 32
INTEGER_MAX = (1 << 63) - 1
NAME = re.compile(r"[A-Za-z0-9._/-]{1,256}")
WORD = re.compile(r"[a-z0-9_]{1,64}")
HASH = re.compile(r"[0-9a-f]{32}")
FEATURES: frozenset[str] = frozenset()  # names that "required" may hold; version 1 has none

_FIELDS: dict[str, tuple[type, ...]] = {
    "config": (dict,),
    "tensors": (list,),
    "tokenizer": (dict, type(None)),
    "chat_template": (str, type(None)),
    "generation": (dict, type(None)),
    "license": (str, type(None)),
    "source": (dict, type(None)),
    "quantization": (dict, type(None)),
    "cache": (dict, type(None)),
    "pooling": (dict, type(None)),
    "required": (list,),
}
_MUST = ("config", "tensors")
_JSON_WORDS = {dict: "an object", list: "a list", str: "a string", type(None): "null"}


@dataclass(frozen=True)
class Prelude:
    """The fixed 64 bytes at the start, checked."""

    read_version: int
    write_version: int
    header_bytes: int
    file_bytes: int
    header_crc: int


@dataclass(frozen=True)
class Entry:
    """One tensor as the header describes it, checked; `data` in the reader is what it points to."""

    name: str
    scheme: Scheme
    layout: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    xxh3: str


def pack_prelude(header: bytes, file_bytes: int) -> bytes:
    """The 64 bytes that go before `header`."""
    fields = (MAGIC, READ_VERSION, WRITE_VERSION, len(header), file_bytes, zlib.crc32(header), bytes(24))
    body = PRELUDE.pack(*fields, 0)[:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def parse_prelude(raw: bytes, file_bytes: int) -> Prelude:
    """Check the first bytes of a file that is `file_bytes` long.

    FormatError when they break a rule; UnsupportedError when the file needs a newer reader.
    """
    if raw[: len(MAGIC)] != MAGIC[: len(raw)] or not raw:
        raise FormatError(foreign.refusal(raw, "an .edgeq file", MAGIC))
    if len(raw) < PRELUDE_BYTES:
        raise FormatError(f"cut off: {len(raw)} bytes, but the prelude alone has {PRELUDE_BYTES}; {AGAIN}")
    _, read_version, write_version, header_bytes, declared, header_crc, reserved, crc = PRELUDE.unpack(
        raw[:PRELUDE_BYTES]
    )
    if zlib.crc32(raw[: PRELUDE_BYTES - 4]) != crc:
        raise FormatError(f"prelude is damaged: its CRC-32 does not match; {AGAIN}")
    if read_version > READ_VERSION:
        raise UnsupportedError(
            f"file needs a newer edgeq: its read version is {read_version}, this one reads {READ_VERSION}; "
            "upgrade edgeq, or convert the model with this one"
        )
    if read_version < 1 or write_version < read_version:
        raise FormatError(
            f"read version {read_version} and write version {write_version} break 1 <= read <= write"
        )
    if any(reserved):
        raise FormatError("reserved bytes 36 to 59 of the prelude are not zero")
    if header_bytes > HEADER_BYTES_MAX:
        raise FormatError(f"header claims {header_bytes} bytes, more than the limit of {HEADER_BYTES_MAX}")
    if declared != file_bytes:
        raise FormatError(
            f"file has {file_bytes} bytes, but its prelude says {declared}: cut off or altered; {AGAIN}"
        )
    if PRELUDE_BYTES + header_bytes > file_bytes:
        raise FormatError(
            f"header claims {header_bytes} bytes, but only {file_bytes - PRELUDE_BYTES} follow the prelude"
        )
    return Prelude(read_version, write_version, header_bytes, declared, header_crc)


def dump_header(header: dict[str, Any]) -> bytes:
    """The header as UTF-8 JSON; FormatError when something in it is no JSON value."""
    try:
        return json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"header cannot be written as JSON: {_sentence(error)}") from None


def parse_header(raw: bytes) -> dict[str, Any]:
    """The header's JSON object with the types of its known fields checked; unknown fields are kept."""
    header = strictjson.parse(
        raw, "header", marks_max=MARKS_MAX, depth_max=DEPTH_MAX, integer_max=INTEGER_MAX
    )
    if not isinstance(header, dict):
        raise FormatError("header is not a JSON object")
    if header.get("format") != "edgeq":
        raise FormatError('header field "format" is not "edgeq"')
    family = header.get("family")
    if not isinstance(family, str) or not WORD.fullmatch(family):
        raise FormatError('header field "family" is not 1 to 64 of the characters a-z 0-9 _')
    for field, types in _FIELDS.items():
        if field in _MUST and field not in header:
            raise FormatError(f'header field "{field}" is missing')
        if field in header and not isinstance(header[field], types):
            raise FormatError(f'header field "{field}" is not {" or ".join(_JSON_WORDS[t] for t in types)}')
    for feature in header.get("required", ()):
        if not isinstance(feature, str):
            raise FormatError('header field "required" holds something that is not a string')
        if feature not in FEATURES:
            raise UnsupportedError(f"file requires {quote(feature)}, which this version does not know")
    return header


def parse_tensors(header: dict[str, Any], header_bytes: int, file_bytes: int) -> list[Entry]:
    """The header's tensors, which must tile the bytes from the header's end to the file's end exactly."""
    position = PRELUDE_BYTES + header_bytes
    entries: list[Entry] = []
    names: set[str] = set()
    for number, fields in enumerate(header["tensors"]):
        entry = _entry(fields, number)
        if entry.name in names:
            raise FormatError(f"tensor {entry.name} appears twice")
        names.add(entry.name)
        expected = place(position, entry.nbytes)
        if entry.offset != expected:
            fault = "overlaps what is before it" if entry.offset < position else "is out of place"
            raise FormatError(f"tensor {entry.name} at {entry.offset} {fault}: it belongs at {expected}")
        position = entry.offset + entry.nbytes
        if position > file_bytes:
            raise FormatError(f"tensor {entry.name} ends at byte {position}, but the file at {file_bytes}")
        entries.append(entry)
    if position != file_bytes:
        raise FormatError(f"file has {file_bytes - position} bytes after the last tensor, but must end there")
    return entries


def _entry(fields: Any, number: int) -> Entry:
    """One checked row of "tensors"."""
    if not isinstance(fields, dict):
        raise FormatError(f"tensor number {number} is not a JSON object")
    name = fields.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise FormatError(
            f"tensor number {number}: name {quote(name)} is not 1 to 256 of A-Z a-z 0-9 . _ / -"
        )
    for key in ("scheme", "layout", "xxh3"):
        if not isinstance(fields.get(key), str):
            raise FormatError(f'tensor {name}: "{key}" is not a string')
    for key in ("offset", "nbytes"):
        if type(fields.get(key)) is not int or fields[key] < 0:
            raise FormatError(f'tensor {name}: "{key}" is not a natural number')
    if not HASH.fullmatch(fields["xxh3"]):
        raise FormatError(f'tensor {name}: "xxh3" is not 32 hexadecimal digits')
    if not isinstance(fields.get("shape"), list):
        raise FormatError(f'tensor {name}: "shape" is not a list')
    try:
        scheme = scheme_of(fields["scheme"])
        shape = check_shape(fields["shape"])
        nbytes = geometry(scheme, fields["layout"], shape).nbytes
    except EdgeqError as error:
        raise type(error)(f"tensor {name}: {error}") from None
    if fields["nbytes"] != nbytes:
        what = f"{scheme.name} {list(shape)}"
        raise FormatError(f"tensor {name}: nbytes is {fields['nbytes']}, but {what} needs {nbytes}")
    if scheme.name == "bytes" and nbytes > BYTES_MAX:
        raise FormatError(f"tensor {name}: nbytes is {nbytes}, more than the limit of {BYTES_MAX} for bytes")
    return Entry(name, scheme, fields["layout"], shape, fields["offset"], nbytes, fields["xxh3"])


def _sentence(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
