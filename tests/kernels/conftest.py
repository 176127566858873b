"""Kernels are tested on the instruction sets that verbs are tested on."""

from __future__ import annotations

from tests.simd.conftest import stand_ins

__all__ = ["stand_ins"]
