"""What every test stands on: a cache that is not the user's, signals that do what they usually do, and the
optional directory of real data.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A cache of the run's own, set before any test imports edgeq: kernels are compiled once, and the user's
# cache is neither read nor written. EDGEQ_TEST_CACHE names a directory to keep between runs. Each worker of
# pytest-xdist has its own in there: one that compiles lets all others wait.
_cache = tempfile.TemporaryDirectory(prefix="edgeq-tests-", ignore_cleanup_errors=True)
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
_kept = os.path.abspath(os.environ.get("EDGEQ_TEST_CACHE") or _cache.name)
os.environ["EDGEQ_TEST_CACHE"] = os.path.join(_kept, _worker)
os.environ["XDG_CACHE_HOME"] = os.environ["EDGEQ_TEST_CACHE"]
os.environ["XDG_STATE_HOME"] = os.path.join(os.environ["EDGEQ_TEST_CACHE"], "state")
os.environ.pop("EDGEQ_KERNELS", None)
os.umask(0o022)  # files that others can write are refused, and some tests make files
os.makedirs(os.environ["EDGEQ_TEST_CACHE"], exist_ok=True)


def pytest_unconfigure() -> None:
    _cache.cleanup()


def usual_signals() -> None:
    """Give tests and the processes they start the usual answers to signals, whatever this process inherited:
    a job in the background of a shell ignores SIGINT, nohup's ignores SIGHUP, and both hand that on.

    This process itself still ends by neither SIGHUP nor SIGTERM where it was told to ignore them.
    """

    def ignored(*_: Any) -> None:
        """A handler, unlike SIG_IGN, is not handed on."""

    usual: dict[str, Any] = {
        "SIGINT": signal.default_int_handler,
        "SIGTERM": ignored,
        "SIGHUP": ignored,
        "SIGALRM": signal.SIG_DFL,
        "SIGCHLD": signal.SIG_DFL,
    }
    for name, handler in usual.items():
        number = getattr(signal, name, None)  # Windows has but a few of them
        if number is None:
            continue
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


usual_signals()

with contextlib.suppress(ImportError):  # an emulated board's tests need no hypothesis
    from hypothesis import HealthCheck, settings

    # Nothing that counts seconds: neither the limit of an example nor that of making one.
    checks = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
    settings.register_profile("edgeq", deadline=None, suppress_health_check=checks)
    settings.load_profile("edgeq")


@pytest.fixture(scope="session", autouse=True)
def compiled_here() -> Iterator[None]:
    """This process compiles for itself: one that is started for it would import numba again for each test.
    The tests of packs, and all that run edgeq in a process of its own, compile as users do.
    """
    try:
        from edgeq.packs import build
        from edgeq.simd import compilers
    except ImportError:  # where only Python is
        yield
        return

    def here(requests: Any, target: Any, jobs: int, sources: Any) -> Iterator[tuple[Any, bytes]]:
        compiler = compilers.Here(sources)
        for request in requests:
            yield request, compilers.object_of(request, compiler.answer(request, target))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "compiling", here)
        yield


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
