"""Which kind of KV cache a model needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.converters import convert
from edgeq.engine import Model
from edgeq.evaluate import cachekind
from edgeq.formats import open_model
from tests.converters import checkpoints

TEXT = "Once upon a time there was a little cat. " * 40


def checkpoint(folder: Path, demo: Path, kind: str) -> Path:
    """A random model of that type with the tokenizer of the demo's."""
    words = checkpoints.config(kind, vocab_size=512, max_position_embeddings=512)
    tensors = {
        name: 1 + 0.1 * values if "norm" in name else 0.1 * values
        for name, values in checkpoints.weights(words, 1).items()
    }
    checkpoints.write_directory(folder, words, tensors)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(demo / name, folder / name)
    return folder


@pytest.fixture
def plain(tmp_path: Path, demo_checkpoint: Path) -> Path:
    convert(checkpoint(tmp_path / "c", demo_checkpoint, "qwen2"), tmp_path / "m.edgeq")
    return tmp_path / "m.edgeq"


def test_who_is_asked(tmp_path: Path, demo_checkpoint: Path, plain: Path) -> None:
    convert(checkpoint(tmp_path / "l", demo_checkpoint, "llama"), tmp_path / "l.edgeq")
    convert(checkpoint(tmp_path / "n", demo_checkpoint, "qwen3"), tmp_path / "n.edgeq")
    for name, asked in (("m", True), ("n", True), ("l", False)):
        with open_model(tmp_path / f"{name}.edgeq") as file:
            assert cachekind.asks(file) is asked


def test_small_keys_fit_in_8_bits(plain: Path) -> None:
    found = cachekind.choose(plain, TEXT, Model)
    assert found is not None and found.kind == "q8" and list(found.divergence) == ["q8"]
    assert found.divergence["q8"] is not None and 0 < found.divergence["q8"] <= cachekind.BOUND
    assert json.loads(json.dumps(found.words()))["bound"] == cachekind.BOUND


class Logits:
    """A model that says what it is told to, for each kind."""

    logits: dict[str, Any] = {}

    def __init__(self, path: Any, kv: str):
        self.kv, self.context, self.tokenizer = kv, 100, self

    def __enter__(self) -> Logits:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def encode(self, text: str) -> list[int]:
        return list(range(len(text)))

    def sequence(self) -> Logits:
        return self

    def feed(self, ids: list[int], all_logits: bool = False) -> Any:
        return np.tile(np.array(self.logits[self.kv], np.float32), (len(ids), 1))


@pytest.mark.parametrize(
    ("q8", "f16", "kind"),
    [
        ([0, 1], [0, 0], "q8"),
        ([1, 1.3], [0, 1], "f16"),
        ([np.nan, 1], [0, 1], "f16"),
        ([3, 1], [2, 1], "f32"),
    ],
)
def test_the_first_that_is_near_is_taken(
    q8: list[float], f16: list[float], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Logits, "logits", {"f32": [0, 1], "q8": q8, "f16": f16})
    found = cachekind.choose("model", "x" * 300, Logits)
    assert found is not None and found.kind == kind and found.tokens == 100
    assert all(v is None for k, v in found.words()["divergence"].items() if k == "q8" and np.isnan(q8).any())


def test_a_model_without_numbers_has_no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Logits, "logits", {"f32": [np.nan, 1]})
    assert cachekind.choose("model", "xx", Logits) is None
