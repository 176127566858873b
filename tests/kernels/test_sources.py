"""What those who compile kernels are told of them: entries, and the digest that packs are checked against."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.formats import schemes
from edgeq.kernels import sources
from edgeq.kernels.roles import Number
from edgeq.kernels.table import KERNELS


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """The digest of a copy of the sources in tmp_path / "edgeq"."""
    package = Path(sources.__file__).parent.parent
    for part in ("simd", "kernels"):
        shutil.copytree(package / part, tmp_path / "edgeq" / part)
    (tmp_path / "edgeq" / "schemes").mkdir()
    for name in sources.SCHEME_SOURCES:
        shutil.copy(Path(schemes.__file__).parent / name, tmp_path / "edgeq" / "schemes" / name)
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "edgeq" / "kernels" / "sources.py"))
    monkeypatch.setattr(schemes, "__file__", str(tmp_path / "edgeq" / "schemes" / "__init__.py"))

    def now() -> str:
        sources.digest.cache_clear()
        return sources.digest()

    yield now
    monkeypatch.undo()
    sources.digest.cache_clear()


def test_the_digest_follows_every_source(digest: Callable[[], str], tmp_path: Path) -> None:
    before = digest()
    assert digest() == before
    seen = {before}
    paths = [p for p in (tmp_path / "edgeq").rglob("*.py") if not p.name.startswith("meaning")]
    assert len(paths) > 15
    for path in paths:
        text = path.read_text()
        path.write_text(text + "#")
        assert digest() not in seen, path
        seen.add(digest())
        path.write_text(text)
    assert digest() == before
    (tmp_path / "edgeq" / "kernels" / "matmul.py").rename(tmp_path / "edgeq" / "kernels" / "matmul2.py")
    assert digest() not in seen


def test_a_catalog_row_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "argmax", replace(KERNELS["argmax"], roles=(Number("y"), Number("columns"))))
    with pytest.raises(TypeError, match="argmax"):
        sources.function("argmax")


@pytest.mark.parametrize("name", list(KERNELS))
def test_catalog_rows_are_right(name: str) -> None:
    """Every row names a kernel that takes these operands."""
    assert callable(sources.function(name))
