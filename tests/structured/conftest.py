"""Vocabularies that walks go through, each with what it takes to be skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq.converters import convert
from edgeq.converters.tokenizers import from_gguf
from edgeq.formats import open_model
from edgeq.formats.gguf import open_gguf
from edgeq.tokenizer import Tokenizer, load
from tests.real import fetch

NAMES = ("demo", "smollm2", "gemma-4", "llama-spm", "gpt-2")


def gguf_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a GGUF file, which may have no weights."""
    found = from_gguf(dict(open_gguf(path).metadata), pooled=True)
    assert found is not None
    return load(*found)


@pytest.fixture(scope="session")
def demo_path(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model of stories, which knows nothing of JSON."""
    path = tmp_path_factory.mktemp("grammar") / "demo.edgeq"
    convert(demo_checkpoint, path, scheme="q8")
    return path


@pytest.fixture(scope="session")
def demo_model(demo_path: Path) -> Iterator[Any]:
    with edgeq.load(demo_path) as model:
        yield model


@pytest.fixture(scope="session")
def demo_tokenizer(demo_path: Path) -> Tokenizer:
    with open_model(demo_path) as file:
        spec = file.header["tokenizer"]
        return load(spec, bytes(file.tensors[spec["tensor"]].data))


@pytest.fixture(scope="session", params=NAMES)
def tokenizer(request: pytest.FixtureRequest, demo_tokenizer: Tokenizer, data_dir: Path) -> Tokenizer:
    """Each vocabulary at hand; the largest where many walks are asked for."""
    if request.param == "demo":
        return demo_tokenizer
    if request.param == "gemma-4" and "EDGEQ_TEST_WALKS" not in os.environ:
        pytest.skip("262 144 tokens take a while; EDGEQ_TEST_WALKS=N walks through them, too")
    smollm2 = request.param == "smollm2"
    path = fetch.path() if smollm2 else data_dir / "vocab" / f"ggml-vocab-{request.param}.gguf"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return gguf_tokenizer(path)
