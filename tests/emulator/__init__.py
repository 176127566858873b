"""Tests of verbs and kernels as on a board: with EDGEQ_TEST_CPU=cortex-a76 their code is compiled for aarch64
and run by qemu on that CPU, while Python and NumPy stay where they are.

It needs qemu-aarch64 and gcc for aarch64 (Debian: qemu-user-static, gcc-aarch64-linux-gnu). The code works on
memory that both processes have mapped at the same address: `zeros` gives of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.kernels import sources
from edgeq.simd import compile
from edgeq.simd.tag import Tag
from edgeq.simd.target import Target

CPU = os.environ.get("EDGEQ_TEST_CPU", "")
HAS = {  # what each CPU has, LLVM's names
    "cortex-a53": frozenset({"neon"}),
    "cortex-a76": frozenset({"neon", "dotprod"}),
    "max": frozenset({"neon", "dotprod", "i8mm"}),
}
PLACE = 0x100000000000  # of the memory on both machines
SIZE = 1 << 34  # of its file, which has holes: only what is used takes room
FIXED = 0x100000  # MAP_FIXED_NOREPLACE: exactly there, where nothing else may lie
WORDS = 14  # of a line to the driver
SYSTEM = "/usr/aarch64-linux-gnu"  # where the board's libc lies

Array = np.ndarray[Any, Any]
Function = Callable[..., None]


def tool(*names: str) -> str:
    """The first of the programs that is there."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise RuntimeError(f"EDGEQ_TEST_CPU needs {' or '.join(names)}")


class Board:
    """A process on the other machine, and the memory shared with it."""

    def __init__(self, cpu: str):
        self.folder = tempfile.TemporaryDirectory(prefix="edgeq-board-")
        self.used = 0
        driver = self.path("driver")
        source = Path(__file__).with_name("driver.c")
        subprocess.run([tool("aarch64-linux-gnu-gcc"), "-O1", source, "-o", driver], check=True)
        self._map()
        command = [tool("qemu-aarch64-static", "qemu-aarch64"), "-cpu", cpu, "-L", SYSTEM, driver]
        self.process = subprocess.Popen(
            [*command, self.path("memory"), hex(PLACE), str(SIZE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def path(self, name: str) -> str:
        return os.path.join(self.folder.name, name)

    def _map(self) -> None:
        with open(self.path("memory"), "w+b") as file:
            file.truncate(SIZE)
            place = ctypes.CDLL(None, use_errno=True).mmap
            place.restype = ctypes.c_void_p
            place.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
            flags = mmap.MAP_SHARED | FIXED
            if place(PLACE, SIZE, mmap.PROT_READ | mmap.PROT_WRITE, flags, file.fileno(), 0) != PLACE:
                raise OSError(ctypes.get_errno(), "mmap")

    def take(self, nbytes: int) -> Array:
        """So many bytes of the memory, zeros."""
        start = PLACE + self.used
        self.used += -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        assert self.used <= SIZE
        return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(start), np.uint8)

    def call(self, library: str, symbol: str, *arguments: int) -> None:
        """Call the function with up to twelve integers."""
        self.say(library, symbol, *arguments)

    def say(self, *words: Any) -> None:
        """A line to the driver, up to fourteen words; back when it is done."""
        assert self.process.stdin and self.process.stdout
        print(*words, *[0] * (WORDS - len(words)), file=self.process.stdin, flush=True)
        if self.process.stdout.readline() != "done\n":
            raise AssertionError(f"the process on {CPU} has ended: {self.process.wait()}")


@cache
def board() -> Board:
    return Board(CPU)


def zeros(nbytes: int) -> Array:
    """Memory that the code under test can use."""
    return board().take(nbytes) if CPU else np.zeros(nbytes, np.uint8)


def pages(count: int) -> Array:
    """The same, of whole pages; a process's own, also after `fork`."""
    size, own = count * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANON
    return board().take(size) if CPU else np.frombuffer(mmap.mmap(-1, size, own), np.uint8)


def forbid(page: int) -> None:
    """Code under test that touches the page ends its process."""
    if CPU:
        board().say("forbid", "-", page, mmap.PAGESIZE)
    elif ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")


def target(isa: str) -> Target:
    return Target(isa, "aarch64")


def loaded(blob: bytes, symbol: str) -> Function:
    """The function of an object file, to be called with up to twelve integers."""
    there = board()
    count = len(os.listdir(there.folder.name))
    object_file, library = there.path(f"{count}.o"), there.path(f"{count}.so")
    Path(object_file).write_bytes(blob)
    subprocess.run([tool("aarch64-linux-gnu-ld"), "-shared", object_file, "-o", library], check=True)
    return lambda *arguments: there.call(library, symbol, *arguments)


@cache
def kernel(name: str, tag: Tag) -> Function:
    """A kernel of the catalog."""
    return loaded(compile.compile_kernel(sources.entry(name, tag), "kernel", target(tag.isa)), "kernel")
