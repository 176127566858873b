"""No kernel touches memory that is not its own, nor forgets that there is more than two gigabytes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq.kernels import meaning
from tests import emulator
from tests.kernels.calling import Memory, run, same_bits, tag_of
from tests.patience import STUCK_S
from tests.simd.rows import HERE

HERE_FOLDER = Path(__file__).parent


def guarded(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The tests of a file with a forbidden page behind every buffer; touching it ends the process."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(HERE_FOLDER / name),
        *options,
    ]
    env = {**os.environ, "EDGEQ_TEST_CACHE": os.environ["XDG_CACHE_HOME"], "EDGEQ_TEST_GUARD": "1"}
    env.pop("PYTEST_ADDOPTS", None)  # its processes are for the tests around this one
    root = HERE_FOLDER.parent.parent
    return subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, timeout=STUCK_S)


@pytest.mark.skipif(sys.platform != "linux", reason="pages are forbidden with Linux's mprotect")
@pytest.mark.parametrize("name", ["test_rows.py", "test_products.py"])
def test_nothing_past_the_end_is_touched(name: str) -> None:
    done = guarded(name, "-k", f"not exact and ({HERE} or generic)")  # the others reach as far
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="pages are forbidden with Linux's mprotect")
def test_attention_touches_nothing_past_the_end() -> None:
    done = guarded("test_attention.py", "-k", "test_int8 or test_floats")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(sys.maxsize < 2**32, reason="addresses of 64 bits")
def test_rows_beyond_two_gigabytes() -> None:
    """Rows of a matrix whose last bytes lie past 2**31 and 2**32; its pages exist where they are written."""
    columns, rows = 2048, 2**32 // 8192 + 64
    try:
        weights = emulator.zeros(rows * columns * 4).view(np.float32).reshape(rows // 16, columns, 16)
    except MemoryError:
        pytest.skip("no 4 GB of address space")
    ids = np.array([0, 2**31 // 8192 - 1, 2**31 // 8192, rows - 1])
    want = np.arange(4 * columns, dtype=np.float32).reshape(4, columns)
    for n, row in enumerate(ids):
        weights[row // 16, :, row % 16] = want[n]
    m = Memory()
    y = m.rows(np.zeros((4, columns), np.float32))
    run(
        m,
        "embed_float",
        tag_of(HERE, "f32"),
        count=4,
        ids=m.put(ids).address,
        weights=int(weights.ctypes.data),
        y=y.address,
        y_stride=y.stride,
        tiles=rows // 16,
        columns=columns,
    )
    same_bits(y.values, want)
    same_bits(y.values, meaning.embed_float(np.arange(4), want))
