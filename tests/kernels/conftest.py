"""Kernels are tested on the instruction sets that verbs are tested on."""

from __future__ import annotations

from tests import emulator
from tests.simd.conftest import stand_ins

__all__ = ["stand_ins"]
collect_ignore = (  # what runs whole programs in this process
    ["test_pool.py", "test_arena.py", "test_memory.py"] if emulator.CPU else []
)
