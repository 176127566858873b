"""No kernel touches memory that is not its own, nor forgets that there is more than two gigabytes of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq.kernels import meaning
from tests import emulator
from tests.kernels.calling import GUARD, Memory, run, same_bits, tag_of
from tests.patience import STUCK_S
from tests.simd.rows import HERE

ROOT = Path(__file__).parents[2]
TOO_FAR = """
import sys
import numpy as np
from tests.kernels.calling import Memory, float32_bits, run, tag_of
from tests.simd.rows import HERE

m, dim = Memory(), int(sys.argv[1])
x = m.rows(np.ones((2, 32), np.float32))
y = m.rows(np.ones((2, 32), np.float32))
weight = m.vector(np.ones(32, np.float32))
run(m, "norm", tag_of(HERE), count=2, a=x.address, a_stride=x.stride, weight=weight.address, y=y.address,
    y_stride=y.stride, dim=dim, epsilon=float32_bits(1e-5), count_at=0)
print("it went through")
"""


@pytest.mark.skipif(not GUARD, reason="pages are forbidden with Linux's mprotect, in this process")
@pytest.mark.parametrize("dim", [32, 96])
def test_what_lies_behind_a_buffer_is_forbidden(dim: int) -> None:
    """In all tests of kernels: 96 columns of a weight that has 32 end the process."""
    done = subprocess.run(
        [sys.executable, "-c", TOO_FAR, str(dim)], cwd=ROOT, capture_output=True, text=True, timeout=STUCK_S
    )
    if dim == 32:
        assert done.returncode == 0 and "it went through" in done.stdout, done.stderr
    else:
        assert done.returncode == -signal.SIGSEGV and "it went through" not in done.stdout, done.stderr


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
