"""What `edgeq.load` takes: what the commands take, by the same words, from the same cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import edgeq
from edgeq.errors import UsageError
from edgeq.library import find

IDS = [1, 403, 407, 261, 378]


@pytest.fixture(autouse=True)
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models that were converted are kept, for this test alone."""
    monkeypatch.setattr(find, "cache_directory", lambda: tmp_path / "converted")
    return tmp_path / "converted"


def test_a_directory_is_converted_once(tmp_path: Path, converted: Path, demo_checkpoint: Path) -> None:
    source = shutil.copytree(demo_checkpoint, tmp_path / "story")
    lines: list[str] = []
    steps: list[tuple[int, int, str]] = []
    with edgeq.load(
        source, threads=1, tell=lines.append, converting=lambda *step: steps.append(step)
    ) as model:
        assert model.file.path.parent == converted and model.generate(IDS, max_tokens=1).read().ids
    assert len(lines) == 1 and lines[0].startswith(f"converting {source} to q4, once, into ")
    assert steps[-1][0] == steps[-1][1] > 0
    with edgeq.Model.from_pretrained(str(source), threads=1, context=64, tell=lines.append) as model:
        assert lines[1].startswith("using ") and model.context == 64
    with edgeq.load(source, threads=1, keep=True) as kept:
        assert kept.file.path != model.file.path and kept.file.tensors["blocks.0.q"].scheme.name == "f32"


def test_a_file_is_opened_as_it_is(demo_file: Callable[[str], Path], converted: Path) -> None:
    for given in (demo_file("q4"), str(demo_file("q4"))):
        with edgeq.load(given, threads=1) as model:
            assert model.file.path == demo_file("q4") and not converted.exists()


@pytest.mark.parametrize("word", ["tell", "converting"])
def test_callbacks_are_checked_first(demo_checkpoint: Path, converted: Path, word: str) -> None:
    with pytest.raises(UsageError, match=f"{word} is 3, but must be a function"):
        edgeq.load(demo_checkpoint, **{word: 3})
    assert not converted.exists()


def test_models_and_sequences_are_told_in_a_line(demo_file: Callable[[str], Path]) -> None:
    with edgeq.load(demo_file("q4"), threads=1, context=64) as model:
        name = demo_file("q4").name
        assert repr(model) == f"<edgeq.Model {name}: llama, layers 5, context 64, kv q8, act int8, threads 1>"
        sequence = model.sequence()
        sequence.feed(IDS)
        assert repr(sequence) == "<edgeq.Sequence: 5 of 64 tokens>"
        sequence.close()
        assert repr(sequence) == "<edgeq.Sequence: 5 of 64 tokens, closed>"
    assert repr(model) == f"<edgeq.Model {name}: closed>"


def test_what_the_package_offers_is_there() -> None:
    for name in edgeq.__all__:
        assert getattr(edgeq, name) is not None and name in dir(edgeq)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        edgeq.lod  # noqa: B018
