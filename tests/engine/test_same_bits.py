"""The promise of the same bits: instruction sets, thread counts, and ways to cut a prompt change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeq import engine
from tests.simd.rows import REAL

IDS = [
    1,
    *np.random.default_rng(5).integers(3, 512, 299).tolist(),
]  # beyond one chunk of attention and one pass


def pieces(model: engine.Model, step: int) -> np.ndarray:
    """Logits after every `step` tokens of IDS."""
    sequence = model.sequence()
    return np.stack([sequence.feed(IDS[i : i + step]) for i in range(0, len(IDS), step)])


@pytest.fixture(scope="module")
def reference(demo_file: Callable[[str], Path]) -> Callable[..., np.ndarray]:
    """Logits at every position of IDS on this CPU's best instruction set with one thread."""
    known: dict[tuple[str, str, str], np.ndarray] = {}

    def logits(scheme: str, kv: str, act: str) -> np.ndarray:
        key = scheme, kv, act
        if key not in known:
            with engine.load(demo_file(scheme), threads=1, kv=kv, act=act) as model:
                known[key] = model.logits(IDS)
        return known[key]

    return logits


CASES = [("q4", "q8", "int8"), ("q8", "f16", "int8"), ("q4", "f32", "f32"), ("bf16", "q8", "int8")]


@pytest.mark.parametrize(("scheme", "kv", "act"), CASES)
@pytest.mark.parametrize("isa", REAL)  # kernel by kernel, tests/kernels has the others, too
def test_instruction_sets(
    isa: str,
    scheme: str,
    kv: str,
    act: str,
    demo_file: Callable[[str], Path],
    reference: Callable[..., np.ndarray],
    use_isa: Callable[[str], None],
) -> None:
    want = reference(scheme, kv, act)
    use_isa(isa)
    with engine.load(demo_file(scheme), threads=2, kv=kv, act=act) as model:
        assert model.isa == isa
        np.testing.assert_array_equal(model.logits(IDS).view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64])
@pytest.mark.parametrize(("scheme", "kv", "act"), CASES[:2])
def test_threads_and_pieces(
    threads: int,
    scheme: str,
    kv: str,
    act: str,
    demo_file: Callable[[str], Path],
    reference: Callable[..., np.ndarray],
) -> None:
    want = reference(scheme, kv, act).view(np.uint32)
    with engine.load(demo_file(scheme), threads=threads, kv=kv, act=act) as model:
        np.testing.assert_array_equal(model.logits(IDS).view(np.uint32), want)
        np.testing.assert_array_equal(model.logits(IDS).view(np.uint32), want)  # again
        np.testing.assert_array_equal(pieces(model, 1).view(np.uint32), want)
        ends = np.minimum(np.arange(6, len(IDS) + 6, 7), len(IDS) - 1)
        np.testing.assert_array_equal(pieces(model, 7).view(np.uint32), want[ends])


def test_after_truncate(demo_file: Callable[[str], Path], reference: Callable[..., np.ndarray]) -> None:
    """What was fed and forgotten leaves no trace."""
    want = reference("q4", "q8", "int8").view(np.uint32)
    with engine.load(demo_file("q4"), threads=2) as model:
        sequence = model.sequence()
        sequence.feed(IDS[:100])
        sequence.feed([7] * 60)
        sequence.truncate(100)
        np.testing.assert_array_equal(sequence.feed(IDS[100:]).view(np.uint32), want[-1])
