"""What threads share, and calls to native addresses."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..isa.vectors import I64
from ..tag import Tag
from .registry import ADDRESS, memory, verb

# All threads see one order of these steps: "I sleep" in one and "there is work" in another must not cross.
ORDER = "seq_cst"


def _shared(b: Any, p: Any) -> Any:
    return b.inttoptr(p, I64.as_pointer())


@verb(ADDRESS, (ADDRESS, ADDRESS), lambda b, p, n: b.atomic_rmw("add", _shared(b, p), n, ORDER))
def fetch_add(p: int, n: int) -> Any:
    """Add n to the int64 at p as one step seen by all threads; what stood there before."""
    cell = memory(p, np.int64, 1)
    cell[0] += n
    return cell[0] - n


@verb(ADDRESS, (ADDRESS,), lambda b, p: b.load_atomic(_shared(b, p), ORDER, 8))
def peek_shared(p: int) -> Any:
    """The int64 at p, and all that was written before it was."""
    return memory(p, np.int64, 1)[0]


@verb(ADDRESS, (ADDRESS, ADDRESS), lambda b, p, x: b.atomic_rmw("xchg", _shared(b, p), x, ORDER))
def exchange(p: int, x: int) -> Any:
    """Put x in the int64 at p as one step seen by all threads; what stood there before."""
    cell = memory(p, np.int64, 1)
    before, cell[0] = cell[0], x
    return before


@verb(
    ADDRESS,
    (ADDRESS, ADDRESS, ADDRESS),
    lambda b, p, old, new: b.extract_value(b.cmpxchg(_shared(b, p), old, new, ORDER, ORDER), 0),
)
def replace(p: int, old: int, new: int) -> Any:
    """Put new in the int64 at p if old stands there, as one step seen by all threads; what stood there."""
    cell = memory(p, np.int64, 1)
    before = cell[0]
    cell[0] = new if before == old else before
    return before


@verb(types.void, (Tag,), lambda b, tag: tag.isa_row.lower["pause"](b))
def pause(t: Any) -> None:
    """Tell the core that this thread is waiting."""


def _call(b: Any, address: Any, *args: Any) -> None:
    f = ir.FunctionType(ir.VoidType(), [I64] * len(args))
    b.call(b.inttoptr(address, f.as_pointer()), args)


@verb(types.void, (ADDRESS, ADDRESS, ADDRESS, ADDRESS), _call)
def call_kernel(address: int, instruction: int, worker: int, workers: int) -> None:
    """Call the compiled kernel at a native address."""
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(address)(instruction, worker, workers)


@verb(types.void, (ADDRESS, ADDRESS, ADDRESS, ADDRESS), _call)
def call_system(address: int, x: int, y: int, z: int) -> None:
    """Call a function of the system that takes up to three whole numbers and whose result is of no interest.

    One that takes fewer does not see the others: they travel in registers on every 64-bit system.
    """
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(address)(x, y, z)
