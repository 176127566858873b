"""The tiny models of tests/golden/vectors, converted once, and what others give for their texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.converters import convert

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "vectors"
TEXTS = [
    "What is the capital of China?",
    "Explain gravity",
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other. " * 3,
    "x",
]
Loaded = Callable[[str], engine.Model]


def expected(name: str) -> dict[str, Any]:
    """What make_vectors.py found."""
    with np.load(GOLDEN / name / "expected.npz") as found:
        return dict(found)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """converted(name) is a golden's model as an .edgeq file of float32."""
    folder = tmp_path_factory.mktemp("vectors")

    @cache
    def file(name: str) -> Path:
        convert(GOLDEN / name, folder / f"{name}.edgeq", scheme="f32")
        return folder / f"{name}.edgeq"

    return file


@pytest.fixture(scope="session")
def loaded(converted: Callable[[str], Path]) -> Iterator[Loaded]:
    """loaded(name) is it, exact."""
    with ExitStack() as stack:

        @cache
        def load(name: str) -> engine.Model:
            return stack.enter_context(engine.load(converted(name), kv="f32", act="f32", threads=2))

        yield load
