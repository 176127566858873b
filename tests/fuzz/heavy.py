"""Inputs as large as a parser's limits let them be, of what costs the most: many small values, long texts."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator

from edgeq.packs.pack import MAGIC
from tests.fuzz import edgeq_files

UNITS = (
    b"[]",
    b"1",
    b"1.5",
    b'"x"',
    b'"\\n"',
    b"12345678901",
    b'{"a":{}}',
    b'{"a":1,"b":2}',
    b"[[[[]]]]",
    b'"' + b"a" * 60 + b'"',
)


def bodies(size: int) -> Iterator[bytes]:
    """JSON, or what begins like it, of about that many bytes."""
    for unit in UNITS:
        yield b'{"x":[' + b",".join([unit] * (size // (len(unit) + 1))) + b"]}"
        yield b"{" + b",".join(b'"k%d":%s' % (i, unit) for i in range(size // (len(unit) + 11))) + b"}"
    yield '{"x":"🦙'.encode() + b"a" * size + b'"}'
    yield b'"' * size
    yield b"[" * size
    yield bytes(size)


def _as_it_is(body: bytes) -> bytes:
    return body


def _pack(body: bytes) -> bytes:
    rest = struct.pack("<I", len(body)) + body
    return MAGIC + hashlib.sha256(rest).digest() + rest


def _edgeq(body: bytes) -> bytes:
    return edgeq_files.built(None, 0, b"", body)


def _safetensors(body: bytes) -> bytes:
    return struct.pack("<Q", len(body)) + body


MADE: dict[
    str, tuple[int, Callable[[bytes], bytes]]
] = {  # parser: bytes that it may read of JSON, what is around
    "edgeq": (16 << 20, _edgeq),
    "safetensors": (16 << 20, _safetensors),
    "index": (16 << 20, _as_it_is),
    "config": (16 << 20, _as_it_is),
    "generation-config": (16 << 20, _as_it_is),
    "tokenizer-config": (16 << 20, _as_it_is),
    "special-tokens": (16 << 20, _as_it_is),
    "added-tokens": (16 << 20, _as_it_is),
    "tokenizer-json": (64 << 20, _as_it_is),
    "pack": (60 << 20, _pack),
    "conversation": (16 << 20, _as_it_is),
    "tuned": (16 << 20, _as_it_is),
}
SLACK = 4096  # bytes that a body may be longer than its size


def inputs(name: str) -> Iterator[bytes]:
    """At the limit, and at a tenth of it: past one limit another may be what holds."""
    size, around = MADE.get(name, (0, _as_it_is))
    for part in (size - SLACK, size // 10) if size else ():
        yield from map(around, bodies(part))
