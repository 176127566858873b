"""The store of compiled kernels: damaged files, unsafe folders, races, and what a kernel's name depends on.

`run` is the kernel of these tests, as a small one. Where only the store is looked at, its one true object
stands in for the compiler.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import UsageError
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels.catalog import KERNELS, WIDTH, Crew
from edgeq.simd import compile, store
from edgeq.simd.tag import Tag

TAG = Tag("generic")
REQUEST = ("run", TAG)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own, not there yet."""
    path = tmp_path / "kernels"
    monkeypatch.setenv("EDGEQ_KERNELS", str(path))
    return path


@pytest.fixture(scope="module")
def true_object() -> Callable[[str], bytes]:
    """The compiled object by its symbol, made once: the digest is the same for all tests."""
    made: dict[str, bytes] = {}
    real = compile.compile_kernel

    def object_of(symbol: str) -> bytes:
        if symbol not in made:
            made[symbol] = real(*REQUEST, symbol)
        return made[symbol]

    return object_of


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, true_object: Callable[[str], bytes]) -> list[str]:
    """The names of the kernels that were compiled, which takes no time here."""
    names: list[str] = []

    def quick(name: str, tag: Tag, symbol: str) -> bytes:
        names.append(name)
        return true_object(symbol)

    monkeypatch.setattr(compile, "compile_kernel", quick)
    return names


def check(kernels: store.Kernels) -> None:
    """`run`, for a crew of one, calls the kernels of a program in order."""
    called: list[tuple[int, ...]] = []
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(lambda *given: called.append(given))
    program = np.zeros((2, WIDTH // 8), np.int64)
    program[:, 0] = ctypes.cast(kernel, ctypes.c_void_p).value or 0
    words = np.zeros((Crew.BYTES + Crew.WORKER_BYTES) // 8, np.int64)
    words[Crew.GATE // 8], words[Crew.WORKERS // 8] = Crew.SHUT, 1
    run = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(kernels.load([REQUEST])[REQUEST])
    assert run(words.ctypes.data, program.ctypes.data, len(program)) == 0
    assert called == [(program.ctypes.data + WIDTH * n, 0, 1) for n in range(2)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_compiled_once_and_kept(folder: Path, compiled: list[str]) -> None:
    first = store.Kernels()
    check(first)
    check(first)
    check(store.Kernels())
    assert compiled == ["run"]
    (path,) = files(folder)
    assert path.name.startswith("run-any-generic-") and path.suffix == ".kernel"
    assert folder.stat().st_mode & 0o077 == 0


def test_progress_counts_compilations(folder: Path, compiled: list[str]) -> None:
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, name: str) -> None:
        seen.append((done, total, name))

    store.Kernels().load([REQUEST], progress)
    assert seen == [(0, 1, "run any@generic"), (1, 1, "")]
    store.Kernels().load([REQUEST], progress)
    assert len(seen) == 2


# ---- damage ----
def damaged(blob: bytes) -> Iterator[bytes]:
    yield b""
    for length in (1, 31, 32, 33, len(blob) // 2, len(blob) - 1):
        yield blob[:length]
    yield blob + b"\0"
    yield bytes(len(blob))
    rng = np.random.default_rng(0)
    for bit in rng.choice(len(blob) * 8, 200, replace=False):
        spoiled = bytearray(blob)
        spoiled[bit // 8] ^= 1 << (bit % 8)
        yield bytes(spoiled)


def test_damaged_files_are_made_again(folder: Path, compiled: list[str]) -> None:
    """Truncated, empty, longer, zeros, and 200 single bits: never a crash, never a wrong answer."""
    check(store.Kernels())
    (path,) = files(folder)
    whole = path.read_bytes()
    for n, blob in enumerate(damaged(whole), 2):
        path.write_bytes(blob)
        check(store.Kernels())
        assert len(compiled) == n
        assert path.read_bytes() == whole
    assert len(compiled) > 200 and files(folder) == [path]


def test_a_truncated_file_is_compiled_again_for_real(folder: Path) -> None:
    check(store.Kernels())
    (path,) = files(folder)
    path.write_bytes(path.read_bytes()[:500])
    check(store.Kernels())
    assert len(path.read_bytes()) > 500


def test_what_cannot_be_read_is_made_again(
    folder: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(store.Kernels())

    def refuse(self: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        check(store.Kernels())
    assert compiled == ["run", "run"]


# ---- folders ----
def world_writable(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o777)


def group_writable(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o770)


def anothers(folder: Path, patch: pytest.MonkeyPatch) -> None:
    mine = os.getuid()
    patch.setattr(os, "getuid", lambda: mine + 1)


def read_only(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o500)
    if os.geteuid() == 0:  # whom permissions do not bind
        patch.setattr(os, "access", lambda path, mode: mode != os.W_OK)


def a_file(folder: Path, patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and permissions as on POSIX systems")
@pytest.mark.parametrize("state", [world_writable, group_writable, anothers, read_only, a_file])
def test_an_unsafe_folder_is_not_used(
    state: Callable[[Path, pytest.MonkeyPatch], None],
    folder: Path,
    compiled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One warning that names it; kernels are compiled and neither read from there nor written to it."""
    check(store.Kernels())
    kept = [path.read_bytes() for path in files(folder)]
    state(folder, monkeypatch)
    kernels = store.Kernels()
    with pytest.warns(RuntimeWarning, match="not kept") as record:
        check(kernels)
        check(kernels)
    assert len(record) == 1 and str(folder) in str(record[0].message)
    assert compiled == ["run", "run"]
    if folder.is_dir():
        assert [path.read_bytes() for path in files(folder)] == kept


@pytest.mark.parametrize("call", ["tempfile.mkstemp", "os.replace"])
def test_a_full_disk(call: str, folder: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, full)
    with pytest.warns(RuntimeWarning, match="not kept"):
        check(store.Kernels())
    assert not folder.exists() or not files(folder)


def test_an_interrupted_write_leaves_nothing(
    folder: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.Kernels().load([REQUEST])
    assert files(folder) == []
    check(store.Kernels())


# ---- processes ----
SCRIPT = """
import sys
from edgeq.simd import store
from edgeq.simd.tag import Tag
print(store.Kernels().load([("run", Tag("generic"))])["run", Tag("generic")] > 0, "numba" in sys.modules)
"""


def python(script: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([*filter(None, sys.path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_at_once_and_a_third_without_numba(folder: Path) -> None:
    """Both compile into the empty cache, neither fails; whoever comes later does not even import numba."""
    both = [python(SCRIPT) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert out == "True True\n", err
    (path,) = files(folder)
    assert path.suffix == ".kernel"
    out, err = python(SCRIPT).communicate(timeout=120)
    assert out == "True False\n", err


# ---- the name of an instruction set ----
@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """host(forced, *features) is the instruction set chosen on a CPU with those features."""

    def chosen(forced: str, *features: str) -> str:
        monkeypatch.setenv("EDGEQ_ISA", forced)
        monkeypatch.setattr(store, "host_features", lambda: frozenset(features))
        monkeypatch.setattr(store.platform, "machine", lambda: "x86_64")
        store.host_isa.cache_clear()
        return store.host_isa().name

    yield chosen
    monkeypatch.undo()
    store.host_isa.cache_clear()


AVX2 = ("avx2", "fma", "f16c")
VNNI = ("avx512vnni", "avx512bw", "avx512vl", "avx512f", "fma", "f16c", "avx2")


def test_the_best_instruction_set_is_chosen(host: Callable[..., str]) -> None:
    assert host("", *VNNI) == "avx512vnni"
    assert host("", *AVX2) == "avx2"
    assert host("", "avx2", "fma") == "generic"  # without F16C
    assert host("") == "generic"


def test_an_instruction_set_can_be_forced(host: Callable[..., str]) -> None:
    assert host("avx2", *VNNI) == "avx2"
    assert host("GENERIC", *VNNI) == "generic"


@pytest.mark.parametrize(
    ("forced", "words"),
    [
        ("avx1024", ["avx1024", "avx2", "generic"]),
        (" ", ["EDGEQ_ISA"]),
        ("avx512vnni", ["avx512vnni", "avx512bw", "can run avx2, generic"]),
    ],
)
def test_what_cannot_run_is_one_sentence(host: Callable[..., str], forced: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        host(forced, *AVX2)
    sentence = str(caught.value)
    assert all(word in sentence for word in words)
    assert sentence.startswith("EDGEQ_ISA") and sentence.endswith(".") and "\n" not in sentence


def test_another_machines_rows_are_left_out(
    host: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host("", *AVX2) == "avx2"
    monkeypatch.setattr(store.platform, "machine", lambda: "aarch64")
    store.host_isa.cache_clear()
    assert store.host_isa().name == "generic"


# ---- what a kernel's name depends on ----
@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """The digest of a copy of the sources in tmp_path / "edgeq"."""
    package = Path(store.__file__).parent.parent
    for part in ("simd", "kernels"):
        shutil.copytree(package / part, tmp_path / "edgeq" / part)
    monkeypatch.setattr(store, "__file__", str(tmp_path / "edgeq" / "simd" / "store.py"))

    def now() -> str:
        store._sources_digest.cache_clear()
        return store._sources_digest()

    yield now
    monkeypatch.undo()
    store._sources_digest.cache_clear()


def test_the_digest_follows_every_source(digest: Callable[[], str], tmp_path: Path) -> None:
    before = digest()
    assert digest() == before
    seen = {before}
    sources = [p for p in (tmp_path / "edgeq").rglob("*.py") if p.name != "meaning.py"]
    assert len(sources) > 15
    for path in sources:
        text = path.read_text()
        path.write_text(text + "#")
        assert digest() not in seen, path
        seen.add(digest())
        path.write_text(text)
    assert digest() == before
    (tmp_path / "edgeq" / "kernels" / "matmul.py").rename(tmp_path / "edgeq" / "kernels" / "matmul2.py")
    assert digest() not in seen


def test_the_digest_follows_compiler_and_cpu(
    digest: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {digest()}
    real = store.importlib.metadata.version
    for changed in ("numba", "llvmlite"):
        with monkeypatch.context() as patch:
            patch.setattr(
                store.importlib.metadata, "version", lambda name, c=changed: real(name) + "1" * (name == c)
            )
            seen.add(digest())
    with monkeypatch.context() as patch:
        patch.setattr(store, "host_features", lambda: frozenset({"sse2"}))
        seen.add(digest())
    with monkeypatch.context() as patch:
        patch.setattr(store.llvm, "get_host_cpu_name", lambda: "k8")
        seen.add(digest())
    assert len(seen) == 5


def test_every_part_of_a_tag_is_in_the_name(folder: Path, compiled: list[str]) -> None:
    tags = [TAG, replace(TAG, tokens=2), replace(TAG, scheme="q4"), replace(TAG, isa="avx2")]
    for tag in tags:
        store.Kernels().load([("run", tag)])
    assert len(files(folder)) == len(compiled) == len(tags)


def test_a_schemes_row_is_in_the_name(
    folder: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero point, bits and group are constants of the machine code."""
    tag = replace(TAG, scheme="q4")
    store.Kernels().load([("run", tag)])
    monkeypatch.setitem(SCHEMES, "q4", replace(SCHEMES["q4"], zero=7))
    store.Kernels().load([("run", tag)])
    assert len(compiled) == 2


# ---- the compiler's own checks ----
def test_a_catalog_row_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "run", replace(KERNELS["run"], operands=("crew", "length", "program")))
    with pytest.raises(TypeError, match="run"):
        compile.kernel_function("run")


@pytest.mark.parametrize("name", list(KERNELS))
def test_catalog_rows_are_right(name: str) -> None:
    """Every row names a kernel that takes these operands."""
    assert callable(compile.kernel_function(name))
