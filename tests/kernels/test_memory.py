"""The mode in which the system checks every address: it catches what reaches too far."""

from __future__ import annotations

import gc
import mmap
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import memory
from edgeq.errors import UsageError
from edgeq.kernels.table import KERNELS
from edgeq.runtime import extents
from edgeq.runtime.arena import Buffer
from edgeq.runtime.weights import Vector
from tests.kernels.test_program import PROGRAMS, FakeWeights, recorded

linux = pytest.mark.skipif(sys.platform != "linux", reason="pages are forbidden with Linux's mprotect")
LINE, STRIDE, DIM = 64, 256, 33  # two rows of three lines
SIZE = STRIDE + 3 * LINE

NORM = f"""
import sys
import numpy as np
from edgeq import memory
from tests.kernels.calling import Memory, float32_bits, run, tag_of
from tests.simd.rows import HERE

short = sys.argv[1]
sizes = {{"a": {SIZE}, "weight": {3 * LINE}, "y": {SIZE}}}
held = {{name: memory.zeros(size - {LINE} * (name == short)) for name, size in sizes.items()}}
places = {{name: int(array.ctypes.data) for name, array in held.items()}}
if short == "gone":
    del held["a"]
run(Memory(), "norm", tag_of(HERE), count=2, a_stride={STRIDE}, y_stride={STRIDE}, dim={DIM},
    epsilon=float32_bits(1e-5), count_at=0, **places)
print("it went through")
"""


def ended(short: str, check: str = "memory") -> subprocess.CompletedProcess[str]:
    """A process in which the norm kernel runs, with one of its buffers a line too short, or gone."""
    kept = {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"], "EDGEQ_CHECK": check}
    return subprocess.run(
        [sys.executable, "-c", NORM, short],
        env={**os.environ, **kept},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
    )


@linux
@pytest.mark.parametrize("short", ["a", "weight", "y", "gone"])
def test_a_buffer_that_is_too_short_ends_the_process(short: str) -> None:
    done = ended(short)
    assert done.returncode == -signal.SIGSEGV and "it went through" not in done.stdout, done.stderr


@linux
def test_buffers_that_are_long_enough_do_not() -> None:
    done = ended("none")
    assert done.returncode == 0 and "it went through" in done.stdout, done.stderr


@linux
def test_a_byte_before_an_array_is_not_forgotten() -> None:
    """Where the array does not begin a page, the bytes before it are looked at when it goes."""
    told: list[Any] = []
    array = memory._fenced([100])[0]
    page, before = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE, array.ctypes.data - 1
    assert array.ctypes.data + 100 == page + mmap.PAGESIZE
    np.asarray(memory._Piece(None, before, 1))[0] = 0  # type: ignore[arg-type]
    hook, sys.unraisablehook = sys.unraisablehook, told.append
    try:
        del array
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert len(told) == 1 and "written before the array" in str(told[0].exc_value)


@linux
def test_what_is_alive_is_known() -> None:
    first, second = memory._fenced([64, 200])
    at, other = int(first.ctypes.data), int(second.ctypes.data)
    memory.require(at, 64, "x")
    memory.require(other + 100, 100, "x")
    memory.require(other + 300, 0, "nothing")
    for address, nbytes in ((at, 65), (at - 1, 1), (other + 100, 101), (other + 200, 1)):
        with pytest.raises(UsageError, match=f"x reaches over {nbytes} bytes from"):
            memory.require(address, nbytes, "x")
    del first
    memory.require(at, 64, "x")  # the two live and go together
    del second
    gc.collect()
    with pytest.raises(UsageError, match="which no buffer has"):
        memory.require(at, 64, "x")


@pytest.mark.parametrize("shape", [0, 1, 63, (3, 5), (0, 7)])
def test_zeros_are_aligned_and_as_large_as_asked(shape: Any) -> None:
    array = memory.zeros(shape, np.int64)
    assert array.shape == np.zeros(shape).shape and array.dtype == np.int64 and not array.any()
    assert not array.size or array.ctypes.data % memory.ALIGNMENT == 0 or memory.checked()
    array[...] = 7


def test_pieces_are_apart_and_ascend() -> None:
    pieces = memory.pieces([1, 64, 0, 100, 3])
    places = [(int(p.ctypes.data), p.nbytes) for p in pieces if p.nbytes]
    assert [p.nbytes for p in pieces] == [1, 64, 0, 100, 3]
    assert all(a + n <= b for (a, n), (b, _) in zip(places, places[1:], strict=False))
    for n, piece in enumerate(pieces):
        piece[:] = n
    assert all((piece == n).all() for n, piece in enumerate(pieces))


@pytest.mark.parametrize("pattern", [np.arange(3, dtype=np.uint8), np.full(1, np.nan, np.float32)])
@pytest.mark.parametrize("size", [0, 1, 8, 100])
def test_fill_repeats_a_pattern(size: int, pattern: np.ndarray) -> None:
    array = np.zeros((size, 3), np.int64)
    memory.fill(array, pattern)
    want = np.resize(pattern.view(np.uint8), array.nbytes)
    np.testing.assert_array_equal(array.reshape(-1).view(np.uint8), want)


def test_a_check_that_is_not_known_is_refused() -> None:
    done = ended("none", check="memroy")
    assert done.returncode == 1 and "UsageError: EDGEQ_CHECK is 'memroy'" in done.stderr


MAKES = re.compile(r"np\.(zeros|empty|ones|full|array|asarray|copy)\(")
EXECUTABLE = ("packs", "kernels", "cli")  # addresses of code; kernels' meanings; no addresses


def test_all_memory_of_kernels_comes_from_here() -> None:
    """A module that takes an array's address makes no arrays by itself."""
    folder = Path(memory.__file__).parent
    sources = {
        path.relative_to(folder): path.read_text()
        for path in folder.rglob("*.py")
        if path.name != "memory.py" and path.relative_to(folder).parts[0] not in EXECUTABLE
    }
    taking = {path: text for path, text in sources.items() if ".ctypes.data" in text}
    known = (
        "runtime/weights.py",
        "runtime/pool.py",
        "cache/pool.py",
        "runtime/batch.py",
    )
    assert {Path(name) for name in known} <= set(taking)
    assert not {path: MAKES.findall(text) for path, text in taking.items() if MAKES.search(text)}


# ---- programs against the table of extents ----

# operands that are plain addresses
ADDRESSES = {"weights", "bias", "weight", "centre", "sinks", "cosine", "sine"}


@pytest.mark.parametrize(("family", "schemes", "act", "kv"), PROGRAMS)
def test_every_address_has_an_extent(family: str, schemes: dict[str, str], act: str, kv: str) -> None:
    program = recorded(family, schemes, act, kv)
    for i, row in zip(program._instructions, program.code.tolist(), strict=True):
        named = {k for k, v in i.operands.items() if k in ADDRESSES or isinstance(v, Buffer)}
        numbers = dict(zip(KERNELS[i.kernel].operands, row[4:], strict=False))
        assert set(extents.of(i, numbers, extents.Sizes(16, 4, 3))) == named, i.kernel


class ShortVectors(FakeWeights):
    """Their last line is missing."""

    def vector(self, name: str) -> Vector:
        short = super().vector(name)
        short.values = memory.zeros(len(short.values) - 16, np.float32)
        return short


@linux
def test_a_program_that_reaches_beyond_its_buffers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "checked", lambda: True)
    recorded(*PROGRAMS[0])
    with pytest.raises(UsageError, match="norm_quantize of norm1's operand weight reaches over 384 bytes"):
        recorded(*PROGRAMS[0], weights=ShortVectors)
