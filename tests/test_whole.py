"""A small file appears whole, for whom it is meant, and nothing is left beside it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edgeq.whole import resolved, write_whole


@pytest.mark.parametrize(("words", "mode"), [({}, 0o600), ({"mode": 0o666}, 0o644)])
def test_who_may_read_it(tmp_path: Path, words: dict[str, int], mode: int) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "x", b"one", **words)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_a_link_is_replaced_unless_it_is_followed(tmp_path: Path) -> None:
    """In a folder that others may write, a link is no reason to write where it leads."""
    (tmp_path / "real").write_bytes(b"zero")
    (tmp_path / "x").symlink_to("real")
    write_whole(resolved(tmp_path / "x"), b"one")
    assert (tmp_path / "x").is_symlink() and (tmp_path / "real").read_bytes() == b"one"
    write_whole(tmp_path / "x", b"two")
    assert not (tmp_path / "x").is_symlink() and (tmp_path / "real").read_bytes() == b"one"
    assert sorted(os.listdir(tmp_path)) == ["real", "x"]


def test_what_was_there_stays_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "x", b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "x", b"two")
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"one"


def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("x")
    with pytest.raises(OSError, match="symbolic links"):
        resolved(tmp_path / "x")
