"""The bundled model in each scheme, converted once, and instruction sets to run it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq.converters import convert
from edgeq.simd import isa, store


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


def _vnni_by_meaning() -> isa.ISA:
    """The AVX-512 VNNI row with its dot instruction replaced by its meaning, for CPUs that lack it."""
    row = isa.by_name("avx512vnni")
    lower: dict[str, Any] = {**row.lower, "dots": isa.dots_generic, "dot4": isa.dot4_generic}
    return isa.ISA("avx512vnni-meaning", row.machine, isa.by_name("avx2").needs, row.tokens, lower)


@pytest.fixture
def use_isa(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """use_isa(name) makes models loaded from then on run on that instruction set."""
    rows = (*isa.ISAS, _vnni_by_meaning())
    monkeypatch.setattr(isa, "ISAS", rows)
    monkeypatch.setattr(store, "ISAS", rows)

    def use(name: str) -> None:
        monkeypatch.setenv("EDGEQ_ISA", name)
        store.host_isa.cache_clear()

    yield use
    monkeypatch.undo()
    store.host_isa.cache_clear()


def runnable() -> list[str]:
    """The instruction sets of this CPU, and AVX-512 VNNI's tiles with the meaning of its dot where it lacks
    that.
    """
    names = [row.name for row in isa.ISAS if row.needs <= store.host_features()]
    if "avx512vnni" not in names and "avx2" in names:
        names.insert(0, "avx512vnni-meaning")
    return names
