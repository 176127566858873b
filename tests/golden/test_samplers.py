"""The distributions that llama.cpp's samplers leave, from its library: see samplers/make_samplers.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import tokenizer
from edgeq.converters import gguf
from edgeq.sampling import Sampler, SamplingOptions
from edgeq.sampling.candidates import Candidates
from edgeq.sampling.draws import Drawn

HERE = Path(__file__).parent
GOLDEN = np.load(HERE / "samplers" / "samplers.npz")
CASES: list[dict[str, Any]] = json.loads(str(GOLDEN["cases"]))
ERROR = 5e-5  # relative, of a probability, where llama.cpp adds up in float32


@cache
def vocabulary() -> Any:
    """stories260K's."""
    found = gguf.open_file(HERE / "llamacpp" / "stories260K-q8_0.gguf").tokenizer()
    assert found is not None
    return tokenizer.load(*found)


@cache
def left() -> list[list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]]:
    """For each case and each row the ids that are left, and their probabilities."""

    def rows() -> Iterator[list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]]:
        start = 0
        for case in CASES:
            ends = start + np.cumsum([0, *case["left"]])
            start = int(ends[-1])
            yield [
                (GOLDEN["ids"][a:b], GOLDEN["probabilities"][a:b])
                for a, b in zip(ends[:-1], ends[1:], strict=True)
            ]

    return list(rows())


@pytest.mark.parametrize("number", range(len(CASES)))
def test_llamacpps_samplers_leave_the_same(number: int) -> None:
    case = CASES[number]
    sampler = Sampler(SamplingOptions(**case["options"], seed=1), tokenizer=vocabulary())
    text = GOLDEN["text"].tolist()
    for row, drawn, (want_ids, want) in zip(GOLDEN["logits"], case["drawn"], left()[number], strict=True):
        context = sampler._context(len(row), text)
        ids, found = sampler._chain.candidates(Candidates.of(row), context).distribution()
        by_id = np.argsort(ids)
        order = np.argsort(want_ids)
        np.testing.assert_array_equal(ids[by_id], want_ids[order])
        np.testing.assert_allclose(found[by_id], want[order], rtol=ERROR, atol=1e-12)
        if drawn >= 0:  # what it learns from that
            place = int(np.flatnonzero(ids == drawn)[0])
            sampler._chain.draw.learn(Drawn(drawn, place, float(found[place])), context)
            sampler._memory = context.memory
            text.append(drawn)


def test_every_sampler_is_among_the_cases() -> None:
    """With each step and each way of drawing some case changes something."""
    chains = [Sampler(SamplingOptions(**case["options"]))._chain for case in CASES]
    letters = {step.letter for chain in chains for step in chain.steps}
    assert letters == {"", *"edskypmxt"}
    assert len({chain.draw for chain in chains}) == 4
