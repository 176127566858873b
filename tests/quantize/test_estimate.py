"""What a quantization is told to take: of the right matrices, never above a limit, and of the right file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeq.converters import open_source
from edgeq.converters.recipe import choose
from edgeq.errors import UsageError
from edgeq.quantize.budget import Budget
from edgeq.quantize.estimate import BASE_BYTES, Shapes, fitting, memory
from edgeq.quantize.pipeline import TOKENS_MIN, estimate, planned, quantize
from tests.converters.checkpoints import config, weights, write_directory

LARGE = Shapes(24, 2048, ((2048, 2048), (256, 2048), (256, 2048), (2048, 2048), (11008, 2048), (11008, 2048),
               (2048, 11008)), ((151936, 2048),))  # fmt: skip


def opened(folder: Path, **changes: Any) -> Any:
    words = config("qwen3", **changes)
    return open_source(write_directory(folder, words, weights(words)))


@pytest.mark.parametrize("tied", [False, True])
def test_shapes(tied: bool, tmp_path: Path) -> None:
    found = Shapes.of(opened(tmp_path / "a", tie_word_embeddings=tied, num_hidden_layers=1))
    assert (found.layers, found.hidden) == (1, 64) and found.ends == ((50, 64),) * (2 - tied)
    assert sorted(found.matrices) == sorted(
        [(64, 64), (32, 64), (32, 64), (64, 64), (96, 64), (96, 64), (64, 96)]
    )
    assert found.weights == sum(rows * columns for rows, columns in found.matrices)


@pytest.mark.parametrize("limit", [0, BASE_BYTES, 2 << 30, 4 << 30, 1 << 60])
def test_what_fits_is_within_the_limit(limit: int) -> None:
    """And as much as there is room for."""
    tokens = fitting(LARGE, 1 << 17, limit)
    assert 0 <= tokens <= 1 << 17
    assert not tokens or memory(LARGE, tokens) <= limit
    assert tokens == 1 << 17 or memory(LARGE, tokens + 1) > limit


def test_it_holds_the_largest_layer_or_the_head() -> None:
    """Twice in float32, as the float model has it and as the quantized one does; or the head."""
    layer = Shapes(1, LARGE.hidden, LARGE.matrices, ((1, LARGE.hidden),))
    assert memory(layer, 0) > BASE_BYTES + 8 * layer.weights
    assert memory(LARGE, 0) >= BASE_BYTES + 8 * 151936 * 2048
    assert memory(LARGE, 1000) - memory(LARGE, 0) == 2 * 4 * 1000 * 2048


@pytest.mark.parametrize("scheme", ["e4", "f16"])
def test_bytes_are_those_of_the_file_at_the_most(scheme: str, demo_checkpoint: Path, tmp_path: Path) -> None:
    source, recipe = open_source(demo_checkpoint), choose(scheme=scheme)
    told = estimate(source, quality="fast", recipe=recipe, threads=1)
    quantize(source, tmp_path / "a.edgeq", quality="fast", recipe=recipe, threads=1)
    assert 0 <= told.bytes - (tmp_path / "a.edgeq").stat().st_size < 24_000
    assert told.tokens == 0 and told.seconds > 0 and told.memory > BASE_BYTES


def test_targets(demo_checkpoint: Path) -> None:
    source = open_source(demo_checkpoint)
    assert estimate(source, budget=Budget(size=200_000), threads=1).bytes == 200_000
    half = estimate(source, budget=Budget(4.0), threads=1).bytes
    assert estimate(source, budget=Budget(8.0), threads=1).bytes == pytest.approx(2 * half, abs=2)


def test_memory_that_is_short(demo_checkpoint: Path) -> None:
    told: list[str] = []
    source = open_source(demo_checkpoint)
    need = memory(Shapes.of(source), TOKENS_MIN)
    given = (source, "good", None, None)
    assert planned(*given, need, False, told.append)[1].tokens == TOKENS_MIN and len(told) == 1
    assert planned(*given, 1 << 50, False, told.append)[1].tokens > TOKENS_MIN and len(told) == 1
    with pytest.raises(UsageError, match="of memory are too few: this model needs"):
        planned(*given, need - 4096, False, told.append)
    assert planned(source, "fast", None, None, 1, False, told.append)[1].tokens == 0
