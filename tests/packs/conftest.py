"""Packs are compiled as users have them compiled."""

from __future__ import annotations

import pytest

from edgeq.packs import build
from edgeq.simd import compilers


@pytest.fixture(autouse=True)
def compiled_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compiling", compilers.compiled)
