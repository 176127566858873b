"""Inputs of a few hundred bytes that stand for large files: their zeros are not written down.

An input that ends in TRAILER and a count stands for what comes before, and so many zeros.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

TRAILER = b"\0zeros\0\0"
END = struct.Struct("<8sQ")
ZEROS_MAX = 1 << 40  # of a file that is made: larger ones are made this long, and so are cut off


def sparse(raw: bytes, zeros: int) -> bytes:
    """An input of these bytes and that many zeros."""
    return raw + END.pack(TRAILER, zeros) if zeros > 0 else raw


def parts(data: bytes) -> tuple[bytes, int]:
    """(bytes, zeros after them) of an input."""
    if len(data) >= END.size:
        trailer, zeros = END.unpack_from(data, len(data) - END.size)
        if trailer == TRAILER:
            return data[: -END.size], min(zeros, ZEROS_MAX)
    return data, 0


def write(path: Path, data: bytes) -> int:
    """Make the file that an input stands for; its length. A new file, so what somebody has mapped stays."""
    raw, zeros = parts(data)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(descriptor, raw)
        if zeros:
            os.ftruncate(descriptor, len(raw) + zeros)
    finally:
        os.close(descriptor)
    return len(raw) + zeros
