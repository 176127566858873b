"""What lay in the arena changes no bit: random models and every kernel, with NaN, -1 or noise in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq import engine
from edgeq.converters import convert
from edgeq.kernels.catalog import OPERANDS_AT
from edgeq.kernels.table import KERNELS
from edgeq.models import family_names
from tests import arena

MODELS = len(family_names())  # `python -m tests.arena` runs 400


def test_random_models(tmp_path: Path) -> None:
    totals = arena.Totals()
    for seed in range(MODELS):
        arena.check_model(seed, tmp_path, totals)
    assert not totals.differ
    assert totals.models == MODELS and totals.runs == MODELS * 12 * 5
    assert totals.kernels == {name for name, row in KERNELS.items() if not row.plain}


@pytest.mark.skipif(sys.platform != "linux", reason="pages are forbidden with Linux's mprotect")
def test_random_models_with_every_address_checked() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.arena", "--models", "6", "--seed", "5000"],
        env={**os.environ, "EDGEQ_CHECK": "memory"},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "6 models, 360 runs" in done.stdout, done.stdout + done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> dict[str, Path]:
    """The bundled model by scheme."""
    folder = tmp_path_factory.mktemp("demo")
    files = {scheme: folder / f"{scheme}.edgeq" for scheme in ("q4", "q8")}
    for scheme, path in files.items():
        convert(demo_checkpoint, path, scheme=scheme)
    return files


@pytest.mark.parametrize("scheme", ["q4", "q8"])
@pytest.mark.parametrize("threads", [1, 3])
def test_float_activations_are_finite(scheme: str, threads: int, demo: dict[str, Path]) -> None:
    """Every context from 8 to 40, as short arenas are packed in many ways; all agree where they overlap."""
    ids = [1, *range(5, 43)]
    with edgeq.load(demo[scheme], threads=threads, context=40, act="f32") as model:
        want = model.logits(ids)
    assert np.isfinite(want).all()
    for context in range(8, 41):
        with edgeq.load(demo[scheme], threads=threads, context=context, act="f32") as model:
            got = model.logits(ids[: context - 1])
        np.testing.assert_array_equal(got.view(np.uint32), want[: context - 1].view(np.uint32))


def read_to_the_end(model: engine.Model, kernel: str, operand: str) -> None:
    """Make a kernel take the columns that pad its rows for true ones."""
    program = model.runner._program
    at = OPERANDS_AT // 8 + KERNELS[kernel].operands.index(operand)
    rows = [n for n, i in enumerate(program._instructions) if i.kernel == kernel]
    assert rows
    program.code[rows, at] = -(-program.code[rows, at] // 32) * 32


@pytest.mark.parametrize(
    ("act", "kernel", "operand"), [("f32", "matmul_act", "columns"), ("int8", "gated_silu_quantize", "dim")]
)
def test_a_kernel_that_reads_too_far_shows(
    act: str, kernel: str, operand: str, demo: dict[str, Path]
) -> None:
    """172 columns of 192: with NaN in the arena, and for that kernel alone."""
    run = arena.Run(1, 32, [([1, 5, 6], True)])
    path = demo["q4"]
    with edgeq.load(path, threads=1, context=32, act=act) as model:
        want = arena.outcome(model, run, arena.ZEROS)
        steps = arena.Steps(model, arena.PATTERNS["NaN"])
        model.runner._pool.run = steps.run  # type: ignore[method-assign]
        assert arena.same(want, arena.outcome(model, run, arena.PATTERNS["NaN"]))
    assert kernel in steps.kernels
    with edgeq.load(path, threads=1, context=32, act=act) as model:
        read_to_the_end(model, kernel, operand)
        steps = arena.Steps(model, arena.PATTERNS["NaN"])
        model.runner._pool.run = steps.run  # type: ignore[method-assign]
        assert not arena.same(want, arena.outcome(model, run, arena.PATTERNS["NaN"]))


@pytest.mark.parametrize("kept", ["reads", "writes"])
def test_a_role_that_is_not_true_shows(kept: str, demo: dict[str, Path]) -> None:
    """`rotate` turns rows in place: it is caught where an instruction says that it only reads or writes."""
    run = arena.Run(1, 32, [([1, 5, 6], True)])
    with edgeq.load(demo["q4"], threads=1, context=32) as model:
        want = arena.outcome(model, run, arena.ZEROS)
        for i in model.runner._program._instructions:
            if i.kernel == "rotate":
                i.reads, i.writes = (i.reads, []) if kept == "reads" else ([], i.writes)
        steps = arena.Steps(model, arena.PATTERNS["NaN"])
        model.runner._pool.run = steps.run  # type: ignore[method-assign]
        got = arena.outcome(model, run, arena.PATTERNS["NaN"])
    assert steps.spoilt == ({"rotate"} if kept == "reads" else set())
    assert arena.same(want, got) == (kept == "reads")
