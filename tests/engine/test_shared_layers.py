"""Models whose last layers keep no keys and values: only rows whose logits are wanted go through these, and
what a sequence is told does not hang on which others were.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeq import engine
from edgeq.cache import KINDS
from edgeq.converters import convert
from edgeq.engine import Model
from edgeq.passes import Part
from tests.engine.test_schedules import CONTEXT, FAR, LONG, LongSchedule, Schedule, told_alone

GOLDEN = Path(__file__).parents[1] / "golden" / "families" / "gemma4"


@pytest.fixture(scope="module")
def file(demo_file: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(GOLDEN, folder / "checkpoint")
    words = json.loads((GOLDEN / "config.json").read_text()) | {"max_position_embeddings": LONG}
    (folder / "checkpoint" / "config.json").write_text(json.dumps(words))
    convert(folder / "checkpoint", folder / "model.edgeq", scheme="q8")
    return folder / "model.edgeq"


@pytest.mark.parametrize("kind", KINDS)
def test_each_sequence_is_told_what_it_is_told_alone(kind: str, file: Path) -> None:
    with (
        engine.load(file, threads=3, kv=kind, context=CONTEXT) as model,
        engine.load(file, threads=1, kv=kind, context=CONTEXT) as alone,
    ):
        count = told_alone(Schedule, 25, model, alone)
        assert count > 100
        assert model.pool.used == 0


@pytest.mark.parametrize("kind", FAR)
def test_each_is_told_the_same_over_far_pages(kind: str, file: Path) -> None:
    with (
        engine.load(file, threads=2, kv=kind) as model,
        engine.load(file, threads=1, kv=kind) as alone,
    ):
        count = told_alone(LongSchedule, 4, model, alone)
        assert count > 20


def test_layers_that_keep_nothing_are_run_for_outputs_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.load(file, threads=1) as model:
        program, ran = model.runner._program, list[int]()
        run = model.runner._pool.run

        def noted(code: np.ndarray) -> None:
            ran.append(len(code))
            run(code)

        monkeypatch.setattr(model.runner._pool, "run", noted)
        assert 0 < program.cut < len(program.code)
        assert len(model.cache.layers) == 4 < model.config.num_hidden_layers == 7

        def rows(wanted: int) -> tuple[int, int]:
            ran.clear()
            sequence = model.sequence()
            model.advance([Part(sequence, [5] * 20, wanted), Part(model.sequence(), [6] * 3, 0)])
            return sum(ran), int(program.wanted.words[0])

        assert rows(0)[0] == program.cut
        assert rows(3) == (len(program.code), 3)
        assert rows(1) == (len(program.code), 1)


def test_rows_are_what_logits_are_made_of(tmp_path: Path) -> None:
    """In a program that leaves rows, all are wanted."""
    convert(GOLDEN, tmp_path / "model.edgeq", scheme="f32")
    with Model(tmp_path / "model.edgeq", threads=1, kv="f32", act="f32") as model:
        ids = [5, 7, 11, 13] * 6
        (fed,) = model.advance([Part(model.sequence(), ids, len(ids))], rows=True)
        head = model.file.tensors["embed"].array()
        np.testing.assert_allclose(8 * np.tanh(fed.logits @ head.T / 8), model.logits(ids), atol=1e-4)
