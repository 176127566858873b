"""Mutants of files of prefixes: numbers of the head changed, its checksum right again."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from random import Random

from edgeq.errors import FormatError
from edgeq.prefix import Folder, Layout
from edgeq.prefix import file as files
from edgeq.prefix.pages import packed
from tests.fuzz import mutate
from tests.prefix.fakes import LAYOUTS, FakePool, FakeSequence, Plain

MODEL, TEXT = b"m" * 32, list(range(11))
HEAD_BYTES_AT = 12


def seeds() -> list[bytes]:
    return [_whole(layout, count) for layout in LAYOUTS for count in (4, 11)]


def _whole(layout: Layout, count: int) -> bytes:
    sequence = FakeSequence(FakePool(), layout)
    sequence.feed(TEXT[:count])
    out = io.BytesIO()
    files.write(out, packed(sequence.ids), sequence.pages, layout, MODEL, "")
    return out.getvalue()


def mutant(random: Random, one: bytes, other: bytes) -> bytes:
    """A few bytes of the head changed and the checksum right again; now and then just bytes."""
    if len(one) < files.HEAD.size or mutate.chance(random, 0.1):
        return mutate.of_bytes(random, one, other)
    length = min(struct.unpack_from("<I", one, HEAD_BYTES_AT)[0], len(one))  # a mutant's may be any
    head = mutate.of_bytes(random, one[: length - files.SUM_BYTES], other[: files.HEAD.size])
    if len(head) > HEAD_BYTES_AT + 12 and mutate.chance(random, 0.5):  # the lengths right again, too
        whole = len(head) + files.SUM_BYTES
        sizes = struct.pack("<IQ", whole, whole + len(one) - length)
        head = head[:HEAD_BYTES_AT] + sizes + head[HEAD_BYTES_AT + len(sizes) :]
    return head + files.xxh3(head) + one[length:]


def read(data: bytes, folder: Path) -> None:
    """Found and loaded, whatever the pages are said to be; or removed, which FormatError tells."""
    path = folder / Folder(folder, MODEL, Plain()).name(packed(TEXT), "")
    for layout in LAYOUTS:
        where = Folder(folder, MODEL, layout)
        path.write_bytes(data)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            stored = where.find(TEXT)
            pages = None if stored is None else where.load(stored, FakePool(limit=1 << 16).take)
        if stored is not None and pages is not None:
            assert 0 < stored.length <= len(TEXT) and len(pages) == -(-stored.length // layout.chunk)
            return
        assert path.exists() != any("is removed" in str(each.message) for each in told)
    raise FormatError(" ".join(str(each.message).rpartition(" is removed: ")[2] for each in told) or "no use")
