"""The folder of what is done so far: what it gives back, and what it refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import EdgeqError, UsageError
from edgeq.quantize.work import PLAN, Work
from edgeq.runtime.dense import Dense
from tests.quantize.matrices import bits, run, task

PLANNED = {"model": "a", "seed": -3}
FACTS = {"method": "search", "error": 0.25}


@pytest.mark.parametrize("name", ["e4", "q4", "q8t", "nf4"])
def test_parts_come_back_as_they_were(name: str, dense: Dense, tmp_path: Path) -> None:
    parts = run(task(dense, name, rows=5), "search")
    work = Work(tmp_path / "a", PLANNED)
    work.save("blocks.0.q", parts, name, FACTS)
    again = Work(tmp_path / "a", PLANNED)
    assert (work.resumed, again.resumed) == (False, True)
    found = again.load("blocks.0.q", name)
    assert found is not None and found[1] == FACTS
    assert bits(found[0]) == bits({part: parts[part] for part in found[0]})
    assert {k: (x.dtype, x.shape) for k, x in found[0].items()} == {
        k: (parts[k].dtype, parts[k].shape) for k in found[0]
    }
    assert again.load("blocks.0.k", name) is None and again.load("blocks.0.q", "e8") is None
    again.remove()
    assert not (tmp_path / "a").exists()


def spoilings(data: bytes) -> list[bytes]:
    """What is left of a file that is not whole."""
    flipped = bytearray(data)
    flipped[-1] ^= 1
    head = data.index(b"{")
    return [
        b"", data[:3], data[: head + 9], data[:-1], data + b"\0", bytes(flipped), b"\xff" * len(data),
        data[:head] + b"[1]" + data[head + 3 :],
    ]  # fmt: skip


def test_what_is_not_whole_is_not_there(dense: Dense, tmp_path: Path) -> None:
    work = Work(tmp_path / "a", PLANNED)
    work.save("q", run(task(dense, "e4", rows=5), "search"), "e4", FACTS)
    whole = (tmp_path / "a" / "q").read_bytes()
    for spoilt in spoilings(whole):
        (tmp_path / "a" / "q").write_bytes(spoilt)
        assert work.load("q", "e4") is None


def test_notes(tmp_path: Path) -> None:
    work = Work(tmp_path / "a", PLANNED)
    assert work.note("what") is None
    work.keep("what", [{"a": 1.5}])
    assert work.note("what") == [{"a": 1.5}]


def test_a_folder_is_one_process_alone(tmp_path: Path) -> None:
    """The second is told at once; the first goes on, and afterwards the folder is anybody's."""
    path = tmp_path / "a"
    first, second = Work(path, PLANNED), Work(path, PLANNED)
    with first.held():
        with pytest.raises(UsageError, match="another process is at work in .*a: another"), second.held():
            pass
        first.keep("what", 1)
    with second.held():
        assert second.note("what") == 1
        second.remove()
    assert not path.exists()
    with pytest.raises(EdgeqError, match="a cannot be used: No such file"), first.held():
        pass


def test_a_plan_alone_is_not_left(tmp_path: Path) -> None:
    """Arguments that are refused do not stand in the way of better ones."""
    work = Work(tmp_path / "a", PLANNED)
    with pytest.raises(ZeroDivisionError), work.held():
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    work = Work(tmp_path / "a", PLANNED | {"seed": 1})
    with pytest.raises(ZeroDivisionError), work.held():
        work.keep("what", 1)
        raise ZeroDivisionError
    assert work.note("what") == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_no_half_file(
    call: str, dense: Dense, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(tmp_path / "a", PLANNED)
    parts = run(task(dense, "e4", rows=5), "search")
    work.save("q", parts, "e4", FACTS)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    for name in ("q", "k"):
        with pytest.raises(EdgeqError, match="a cannot be written: No space left on device"):
            work.save(name, parts, "e4", {})
    with pytest.raises(EdgeqError, match="a cannot be written: No space left on device"):
        work.keep("what", 1)
    with pytest.raises(EdgeqError, match="b cannot be used: No space left on device"):
        Work(tmp_path / "b", PLANNED)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", PLAN, "q"]
    found = work.load("q", "e4")
    assert found is not None and found[1] == FACTS and Work(tmp_path / "a", PLANNED).resumed


@pytest.mark.parametrize("other", [b'{"model": "b"}', b"", b"\xff\xfe"])
def test_another_plans_folder_is_refused(other: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    Work(path, PLANNED).keep("sensitivity", 1)
    (path / PLAN).write_bytes(other)
    with pytest.raises(UsageError, match="what another quantization has done so far"):
        Work(path, PLANNED)
    assert Work.note(_at(path), "sensitivity") == 1


def _at(path: Path) -> Any:
    work = Work.__new__(Work)
    work.path = path
    return work


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """It would be removed at the end. What a plan that was not written whole left is none."""
    path = tmp_path / "a"
    path.mkdir()
    (path / f"{PLAN}.part").write_bytes(b"{")
    assert not Work(path, PLANNED).resumed
    (path / PLAN).rename(path / "photograph.jpg")
    with pytest.raises(UsageError, match="holds something else"):
        Work(path, PLANNED)
    assert (path / "photograph.jpg").exists() and not (path / PLAN).exists()


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(EdgeqError, match="a cannot be used: File exists"):
        Work(tmp_path / "a", PLANNED)
    with pytest.raises(EdgeqError, match="c cannot be used: No such file"):
        Work(tmp_path / "b" / "c", PLANNED)


def test_a_folder_that_is_gone_is_told(dense: Dense, tmp_path: Path) -> None:
    work = Work(tmp_path / "a", PLANNED)
    work.remove()
    parts = {name: np.asarray(part) for name, part in run(task(dense, "e4", rows=5), "search").items()}
    with pytest.raises(EdgeqError, match="a cannot be written: No such file"):
        work.save("q", parts, "e4", {})
