"""edgeq list and edgeq rm: the converted models that are kept."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.conftest import Call


@pytest.fixture
def two(call: Call, demo_checkpoint: Path, tmp_path: Path, fresh_cache: Path) -> Path:
    """The folder with two converted models, one and two, of which one was used last."""
    for name in ("one", "two", "one"):
        source = tmp_path / name
        if not source.exists():
            shutil.copytree(demo_checkpoint, source)
        assert call("run", str(source), "-p", "x", "-q").code == 0
    return fresh_cache / "edgeq" / "models"


def test_list(call: Call, two: Path) -> None:
    result = call("list", "--json")
    facts = json.loads(result.out)
    assert [row["name"] for row in facts["models"]] == ["one-q4", "two-q4"] and result.err == ""
    assert [row["source"] for row in facts["models"]] == ["one", "two"]
    assert facts["folder"] == str(two) and facts["limit"] > facts["bytes"] > 0
    assert facts["bytes"] == sum(path.stat().st_size for path in two.iterdir())
    for row in facts["models"]:
        assert Path(row["file"]).stat().st_size == row["bytes"] and row["scheme"] == "q4"
        assert datetime.fromisoformat(row["used"]).tzinfo is not None
    text = call("list")
    assert [line.split()[:3] for line in text.out.splitlines()] == [
        ["name", "source", "scheme"], ["one-q4", "one", "q4"], ["two-q4", "two", "q4"],
    ]  # fmt: skip
    assert text.err.startswith(f"2 converted models in {two}, ") and call("list", "-q").err == ""
    assert call("ls").out == text.out


def test_an_empty_list(call: Call, fresh_cache: Path) -> None:
    result = call("list")
    assert result.code == 0 and result.out == "" and result.err.startswith("0 converted models in ")
    assert json.loads(call("list", "--json").out)["models"] == []


def test_a_damaged_file_is_listed_and_can_be_removed(call: Call, two: Path) -> None:
    (two / "broken.edgeq").write_bytes(b"EDGEQ")
    assert "broken" in call("list").out.split()
    assert call("rm", "broken", "-q").err == "" and not (two / "broken.edgeq").exists()


def test_rm_by_any_of_its_names(call: Call, two: Path) -> None:
    file = next(two.glob("two-*"))
    freed = file.stat().st_size
    result = call("rm", "two-q4", "--json")
    assert json.loads(result.out) == {"removed": ["two-q4"], "bytes": freed} and result.err == ""
    assert not file.exists()
    result = call("rm", "one")  # its source
    assert result.code == 0 and result.err.startswith("removed one-q4, ") and "free again" in result.err
    assert list(two.iterdir()) == []


def test_rm_all(call: Call, two: Path) -> None:
    (two / ".edgeq-00000000-0123456789abcdef.partial").write_bytes(b"left by a process that was killed")
    assert call("rm", "--all").err.count("removed") == 2
    assert list(two.iterdir()) == []
    assert call("rm", "--all", "--json").out == '{"removed": [], "bytes": 0}\n'


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name the models to remove, as `edgeq list` shows them, or all of them with --all"),
        (["one", "--all"], "or all of them with --all"),
        (["one", "three"], "no converted model is called 'three'"),
        (["../one"], "no converted model is called '../one'"),
    ],
)
def test_rm_of_what_is_not_there_removes_nothing(call: Call, two: Path, words: list[str], told: str) -> None:
    result = call("rm", *words)
    assert result.code == 2 and told in result.err and len(list(two.iterdir())) == 2
