"""Memory whose addresses native code is given: it comes from here, or is the map of a model file.

Kernels check no address. With EDGEQ_CHECK=memory in the environment the system checks each: every array then
lies on pages of its own between pages that nobody may touch, and ends where such a page begins; weights are
copied out of the file's map to such pages; memory that was let go is never used again and may not be
touched either. A kernel that reaches further than it should ends the process there and then. Linux only,
slow, and for tests: CONTRIBUTING.md says how.
"""

from __future__ import annotations

import bisect
import ctypes
import math
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from edgeq.errors import UsageError

ALIGNMENT = 64  # of every array, a line of the CPU's cache; when checked, only what divides its size

Array = np.ndarray[Any, Any]


@cache
def checked() -> bool:
    """Whether the system is to check every address; UsageError for a check that is not known or not to be
    had.
    """
    word = os.environ.get("EDGEQ_CHECK", "")
    if word not in ("", "memory"):
        raise UsageError(f"EDGEQ_CHECK is {word[:40]!a}, but the only check that is known is memory.")
    if word and sys.platform != "linux":
        raise UsageError("EDGEQ_CHECK=memory forbids pages as Linux does, and this system is another.")
    return bool(word)


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike = np.uint8) -> Array:
    """Like numpy.zeros, aligned to ALIGNMENT; pages that are never written take no memory."""
    sizes = (shape,) if isinstance(shape, int) else shape
    (raw,) = pieces([math.prod(sizes) * np.dtype(dtype).itemsize])
    return raw.view(dtype).reshape(sizes)


def pieces(sizes: Sequence[int]) -> list[Array]:
    """Arrays of zeros, uint8 of these sizes, in ascending order of address; they live and go together.
    ValueError for a negative size, MemoryError for more than there is.
    """
    if min(sizes, default=0) < 0:
        raise ValueError(f"an array of {min(sizes)} bytes was asked for")
    if checked():
        return _fenced(sizes)
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + -(-size // ALIGNMENT) * ALIGNMENT)
    if offsets[-1] + ALIGNMENT > sys.maxsize:  # NumPy would call it a wrong value
        raise MemoryError(f"{offsets[-1]} bytes are more than there are addresses")
    raw = np.zeros(offsets[-1] + ALIGNMENT, np.uint8)
    start = -int(raw.ctypes.data) % ALIGNMENT
    return [raw[start + at : start + at + size] for at, size in zip(offsets, sizes, strict=False)]


def mapped(values: Array) -> Array:
    """An array of a file's map where kernels are to read it: there, or when checked in a copy."""
    if not checked():
        return values
    copy = zeros(values.shape, values.dtype)
    copy[...] = values
    return copy


def fill(array: Array, pattern: Array) -> None:
    """Repeat the pattern's bytes over all of a contiguous array."""
    raw, first = array.reshape(-1).view(np.uint8), pattern.reshape(-1).view(np.uint8)[: array.nbytes]
    raw[: first.size] = first
    done = first.size
    while done < raw.size:
        more = min(done, raw.size - done)
        raw[done : done + more] = raw[:more]
        done += more


def holds(address: int, nbytes: int) -> bool:
    """Whether the bytes lie within one array from here that is still alive. Only when checked."""
    with _lock:
        at = bisect.bisect_right(_starts, address) - 1
        end = _starts[at] + _sizes[_starts[at]] if at >= 0 else 0
    return not nbytes or address + nbytes <= end


def require(address: int, nbytes: int, what: str) -> None:
    """UsageError unless the bytes lie within one array from here that is still alive. Only when checked."""
    if not holds(address, nbytes):
        raise UsageError(f"{what} reaches over {nbytes} bytes from {address:#x} on, which no buffer has.")


# ---- pages between forbidden ones ----
CANARY = 0xA5  # before an array, up to the beginning of its first page
_starts: list[int] = []  # of the arrays that are alive, ascending
_sizes: dict[int, int] = {}
_lock = threading.RLock()  # of these two; an array may go while another is made


class _Piece:
    """`nbytes` at an address as NumPy sees them; keeps what it is a piece of."""

    def __init__(self, region: _Region, address: int, nbytes: int):
        self.region = region
        self.__array_interface__ = dict(shape=(nbytes,), typestr="|u1", data=(address, False), version=3)


class _Region:
    """Pages of several arrays with forbidden ones around each, forbidden as a whole when nobody holds it."""

    def __init__(self, sizes: Sequence[int]):
        page = mmap.PAGESIZE
        usable = [-(-size // page) * page for size in sizes]
        nbytes = sum(usable) + page * (len(sizes) + 1)
        start = _map(0, nbytes)
        self.addresses: list[int] = []
        at = start + page
        for size, room in zip(sizes, usable, strict=True):
            _allow(at, room)
            self.addresses.append(at + room - size)
            ctypes.memset(at, CANARY, room - size)
            at += room + page
        held = [(a, size) for a, size in zip(self.addresses, sizes, strict=True) if size]
        with _lock:
            for address, size in held:
                bisect.insort(_starts, address)
                _sizes[address] = size
        # not at exit: threads may still run in it
        weakref.finalize(self, _let_go, start, nbytes, held).atexit = False


def _fenced(sizes: Sequence[int]) -> list[Array]:
    region = _Region(sizes)
    return [
        np.asarray(_Piece(region, address, size)) if size else np.zeros(0, np.uint8)
        for address, size in zip(region.addresses, sizes, strict=True)
    ]


def _let_go(start: int, nbytes: int, held: Sequence[tuple[int, int]]) -> None:
    """Forbid a region for good. AssertionError where something was written before one of its arrays."""
    spoilt = []
    with _lock:
        for address, _ in held:
            _starts.pop(bisect.bisect_left(_starts, address))
            del _sizes[address]
    for address, _ in held:
        before = address % mmap.PAGESIZE
        spoilt += [address] if ctypes.string_at(address - before, before).strip(bytes([CANARY])) else []
    _map(start, nbytes)
    if spoilt:
        raise AssertionError(f"something was written before the array at {spoilt[0]:#x}.")


@cache
def _system() -> Any:
    c = ctypes.CDLL(None, use_errno=True)
    c.mmap.restype = ctypes.c_void_p
    c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    c.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return c


def _map(start: int, nbytes: int) -> int:
    """Forbidden pages at an address, in place of what is there, or anywhere where that is 0."""
    fixed, no_reserve, forbidden = 0x10, 0x4000, 0
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve | (fixed if start else 0)
    found = _system().mmap(start or None, nbytes, forbidden, flags, -1, 0)
    if found in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(f"{nbytes} bytes of checked memory are not to be had")
    return int(found)


def _allow(start: int, nbytes: int) -> None:
    if nbytes and _system().mprotect(start, nbytes, mmap.PROT_READ | mmap.PROT_WRITE):
        raise MemoryError(f"{nbytes} bytes of checked memory are not to be had")
