"""The file of a prefix: its tokens and the pages that were computed for them, whatever CPU computed them.

    offset  bytes
         0      8  "EDGEQKV" and a newline
         8      4  version, 1
        12      4  bytes of the head, up to the first page
        16      8  bytes of the file
        24     32  SHA-256 of what computed it: model, kind of cache, and so on (`identity`)
        56     32  SHA-256 of the salt
        88      4  tokens of a chunk
        92      4  tokens
        96      4  pages
       100         the tokens, 4 bytes each
                   the pages, 48 bytes each: chunk (4), zero (4), form (16, ASCII, zeros behind it),
                   bytes (8), and XXH3-128 of them (16); by chunk and form, ascending, each once
                   XXH3-128 of all the head before it (16)
                   the pages' bytes, without gaps, to the end of the file

Numbers are little-endian. The same prefix gives the same bytes: what a page holds behind the last token is
zeros. XXH3 is what model files have, too; it finds every damage and, unlike a digest, costs nothing beside
reading. It stops nobody who can write the file, whom `Folder` keeps out.

Who reads one trusts nothing in it: each number is checked against the file's size and what the layout says,
before memory is asked for.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeq.formats import ModelFile
from edgeq.formats.header import PRELUDE_BYTES

from .pages import Ids, Layout, Pages, chunks, wanted

MAGIC = b"EDGEQKV\n"
VERSION = 1
HEAD = struct.Struct("<8sIIQ32s32sIII")
ROW = struct.Struct("<II16sQ16s")
SUM_BYTES = 16
TOKENS_MAX = 1 << 22
PAGES_MAX = 1 << 18


class DamagedError(Exception):
    """A file is not what it should be: a part of a sentence that says why."""


@dataclass(frozen=True)
class Row:
    """Where a page lies."""

    offset: int
    nbytes: int
    xxh3: bytes


@dataclass(frozen=True)
class Head:
    """What a file holds, checked."""

    ids: Ids
    rows: Mapping[tuple[int, str], Row]  # by chunk and form
    forms: Sequence[set[str]]  # of each chunk's pages


def identity(model: ModelFile, **parts: str) -> bytes:
    """SHA-256 of all that decides what a page's bytes are: the head of the model's file, which has a checksum
    of each tensor, and whatever else counts, such as the kind of cache, what a page holds, and the code that
    computes."""
    head = model.view(0, PRELUDE_BYTES + model.prelude.header_bytes)
    model_sha256 = hashlib.sha256(head).hexdigest()
    return hashlib.sha256(json.dumps([model_sha256, parts], sort_keys=True).encode()).digest()


def salted(salt: str) -> bytes:
    """SHA-256 of a salt, which itself is in no file."""
    return hashlib.sha256(b"salt\0" + salt.encode("utf-8", "surrogatepass")).digest()


def xxh3(data: bytes | NDArray[np.uint8]) -> bytes:
    from xxhash import xxh3_128_digest

    digest: bytes = xxh3_128_digest(data)
    return digest


def write(
    file: BinaryIO, ids: Ids, pages: Sequence[Pages], layout: Layout, identity: bytes, salt: str
) -> None:
    """Write the prefix of all `ids` with the pages that are needed to go on. OSError."""
    blobs = [(at, form, _filled(pages[at], at, form, len(ids), layout)) for at, form in order(ids, layout)]
    head_bytes = head_size(len(ids), len(blobs))
    file_bytes = head_bytes + sum(blob.nbytes for _, _, blob in blobs)
    head = HEAD.pack(
        MAGIC, VERSION, head_bytes, file_bytes, identity, salted(salt), layout.chunk, len(ids), len(blobs)
    )
    rows = (ROW.pack(at, 0, form.encode("ascii"), blob.nbytes, xxh3(blob)) for at, form, blob in blobs)
    head += ids.astype("<u4").tobytes() + b"".join(rows)
    file.write(head + xxh3(head))
    for _, _, blob in blobs:
        file.write(blob)


def order(ids: Ids, layout: Layout) -> list[tuple[int, str]]:
    """The pages of a file in their order."""
    return sorted(wanted(len(ids), layout))


def head_size(tokens: int, pages: int) -> int:
    return HEAD.size + 4 * tokens + ROW.size * pages + SUM_BYTES


def file_size(ids: Ids, layout: Layout) -> int:
    """Bytes of the file of a prefix."""
    forms = [form for _, form in order(ids, layout)]
    return head_size(len(ids), len(forms)) + sum(layout.nbytes(form) or 0 for form in forms)


def _filled(pages: Pages, at: int, form: str, length: int, layout: Layout) -> NDArray[np.uint8]:
    """A page's bytes, with zeros behind the last token."""
    array, filled = pages[form].array, length - at * layout.chunk
    if filled < layout.chunk:
        array = array.copy()
        layout.blank(form, array, filled)
    return array


def read_head(file: BinaryIO, file_bytes: int, layout: Layout, identity: bytes, salt: str) -> Head:
    """The head of a file of that size that is open at its beginning; DamagedError, OSError."""
    fixed = file.read(HEAD.size)
    if len(fixed) < HEAD.size:
        raise DamagedError("it is cut off")
    magic, version, head_bytes, told, whose, whose_salt, chunk, tokens, pages = HEAD.unpack(fixed)
    if magic != MAGIC:
        raise DamagedError("it does not begin like a prefix")
    if version != VERSION:
        raise DamagedError(f"its version is {version}, and this edgeq reads {VERSION}")
    if told != file_bytes:
        raise DamagedError(f"it has {file_bytes} bytes and says {told}")
    if not (1 <= tokens <= TOKENS_MAX and pages <= PAGES_MAX):
        raise DamagedError(f"it says {tokens} tokens and {pages} pages")
    if head_bytes != head_size(tokens, pages) or head_bytes > file_bytes:
        raise DamagedError(f"its head says {head_bytes} bytes")
    rest = file.read(head_bytes - HEAD.size)
    head = fixed + rest
    if len(head) < head_bytes or xxh3(head[:-SUM_BYTES]) != head[-SUM_BYTES:]:
        raise DamagedError("its head does not match its checksum")
    if (whose, whose_salt, chunk) != (identity, salted(salt), layout.chunk):
        raise DamagedError("it is of another model, cache or salt than its name says")
    ids = np.frombuffer(rest, "<u4", tokens).astype(np.uint32)
    rows = _rows(rest[4 * tokens : -SUM_BYTES], head_bytes, file_bytes, layout)
    forms: list[set[str]] = [set() for _ in range(chunks(tokens, layout.chunk))]
    for at, form in rows:
        if at >= len(forms):
            raise DamagedError("it has pages behind its tokens")
        forms[at].add(form)
    return Head(ids, rows, forms)


def _rows(table: bytes, offset: int, file_bytes: int, layout: Layout) -> dict[tuple[int, str], Row]:
    rows: dict[tuple[int, str], Row] = {}
    last = (-1, "")
    for at, zero, padded, nbytes, xxh3 in ROW.iter_unpack(table):
        name = padded.rstrip(b"\0")
        form = name.decode("ascii", "replace")
        if zero or not name.isascii() or layout.nbytes(form) != nbytes:
            raise DamagedError(f"its page of chunk {at} has {nbytes} bytes, which none here has")
        if (at, form) <= last:
            raise DamagedError("its pages are out of order")
        last = (at, form)
        rows[at, form] = Row(offset, nbytes, xxh3)
        offset += nbytes
    if offset != file_bytes:
        raise DamagedError(f"its pages end at {offset} of {file_bytes} bytes")
    return rows


def read_page(file: BinaryIO, row: Row, array: NDArray[np.uint8]) -> None:
    """Read a page into its memory. DamagedError, OSError; what is in the memory then means nothing."""
    file.seek(row.offset)
    view = memoryview(array).cast("B")
    done = 0
    while done < row.nbytes:
        got = file.readinto(view[done : row.nbytes])  # type: ignore[attr-defined]
        if not got:
            raise DamagedError("it was cut off")
        done += got
    if xxh3(array) != row.xxh3:
        raise DamagedError("a page does not match its checksum")
