"""Kernels as they are compiled: the entry of each, and the digest of all that shapes its machine code. See
`edgeq.simd.sources`.

A kernel is a Python function (t, work, worker, workers, batch, *operands). Its compiled form has one
signature for all, (instruction, worker, workers) -> void: the entry reads the operands out of the
instruction, where it is said here that they lie. A plain function's takes its operands and returns an int64.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

from edgeq.formats import schemes
from edgeq.simd.sources import Entry, Given
from edgeq.simd.tag import Tag

from .catalog import BATCH_AT, OPERANDS_AT, WORK_AT
from .table import KERNELS

COMMON = ("t", "work", "worker", "workers", "batch")
SCHEME_SOURCES = ("numbers.py", "scheme.py", "table.py")  # what a tag says of its scheme


@cache
def digest() -> str:
    """Of all that shapes machine code besides compiler and tag."""
    here = Path(__file__).parent
    paths = [*(here.parent / "simd").rglob("*.py"), *here.rglob("*.py")]
    tables = [Path(schemes.__file__).parent / name for name in SCHEME_SOURCES]
    found = hashlib.sha256()
    for path in (*tables, *sorted(p for p in paths if not p.name.startswith("meaning"))):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def function(kernel: str) -> Any:
    """The kernel's numba dispatcher, its parameters checked against the catalog."""
    row = KERNELS[kernel]
    found = getattr(importlib.import_module(f"edgeq.kernels.{row.module}"), kernel)
    given = tuple(inspect.signature(found.py_func).parameters)
    common = COMMON[:1] if row.plain else COMMON
    if given != common + row.operands:
        raise TypeError(f"kernel {kernel} takes {given[len(common) :]}, its catalog row says {row.operands}")
    return found


INSTRUCTION, WORKER, WORKERS = range(3)  # what the entry of a kernel that is no plain function takes


def entry(kernel: str, tag: Tag) -> Entry:
    """The kernel's entry for the tag; KeyError for one that the catalog does not have."""
    row = KERNELS[kernel]
    if row.plain:
        given = tuple(map(Given, range(len(row.operands))))
        return Entry(kernel, tag, function(kernel), given, len(given), returns=True)
    words = (BATCH_AT, *(OPERANDS_AT + 8 * n for n in range(len(row.operands))))
    given = (
        Given(INSTRUCTION, WORK_AT),
        Given(WORKER),
        Given(WORKERS),
        *(Given(INSTRUCTION, at, lies_there=True) for at in words),
    )
    return Entry(kernel, tag, function(kernel), given, 3, returns=False)
