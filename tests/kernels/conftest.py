"""Kernels are tested on the instruction sets that verbs are tested on."""

from __future__ import annotations

from tests import emulator
from tests.simd.conftest import stand_ins

__all__ = ["stand_ins"]
collect_ignore = ["test_team.py"] if emulator.CPU else []  # its threads run the interpreter in this process
