"""The bundled model in each scheme, converted once, and instruction sets to run it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeq.converters import convert
from edgeq.simd import host, isa
from tests.simd.rows import STAND_INS


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Callable[[str], Path]:
    """demo_file(scheme) is the stories260K model as an .edgeq file of that scheme."""
    folder = tmp_path_factory.mktemp("demo")

    def file(scheme: str) -> Path:
        path = folder / f"{scheme}.edgeq"
        if not path.exists():
            convert(demo_checkpoint, path, scheme=scheme)
        return path

    return file


@pytest.fixture
def use_isa(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """use_isa(name) makes models loaded from then on run on that instruction set."""
    rows = (*isa.ISAS, *STAND_INS)
    monkeypatch.setattr(isa, "ISAS", rows)

    def use(name: str) -> None:
        monkeypatch.setenv("EDGEQ_ISA", name)
        host.host_isa.cache_clear()

    yield use
    monkeypatch.undo()
    host.host_isa.cache_clear()
