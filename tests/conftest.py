"""What every test stands on: a cache that is not the user's, and the optional directory of real data."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# One cache for the whole run, set before any test imports edgeq: kernels are compiled once, and the user's
# own cache is neither read nor written. EDGEQ_TEST_CACHE names a directory to keep between runs.
_cache = tempfile.TemporaryDirectory(prefix="edgeq-tests-", ignore_cleanup_errors=True)
os.environ["XDG_CACHE_HOME"] = os.environ.get("EDGEQ_TEST_CACHE") or _cache.name


def pytest_unconfigure() -> None:
    _cache.cleanup()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of real models, vocabularies and texts; skips the test where there is none."""
    path = Path(os.environ.get("EDGEQ_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no test data at {path}; set EDGEQ_TEST_DATA to the directory that has it")
    return path.resolve()


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """The bundled stories260K checkpoint: a Hugging Face directory that every test has."""
    from edgeq.demo import checkpoint

    return checkpoint()


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory for this test alone (kernels are compiled again)."""
    path = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path
