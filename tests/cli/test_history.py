"""The file of what was typed: whole messages, nobody else's to read, and never too long."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from edgeq.cli import history
from edgeq.cli.history import ENTRIES_MAX, ENTRY_CHARS_MAX, History

AWKWARD = ["one", "two\nlines", 'quote " and \\ and \x1b[2J', "\udcff é 你好", ""]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def kept(tmp_path: Path) -> History:
    return History(tmp_path / "state" / "edgeq" / "chat-history")


def test_messages_come_back_as_they_were(kept: History) -> None:
    assert kept.read() == []
    for message in AWKWARD:
        kept.append(message)
    assert kept.read() == AWKWARD == History(kept.path).read()


def test_only_the_owner_can_read_it(kept: History) -> None:
    kept.append("secret")
    assert mode(kept.path) == 0o600 and mode(kept.path.parent) == 0o700
    kept.path.chmod(0o644)
    kept.read()
    assert mode(kept.path) == 0o600


def test_the_number_of_messages_is_bounded(kept: History) -> None:
    kept.append("x")
    kept.path.write_text("".join(json.dumps(f"{i}") + "\n" for i in range(ENTRIES_MAX + 5)))
    assert kept.read() == [f"{i}" for i in range(5, ENTRIES_MAX + 5)]
    assert len(kept.path.read_bytes().splitlines()) == ENTRIES_MAX
    assert mode(kept.path) == 0o600 and [path.name for path in kept.path.parent.iterdir()] == ["chat-history"]


def test_a_pasted_book_is_no_entry(kept: History) -> None:
    kept.append("x" * ENTRY_CHARS_MAX)
    kept.append("x" * (ENTRY_CHARS_MAX + 1))
    assert [len(entry) for entry in kept.read()] == [ENTRY_CHARS_MAX]


def test_what_is_no_message_is_left_out(kept: History) -> None:
    kept.append("good")
    with kept.path.open("ab") as file:
        file.write(b'\xff\n{"a": 1}\n3\n"half\n' + b"[" * 100_000 + b'\n"also good"\n')
    assert kept.read() == ["good", "also good"]


def test_no_other_kind_of_file_is_opened(kept: History) -> None:
    kept.path.parent.mkdir(parents=True)
    os.mkfifo(kept.path)
    with pytest.raises(OSError):
        kept.append("x")
    with pytest.raises(OSError, match="no regular file"):
        kept.read()


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(history.OFF, raising=False)
    assert history.wanted(False) and not history.wanted(True)
    monkeypatch.setenv(history.OFF, "1")
    assert not history.wanted(False)
    monkeypatch.setenv(history.OFF, "0")
    assert history.wanted(False)


def test_it_is_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history.history_path() == tmp_path / "edgeq" / "chat-history"
