"""The recipe that fits: a file of it is as small as was said, header included."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.converters import open_source, pipeline
from edgeq.converters.recipe import Recipe, matrices
from edgeq.converters.source import Source
from edgeq.errors import UsageError
from edgeq.formats import open_model, verify
from edgeq.quantize.budget import ROOM_STEP, Budget, check, file_bytes, head_bytes, recipe_of, recipe_within
from edgeq.quantize.pipeline import quantize
from edgeq.quantize.sensitivity import CANDIDATES, Sensitivity, bytes_of
from tests.converters.checkpoints import config, weights, write_directory

ERRORS = {"e2": 20.0, "e3": 4.0, "e4": 1.0, "e5": 0.3, "e6": 0.1, "e8": 0.01}
ODD = dict(hidden_size=72, intermediate_size=108, vocab_size=70)
TEMPLATE = "{# %s #}{{ messages }}"


def rows_of(source: Source) -> list[Sensitivity]:
    return [
        Sensitivity(
            name, source.tensors[name].shape[0] * source.tensors[name].shape[1], 0.0, 1 / (n + 1), ERRORS
        )
        for n, name in enumerate(matrices(source.family, source.config))
    ]


Open = Callable[..., Source]


@pytest.fixture(scope="module")
def opened(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Open:
    def one(family: str, **changes: Any) -> Source:
        if family == "stories260K":
            return open_source(demo_checkpoint)
        words = config(family, **changes)
        return open_source(write_directory(tmp_path_factory.mktemp(family), words, weights(words)))

    return one


def schemes_of(recipe: Recipe, source: Source) -> dict[str, str]:
    found = recipe.schemes(source.family, source.config)
    return {name: scheme.name for name, scheme in found.items() if scheme is not None}


def least(source: Source) -> int:
    small = dict.fromkeys(matrices(source.family, source.config), "e2")
    return file_bytes(source, recipe_of("", small))


MODELS: list[tuple[str, dict[str, Any]]] = [
    ("stories260K", {}), ("qwen2", dict(tie_word_embeddings=True)), ("qwen3", ODD),
    ("llama", dict(num_hidden_layers=1, vocab_size=47)),
    ("llama", dict(num_hidden_layers=1, vocab_size=19000)),  # tensors of 1 MiB and more begin on pages
]  # fmt: skip


@pytest.mark.parametrize(
    ("family", "changes"), MODELS, ids=[f"{name}-{len(words)}" for name, words in MODELS]
)
@pytest.mark.parametrize("template", [None, TEMPLATE % ('\n"ä"\\' * 6000)], ids=["", "template"])
def test_a_file_is_within_its_bytes(
    family: str, changes: dict[str, Any], template: str | None, opened: Open, tmp_path: Path
) -> None:
    """From the smallest that there is on, whatever the header has to say, and more bytes lower the cost."""
    source = replace(opened(family, **changes), chat_template=template)
    rows, costs = rows_of(source), []
    extra = {
        row.name: {"method": "search+importance+gptq+descent", "error": 0.0001234, "ridge": 0.01}
        for row in rows
    }
    words = {
        "quantization": {"steps": ["search"] * 9, "calibration": {"text_sha256": "0" * 64, "tokens": 65536}}
    }
    smallest = least(source)
    for size in (smallest, smallest + 1, smallest + smallest // 9, 2 * smallest, 1 << 40):
        recipe = recipe_within(Budget(size=size), source, rows)
        schemes = schemes_of(recipe, source)
        costs.append(sum(row.cost(schemes[row.name]) for row in rows))
        path = tmp_path / "a.edgeq"
        pipeline.write(source, path, recipe, None, words=words, extra=extra)
        assert path.stat().st_size <= size and verify(path) == []
        enough = recipe_within(Budget(size=file_bytes(source, recipe) + ROOM_STEP), source, rows)
        assert sum(row.cost(schemes_of(enough, source)[row.name]) for row in rows) <= costs[-1]
    assert costs == sorted(costs, reverse=True) and set(schemes.values()) == {"e8"}
    with pytest.raises(UsageError, match="the smallest schemes take"):
        recipe_within(Budget(size=smallest - 8192), source, rows)


@pytest.mark.parametrize(("family", "changes"), MODELS, ids=[name for name, _ in MODELS])
@pytest.mark.parametrize("bits", [3.7, 4.5, 6.0, 9.0])
def test_bits_are_those_of_all_matrices(
    family: str, changes: dict[str, Any], bits: float, opened: Open
) -> None:
    source = opened(family, **changes)
    budget, sizes = Budget(bits), bytes_of(source, CANDIDATES)
    weights = sum(row.weights for row in rows_of(source))
    small = sum(row["e2"] for row in sizes.values())
    if 8 * small / weights > bits:  # of columns that schemes fill up
        with pytest.raises(UsageError, match="the smallest schemes take"):
            check(budget, source)
        return
    check(budget, source)
    schemes = schemes_of(recipe_within(budget, source, rows_of(source)), source)
    assert set(schemes) == set(matrices(source.family, source.config))
    assert sum(sizes[name][scheme] for name, scheme in schemes.items()) * 8 <= bits * weights


def test_what_cannot_be_met_is_told_before_anything_is_done(demo_checkpoint: Path, tmp_path: Path) -> None:
    source = open_source(demo_checkpoint)
    check(Budget(size=least(source)), source)
    for budget, sentence in [
        (Budget(size=least(source) - 1), f"take {least(source)} bytes, more than the {least(source) - 1} "),
        (Budget(size=0), "more than the 0 that there are"),
        (Budget(2.0), "the smallest schemes take"),
        (Budget(float("nan")), "a budget of nan bits a weight is none"),
        (Budget(float("inf")), "a budget of inf bits a weight is none"),
        (Budget(-1.0), "the smallest schemes take"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            quantize(source, tmp_path / "a.edgeq", budget=budget, threads=1)
    assert not list(tmp_path.iterdir())


def test_a_head_is_as_said(demo_checkpoint: Path, tmp_path: Path) -> None:
    """What a real quantization says of itself is within the room for it."""
    source = replace(open_source(demo_checkpoint), chat_template=TEMPLATE % ("\n" * 20000))
    quantize(source, tmp_path / "a.edgeq", quality="fast", threads=1)
    with open_model(tmp_path / "a.edgeq") as file:
        head = len(json.dumps(file.header, ensure_ascii=False).encode())
        assert head <= head_bytes(source)


def test_what_nothing_makes_up_for_counts_more(demo_checkpoint: Path) -> None:
    """Under `best` embedding and head get more of the same room, as layers are followed and they are not."""
    source = open_source(demo_checkpoint)
    rows = [
        replace(row, divergence=row.weights * (0.7 if row.name == "embed" else 1.0))
        for row in rows_of(source)
    ]
    sizes, taken = bytes_of(source, CANDIDATES), []
    for bits in np.arange(4.0, 8.0, 0.1):
        alone, followed = (
            schemes_of(recipe_within(Budget(float(bits)), source, rows, follow), source)
            for follow in (False, True)
        )
        ends = [name for name in alone if not name.startswith("blocks.")]
        taken.append([sum(sizes[name][schemes[name]] for name in ends) for schemes in (alone, followed)])
    assert all(a <= b for a, b in taken) and any(a < b for a, b in taken)
