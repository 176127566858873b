"""Each wrong input is answered with one sentence that says what, where, and what would be right."""

from __future__ import annotations

import os
import shlex
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from edgeq.cli import COMMANDS, run_command
from tests.cli import wrong_files
from tests.cli.wrong_inputs import WRONG, Wrong

CHARS_MAX = 700  # of a sentence; what a table of names can grow to


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, story: Path, demo_checkpoint: Path) -> Path:
    """Every wrong file, made once."""
    path = tmp_path_factory.mktemp("wrong")
    wrong_files.make(path, story, demo_checkpoint)
    return path


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.line.split()[0]}: {wrong.what}")
def test_one_sentence(
    wrong: Wrong,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "locked" in wrong.line and hasattr(os, "geteuid") and os.geteuid() == 0:
        pytest.skip("root may read and write everything")
    if "pipe" in wrong.line and not hasattr(os, "mkfifo"):
        pytest.skip("the system has no named pipes")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(wrong.stdin), encoding="utf-8"))
    before = sorted(os.listdir())
    code = run_command(shlex.split(wrong.line) if "\\" not in wrong.line else wrong.line.split())
    out, err = capsys.readouterr()
    *notes, sentence = err.splitlines() or [""]
    assert (code, out) == (wrong.code, ""), err
    assert sentence.startswith("edgeq: error: ") and not any("error" in note for note in notes), err
    assert sentence.isprintable() and len(sentence) < CHARS_MAX
    assert not any(word in err for word in ("Traceback", "unexpected ", "<class", " object at ")) or (
        "unexpected extra argument" in sentence
    )
    missing = [word for word in wrong.words if word not in sentence]
    assert not missing, f"{missing} is not in: {sentence}"
    assert sorted(os.listdir()) == before, "something was left"


def test_the_rows_are_of_every_command() -> None:
    """Sixty and more, each once; every command that takes something is among them."""
    lines = [wrong.line for wrong in WRONG]
    assert len(lines) == len(set(lines)) >= 60
    takes_nothing = {"dtypes"}
    assert {line.split()[0] for line in lines} >= set(COMMANDS) - takes_nothing
