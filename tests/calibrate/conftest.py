"""Tiny models of each family, opened, and what computes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeq.converters import pipeline
from edgeq.converters.source import Source
from edgeq.runtime.dense import Dense
from tests.converters.checkpoints import config, weights, write_directory


@pytest.fixture(scope="session")
def dense() -> Iterator[Dense]:
    with Dense(2) as found:
        yield found


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Callable[[str], Path]:
    """folder_of(name) is a checkpoint: stories260K, or a random one of that family."""

    def folder(name: str) -> Path:
        if name == "stories260K":
            return demo_checkpoint
        words = config(name, intermediate_size=108, hidden_size=72, vocab_size=70)
        tensors = {key: x if x.ndim == 1 else x / 8 for key, x in weights(words).items()}
        return write_directory(tmp_path_factory.mktemp(name), words, tensors)

    return folder


@pytest.fixture(scope="session")
def opened(folder_of: Callable[[str], Path]) -> Callable[[str], Source]:
    """The same as a source."""
    known: dict[str, Source] = {}

    def source(name: str) -> Source:
        if name not in known:
            known[name] = pipeline.open_source(folder_of(name))
        return known[name]

    return source
