"""Broken and hostile GGUF files: each is refused with one sentence, quickly, and nothing else happens."""

from __future__ import annotations

import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats.ggml import NUMBERED
from edgeq.formats.gguf import open_gguf, parse
from edgeq.formats.reader import FileMap
from tests.formats.gguf_samples import (
    ARRAY,
    BOOL,
    I32,
    STRING,
    U8,
    U32,
    U64,
    build,
    pair,
    sample,
    tensor,
    text,
)
from tests.patience import cheap

MUTATIONS = 10_000
SECONDS_MAX = 2.0
HUGE = (1 << 63) - 1
COUNTS = [1 << 31, 1 << 32, 1 << 61, 1 << 63, (1 << 64) - 1]


def vector(name: str = "a", size: int = 8, offset: int = 0, kind: int = 0) -> bytes:
    return tensor(name, (size,), kind, offset)


def array_header(kind: int, count: int) -> bytes:
    return text("k") + struct.pack("<IIQ", ARRAY, kind, count)


def pairs(*rows: bytes) -> bytes:
    return build(list(rows))


def tensors(*rows: bytes, data_bytes: int) -> bytes:
    return build([], list(rows), bytes(data_bytes))


def nested(depth: int) -> bytes:
    return (
        text("k")
        + struct.pack("<I", ARRAY)
        + struct.pack("<IQ", ARRAY, 1) * depth
        + struct.pack("<IQ", U8, 0)
    )


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "starts with nothing"),
    "short magic": (b"GG", "not a GGUF file: it starts with 47 47"),
    "magic": (build([], magic=b"GGML"), "not a GGUF file: it starts with 47 47 4d 4c"),
    "no version": (b"GGUF\3\0", "cut off: 6 bytes"),
    "version 0": (build([], version=0), "GGUF version is 0"),
    "version 1": (build([], version=1), "GGUF version is 1; versions 2 and 3 can be read"),
    "version 4": (build([], version=4), "GGUF version is 4"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "key too long": (pairs(pair("k" * 65537, U8, 1)), "key number 0 has 65537 bytes, more than"),
    "key of 2^63 bytes": (pairs(struct.pack("<Q", 1 << 63) + b"k" * 30), "key number 0 has 922337203"),
    "key past the end": (pairs(struct.pack("<Q", 99) + b"k" * 30), "key number 0: 99 bytes are needed"),
    "key empty": (pairs(pair("", U32, 1)), "key number 0 is '', but must"),
    "key not UTF-8": (pairs(pair(b"k\xff", U8, 1)), "key number 0 is not UTF-8 at byte 33"),
    "key with an escape": (pairs(pair("k\x1b[2J", U8, 1)), r"key number 0 is 'k\\x1b\[2J'"),
    "key twice": (pairs(pair("k", U8, 1), pair("k", U8, 2)), "metadata key k appears twice"),
    "value type 13": (pairs(text("k") + struct.pack("<IQ", 13, 0)), "key k has the value type 13"),
    "value type 2^32 - 1": (pairs(text("k") + b"\xff" * 12), "key k has the value type 4294967295"),
    "value cut off": (pairs(text("key") + struct.pack("<IH", U32, 0)), "key key: 4 bytes are"),
    "bool of 2": (pairs(text("k") + struct.pack("<IB", BOOL, 2)), "neither 0 nor 1"),
    "bool array of 3": (pairs(array_header(BOOL, 2) + b"\1\3"), "neither 0 nor 1"),
    "string too long": (
        pairs(text("k") + struct.pack("<IQ", STRING, (8 << 20) + 1)), "has 8388609 bytes"
    ),
    "string past the end": (pairs(text("k") + struct.pack("<IQ", STRING, 5)), "5 bytes are needed"),
    "string not UTF-8": (pairs(pair("k", STRING, b"a\xed\xa0\x80")), "key k is not UTF-8"),
    "array type 13": (pairs(array_header(13, 0)), "key k has elements of type 13"),
    "array past the end": (pairs(array_header(U32, 3) + bytes(11)), "key k: 12 bytes are needed"),
    "array over the limit": (
        pairs(array_header(U8, 7 << 20) + bytes(7 << 20), pair("b", ARRAY, (U32, [9] * 200_000))),
        "key b: the header's values need more than the limit of 67108864 bytes of memory",
    ),
    "large numbers over the limit": (
        pairs(array_header(U64, 3 << 19) + b"\xff" * (3 << 22)), "key k: the header's values need more than"
    ),
    "arrays over the limit together": (
        pairs(*(text(f"k{i}") + array_header(BOOL, 4 << 20)[9:] + bytes(4 << 20) for i in range(2))),
        "key k1: the header's values need more than",
    ),
    "strings over the limit": (
        pairs(array_header(STRING, 4 << 20) + bytes(8 * (4 << 20))), "key k: the header's values need more"
    ),
    "long strings over the limit": (
        pairs(*(pair(f"k{i}", STRING, "é" * (4 << 20)) for i in range(2))),
        "key k1: the header's values need more",
    ),
    "empty arrays over the limit": (
        pairs(array_header(ARRAY, 1 << 20) + struct.pack("<IQ", U8, 0) * (1 << 20)),
        "key k: the header's values need more",
    ),
    "keys over the limit": (
        build([pair(f"{i:x}", U8, 1) for i in range(65537)]), "metadata count is 65537, more than the limit"
    ),
    "long keys over the limit": (
        build([pair(f"{i:01000x}", U8, 1) for i in range(40_000)]), "the header's values need more"
    ),
    "tensors over the limit": (
        build([], [vector(f"{i:x}", offset=32 * i) for i in range(65537)], bytes(100)),
        "tensor count is 65537, more than the limit of 65536",
    ),
    "as many tensors as allowed in a short file": (
        build([], [vector(f"{i:x}", offset=32 * i) for i in range(65536)], bytes(100)),
        "past the end of the file",
    ),
    "strings past the end": (pairs(array_header(STRING, 1000) + bytes(999)), "key k has 1000 strings"),
    "one string past the end": (
        pairs(array_header(STRING, 2) + text("ab") + struct.pack("<Q", 9)),
        "key k, string number 1: 9 bytes are needed",
    ),
    "one string not UTF-8": (
        pairs(array_header(STRING, 2) + text("ab") + text(b"\x80")),
        "key k, string number 1 is not UTF-8",
    ),
    "arrays 5 deep": (pairs(nested(4)), "key k has arrays nested deeper than 4"),
    "arrays 100 000 deep": (pairs(nested(100_000)), "key k has arrays nested deeper than 4"),
    "alignment 0": (pairs(pair("general.alignment", U32, 0)), "general.alignment is 0"),
    "alignment 3": (pairs(pair("general.alignment", U32, 3)), "general.alignment is 3"),
    "alignment a string": (pairs(pair("general.alignment", STRING, "32")), "general.alignment is '32'"),
    "alignment 64 bits": (pairs(pair("general.alignment", U64, 1 << 40)), "alignment is 1099511"),
    "alignment past the end": (
        build([pair("general.alignment", U32, 1 << 31)], [vector()], bytes(32)), "would start at byte 2147"
    ),
    "tensor name empty": (tensors(vector(""), data_bytes=32), "name of tensor number 0 is ''"),
    "tensor name long": (tensors(vector("a" * 257), data_bytes=32), "tensor number 0 has 257 bytes"),
    "tensor name with a line feed": (tensors(vector("a\nb"), data_bytes=32), r"number 0 is 'a\\nb'"),
    "tensor twice": (tensors(vector(), vector(offset=32), data_bytes=64), "tensor a appears twice"),
    "no dimensions": (tensors(tensor("aaaaaaaaa", (), 0, 0), data_bytes=32), "has 0 dimensions"),
    "5 dimensions": (tensors(tensor("a", (1,) * 5, 0, 0), data_bytes=32), "tensor a has 5 dimensions"),
    "2^32 - 1 dimensions": (tensors(tensor("a", (8,), 0, 0, 2**32 - 1), data_bytes=32), "4294967295 dim"),
    "dimension 0": (tensors(vector(size=0), data_bytes=32), "tensor a has the dimension 0"),
    "dimension 2^63": (tensors(vector(size=1 << 63), data_bytes=32), "dimension 9223372036854775808"),
    "dimension -1": (tensors(vector(size=(1 << 64) - 1), data_bytes=32), "dimension 184467440737"),
    "product wraps to 0": (tensors(tensor("a", (1 << 32, 1 << 32), 0, 0), data_bytes=32), "73786976294838"),
    "product wraps to 32": (
        tensors(tensor("a", (8, 1 << 31, 1 << 31, 4), 0, 0), data_bytes=32), "a of 590295810358"
    ),
    "rows not whole blocks": (tensors(vector(size=33, kind=2), data_bytes=64), "not whole blocks of 32"),
    "offset not aligned": (tensors(vector(offset=8), data_bytes=64), "tensor a has offset 8, which"),
    "offset past the end": (tensors(vector(offset=64), data_bytes=64), "past the end of the file"),
    "offset 2^64 - 32": (tensors(vector(offset=(1 << 64) - 32), data_bytes=64), "past the end of the file"),
    "data cut off": (tensors(vector(), data_bytes=31), "of the file, at 31"),
    "no data": (build([], [vector()])[:-1], "data would start|past the end"),
    "overlap": (tensors(vector(size=9), vector("b", offset=32), data_bytes=64), "tensor a of 36 bytes"),
    "same place": (tensors(vector(), vector("b"), data_bytes=64), "runs into the next tensor"),
    "unknown types in the same place": (
        tensors(vector(kind=99), vector("b", kind=99), data_bytes=64), "runs into the next tensor"
    ),
    "unknown type past the end": (tensors(vector(kind=99, offset=64), data_bytes=64), "past the end"),
}  # fmt: skip
for _count in COUNTS:
    BAD[f"{_count} tensors"] = (
        build([], tensor_count=_count),
        f"tensor count is {_count}, more than",
    )
    BAD[f"{_count} pairs"] = (
        build([], pair_count=_count),
        f"metadata count is {_count}, more than",
    )
    BAD[f"{_count} numbers"] = (
        pairs(array_header(I32, _count)),
        f"key k: {4 * _count} bytes are needed",
    )
    BAD[f"{_count} strings"] = (
        pairs(array_header(STRING, _count)),
        f"key k has {_count} strings, more than",
    )


def refuse(path: Path, raw: bytes) -> str:
    path.write_bytes(raw)
    with cheap(SECONDS_MAX), pytest.raises((FormatError, UnsupportedError)) as caught:
        open_gguf(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and len(message) < 600
    return message


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    raw, pattern = BAD[name]
    message = refuse(tmp_path / "bad.gguf", raw)
    assert re.search(pattern, message), f"{message!r} does not say {pattern!r}"


def test_header_limit(tmp_path: Path) -> None:
    """More than 64 MiB of header, each part within its own limit."""
    path = tmp_path / "bad.gguf"
    strings = text(bytes(1 << 16)) * 1023
    raw = build([array_header(STRING, 1023) + strings, pair("b", STRING, "b" * 65536)], pair_count=3)
    assert "header passes the limit of 67108864 bytes" in refuse(path, raw + bytes(1 << 16))


def test_as_many_strings_as_allowed_are_read_in_time(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    count = 1_400_000  # twice the words and merges of the largest vocabularies
    path.write_bytes(build([array_header(STRING, count) + text("word") * count]))
    with cheap(SECONDS_MAX):
        file = open_gguf(path)
    with file:
        words = file.metadata["k"]
        assert len(words) == count and words[0] == words[-1] == "word"


def test_strings_take_little_memory_until_they_are_used(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    count = 50_000
    path.write_bytes(build([array_header(STRING, count) + text("word") * count]))
    tracemalloc.start()
    try:
        open_gguf(path).close()
        assert tracemalloc.get_traced_memory()[1] < 30 * count
    finally:
        tracemalloc.stop()


def test_cut_at_every_byte(tmp_path: Path) -> None:
    raw = sample()
    path = tmp_path / "cut.gguf"
    for cut in range(len(raw)):
        path.write_bytes(raw[:cut])
        with pytest.raises(FormatError):
            open_gguf(path)


NUMBERS = [
    0,
    1,
    2,
    7,
    8,
    9,
    13,
    32,
    255,
    65537,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    1 << 61,
    HUGE,
    1 << 63,
    (1 << 64) - 1,
]


def test_mutated_headers_are_refused_or_right() -> None:
    """Bytes changed, stretches cut and doubled, counts replaced: refused, or every tensor can be read."""
    random = np.random.default_rng(99)
    raw = sample()
    accepted = 0
    for _ in range(MUTATIONS):
        mutant = bytearray(raw)
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(8, len(mutant) - 300))
            kind = random.integers(0, 4)
            if kind == 0:
                mutant[at] = random.integers(0, 256)
            elif kind == 1:
                number = NUMBERS[random.integers(0, len(NUMBERS))]
                mutant[at : at + 8] = struct.pack("<Q", number)
            elif kind == 2:
                del mutant[at : at + int(random.integers(1, 9))]
            else:
                mutant[at:at] = mutant[at : at + int(random.integers(1, 9))]
        try:
            read = FileMap(np.frombuffer(mutant, np.uint8), Path("mutant"))
            with cheap(SECONDS_MAX), parse(read, len(mutant)) as file:
                for found in file.tensors.values():
                    if found.type_number in NUMBERED:
                        assert found.data.size == found.nbytes
            accepted += 1
        except (FormatError, UnsupportedError) as error:
            message = str(error)
            assert message.isprintable() and len(message) < 600
    assert 0 < accepted < MUTATIONS // 2
