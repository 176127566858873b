"""Instruction sets to compute on."""

from __future__ import annotations

from tests.engine.conftest import use_isa

__all__ = ["use_isa"]
