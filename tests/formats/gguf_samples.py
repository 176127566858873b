"""GGUF files made by hand, byte by byte, so that tests can make wrong ones."""

from __future__ import annotations

import struct
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "?",
    U64: "Q",
    I64: "q",
    F64: "d",
}


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, content: Any) -> bytes:
    """A value without its type; arrays are (element kind, [elements])."""
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        inner, elements = content
        return struct.pack("<IQ", inner, len(elements)) + b"".join(
            value(inner, element) for element in elements
        )
    return struct.pack("<" + CODES[kind], content)


def pair(key: str | bytes, kind: int, content: Any) -> bytes:
    return text(key) + struct.pack("<I", kind) + value(kind, content)


def tensor(
    name: str | bytes, dims: tuple[int, ...], kind: int, offset: int, count: int | None = None
) -> bytes:
    count = len(dims) if count is None else count
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", count, *dims, kind, offset)


def build(
    pairs: list[bytes],
    tensors: list[bytes] = [],  # noqa: B006  never changed
    data: bytes = b"",
    *,
    version: int = 3,
    magic: bytes = b"GGUF",
    alignment: int = 32,
    pair_count: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    tensor_count = len(tensors) if tensor_count is None else tensor_count
    pair_count = len(pairs) if pair_count is None else pair_count
    head = (
        magic + struct.pack("<IQQ", version, tensor_count, pair_count) + b"".join(pairs) + b"".join(tensors)
    )
    return head + bytes(-len(head) % alignment) + data if tensors else head


def sample() -> bytes:
    """One value of each type, arrays of several, and a tensor of each type that converters read."""
    pairs = [
        pair("general.architecture", STRING, "llama"),
        pair("a.u8", U8, 255),
        pair("a.i8", I8, -128),
        pair("a.u16", U16, 65535),
        pair("a.i16", I16, -32768),
        pair("a.u32", U32, 2**32 - 1),
        pair("a.i32", I32, -(2**31)),
        pair("a.f32", F32, 0.5),
        pair("a.bool", BOOL, True),
        pair("a.u64", U64, 2**64 - 1),
        pair("a.i64", I64, -(2**63)),
        pair("a.f64", F64, 1e300),
        pair("a.text", STRING, "tokén\n"),
        pair("a.strings", ARRAY, (STRING, ["<s>", "", "Ġa"])),
        pair("a.floats", ARRAY, (F32, [0.0, -1.5])),
        pair("a.bools", ARRAY, (BOOL, [True, False])),
        pair("a.nested", ARRAY, (ARRAY, [(I32, [1, 2]), (STRING, ["x"])])),
        pair("a.empty", ARRAY, (I32, [])),
    ]
    tensors = [
        tensor("vector", (3,), 0, 0),
        tensor("half", (4, 2), 1, 32),
        tensor("brain", (4, 2), 30, 64),
        tensor("q4", (64, 3), 2, 96),
        tensor("q8", (32, 2), 8, 224),
    ]
    data = bytes(i % 251 for i in range(224 + 68))
    return build(pairs, tensors, data)
