"""Machine code in memory: a file's pages mapped to be run, or a copy where that cannot be.

Nothing is writable and executable at the same time. On Linux a copy goes through a file in memory, so that
the system itself keeps the instruction caches of ARM in step. Written for macOS and Windows too, but never
run there.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
from typing import Any

import numpy as np

RW, RX = 3, 5  # PROT_READ with PROT_WRITE, and with PROT_EXEC
WINDOWS_COMMIT, WINDOWS_RW, WINDOWS_RX = 0x3000, 0x04, 0x20  # MEM_COMMIT | MEM_RESERVE, PAGE_*


Code = bytes | memoryview


class Executable:
    """Bytes that can be called. They stay while this object does."""

    def __init__(self, keep: Any, address: int, size: int):
        self._keep = keep
        self.address = address
        self.size = size

    @property
    def view(self) -> memoryview:
        """The bytes."""
        return np.frombuffer(
            (ctypes.c_uint8 * self.size).from_address(self.address), np.uint8
        ).data.toreadonly()

    @classmethod
    def of_file(cls, descriptor: int, size: int) -> Executable:
        """The file's pages, shared with all who map them; OSError where the system does not allow it."""
        if sys.platform == "win32":
            raise OSError("files are not mapped to be run here")
        return cls._of_map(mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=RX), size)

    @classmethod
    def of_bytes(cls, code: Code) -> Executable:
        """A copy of the bytes; OSError where the system forbids it."""
        if sys.platform == "win32":
            return cls._of_windows(code)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # a sandbox without files in memory
                return cls._of_memory_file(code)
        return cls._of_anonymous(code)

    @classmethod
    def _of_map(cls, pages: mmap.mmap, size: int) -> Executable:
        return cls(pages, int(np.frombuffer(pages, np.uint8).ctypes.data), size)

    @classmethod
    def _of_memory_file(cls, code: Code) -> Executable:
        descriptor = os.memfd_create("edgeq-kernels")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(code)
            return cls.of_file(descriptor, len(code))
        finally:
            os.close(descriptor)

    @classmethod
    def _of_anonymous(cls, code: Code) -> Executable:
        pages = mmap.mmap(-1, len(code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANON, prot=RW)
        pages.write(code)
        made = cls._of_map(pages, len(code))
        library = ctypes.CDLL(None, use_errno=True)
        library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if library.mprotect(made.address, len(code), RX):
            raise OSError(ctypes.get_errno(), "memory cannot be made executable")
        if sys.platform == "darwin":
            library.sys_icache_invalidate.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
            library.sys_icache_invalidate(made.address, len(code))
        return made

    @classmethod
    def _of_windows(cls, code: Code) -> Executable:
        kernel32: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
        size, word = ctypes.c_size_t, ctypes.c_uint32
        kernel32.VirtualAlloc.argtypes = [ctypes.c_void_p, size, word, word]
        kernel32.VirtualAlloc.restype = ctypes.c_void_p
        kernel32.VirtualProtect.argtypes = [ctypes.c_void_p, size, word, ctypes.c_void_p]
        kernel32.FlushInstructionCache.argtypes = [ctypes.c_void_p, ctypes.c_void_p, size]
        address = kernel32.VirtualAlloc(None, len(code), WINDOWS_COMMIT, WINDOWS_RW)
        if not address:
            raise OSError(ctypes.get_last_error(), "no memory for machine code")  # type: ignore[attr-defined]
        ctypes.memmove(address, bytes(code), len(code))
        before = word()
        if not kernel32.VirtualProtect(address, len(code), WINDOWS_RX, ctypes.byref(before)):
            error = ctypes.get_last_error()  # type: ignore[attr-defined]
            raise OSError(error, "memory cannot be made executable")
        kernel32.FlushInstructionCache(ctypes.c_void_p(-1), address, len(code))
        return cls(None, address, len(code))
