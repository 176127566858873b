"""The format of packs: whatever is changed in a file, nothing of it is used."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from typing import Any

import pytest

from edgeq.packs.pack import MAGIC, PRELUDE, Pack, PackError, decoded
from edgeq.simd.link import PAGE
from edgeq.simd.target import Target

PACK = Pack(Target("dotprod", "aarch64"), "digest", "compilers", {"a": 0, "b q4 x4": 64}, bytes(range(200)))


def refused(blob: bytes) -> str:
    with pytest.raises(PackError) as caught:
        decoded(memoryview(blob))
    return str(caught.value)


def test_what_is_written_is_read() -> None:
    blob = PACK.encoded()
    pack = decoded(memoryview(blob))
    assert (pack.target, pack.sources, pack.compiler) == (PACK.target, "digest", "compilers")
    assert pack.kernels == PACK.kernels and bytes(pack.image) == PACK.image
    assert pack.image_at % PAGE == 0 and blob[pack.image_at :] == PACK.image


def test_packs_are_joined_page_by_page() -> None:
    other = Pack(PACK.target, "digest", "later", {"c": 128}, bytes(reversed(range(200))))
    both = decoded(memoryview(PACK.joined(other).encoded()))
    assert both.kernels == {"a": 0, "b q4 x4": 64, "c": PAGE + 128} and both.compiler == "later"
    assert bytes(both.image[:200]) == PACK.image and bytes(both.image[PAGE:]) == other.image


def test_every_flipped_bit_is_seen() -> None:
    """Each bit of the beginning and of the image, and a thousand anywhere."""
    blob = PACK.encoded()
    bits = {*range(8 * (PRELUDE.size + 300)), *range(8 * (len(blob) - 200), 8 * len(blob))}
    bits.update(random.Random(0).sample(range(8 * len(blob)), 1000))
    for bit in bits:
        spoiled = bytearray(blob)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert refused(bytes(spoiled))


def test_every_truncation_is_seen() -> None:
    blob = PACK.encoded()
    for length in [*range(400), *range(400, len(blob), 37), len(blob) - 1]:
        assert refused(blob[:length])
    assert "damaged" in refused(blob + b"\0")


def test_other_files_and_versions_are_told_apart() -> None:
    blob = PACK.encoded()
    assert "another version" in refused(MAGIC[:-1] + b"\x02" + blob[8:])
    assert "no pack" in refused(b"\x7fELF" + blob[4:])
    assert "cut short" in refused(b"")


def signed(header: bytes, image: bytes = b"code", length: int | None = None) -> bytes:
    """A file with this header and a checksum that matches."""
    rest = struct.pack("<I", len(header) if length is None else length) + header
    rest += bytes(-(len(rest) + PRELUDE.size - 4) % PAGE) + image
    return MAGIC + hashlib.sha256(rest).digest() + rest


def fields(**changed: Any) -> bytes:
    words = dict.fromkeys(("isa", "machine", "system", "sources", "compiler"), "x")
    return json.dumps({**words, "kernels": {"a": 0}, **changed}).encode()


def test_the_helper_makes_what_is_read() -> None:
    assert decoded(memoryview(signed(fields()))).kernels == {"a": 0}


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"[]",
        b"null",
        b'{"isa": 1}',
        fields(isa=1),
        fields(machine=None),
        fields(sources=["x"]),
        fields(kernels=[]),
        fields(kernels={"a": -1}),
        fields(kernels={"a": 4}),
        fields(kernels={"a": 0.0}),
        fields(kernels={"a": True}),
        fields(kernels={"a": "0"}),
        fields(kernels={"a": 1 << 80}),
        fields().replace(b"}", b"", 1),
    ],
    ids=range(18),
)
def test_a_wrong_header_with_a_right_checksum(header: bytes) -> None:
    assert "header is wrong" in refused(signed(header))


def test_a_header_without_end() -> None:
    """Its JSON would take hundreds of megabytes."""
    assert "header is wrong" in refused(signed(b"[[[[]]]]," * 30_000))


@pytest.mark.parametrize("length", [0, 1, 5000, 1 << 20, 2**32 - 1])
def test_a_wrong_length_of_the_header(length: int) -> None:
    assert "header is wrong" in refused(signed(fields(), length=length))
