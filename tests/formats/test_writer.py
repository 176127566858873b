"""The writer: whatever fails, the target is whole or untouched; what readers refuse is not written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq import formats
from edgeq.errors import EdgeqError, FormatError, UnsupportedError, UsageError
from tests.formats.samples import HEADER, plans, write_sample

ROOT = Path(__file__).resolve().parents[2]


def listing(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_exception_removes_the_temporary_file(tmp_path: Path, trouble: type[BaseException]) -> None:
    target = tmp_path / "a.edgeq"
    target.write_bytes(b"old")
    with pytest.raises(trouble), formats.Writer(target, HEADER, plans()) as writer:
        writer.write("embed", bytes(10))
        assert len(listing(tmp_path)) == 2
        raise trouble
    assert listing(tmp_path) == ["a.edgeq"] and target.read_bytes() == b"old"


def test_leaving_without_commit_changes_nothing(tmp_path: Path) -> None:
    with formats.Writer(tmp_path / "a.edgeq", HEADER, plans()):
        pass
    assert listing(tmp_path) == []


def test_commit_of_an_incomplete_file_is_refused(tmp_path: Path) -> None:
    with formats.Writer(tmp_path / "a.edgeq", HEADER, plans()) as writer:
        writer.write("embed", bytes(10))
        with pytest.raises(UsageError, match="tensor embed is not complete"):
            writer.commit()
    assert listing(tmp_path) == []


def test_wrong_writes_are_refused(tmp_path: Path) -> None:
    with formats.Writer(tmp_path / "a.edgeq", HEADER, plans()[-2:]) as writer:
        with pytest.raises(
            UsageError, match="tensor tokenizer is written out of order: it is the turn of norm"
        ):
            writer.write("tokenizer", b"hello")
        with pytest.raises(UsageError, match="tensor norm gets more than its 160 bytes"):
            writer.write("norm", bytes(100), bytes(61))
        writer.write("norm", bytes(60))
        writer.write("tokenizer", b"hello")
        with pytest.raises(UsageError, match="it is the turn of no tensor"):
            writer.write("norm", b"")
        writer.commit()
        with pytest.raises(UsageError, match="is closed"):
            writer.write("norm", b"")
        with pytest.raises(UsageError, match="is closed"):
            writer.commit()
    assert listing(tmp_path) == ["a.edgeq"]


class Faults:
    """Stands for a writer's system calls and makes the one of a given number fail."""

    def __init__(self, number: int, trouble: BaseException) -> None:
        self.left = number
        self.trouble = trouble

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise self.trouble
            return call(*args, **kwargs)

        return step

    def open(self, *args: Any) -> Any:
        return FaultyFile(self, self.wrap(open)(*args))


class FaultyFile:
    def __init__(self, faults: Faults, file: Any) -> None:
        self.faults = faults
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return self.faults.wrap(getattr(self.file, name))

    def __del__(self) -> None:
        self.file.close()


@pytest.mark.parametrize(
    "trouble",
    [OSError(number, os.strerror(number)) for number in (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EDQUOT)]
    + [KeyboardInterrupt(), MemoryError()],
    ids=lambda trouble: str(trouble) or type(trouble).__name__,
)
def test_whichever_call_fails_the_target_is_whole(tmp_path: Path, trouble: BaseException) -> None:
    """The i-th system call fails, for every i: the target is the old file or the new, alone."""
    target = tmp_path / "a.edgeq"
    expected = EdgeqError if isinstance(trouble, OSError) else type(trouble)
    for number in range(1, 100):
        target.write_bytes(b"old")
        faults = Faults(number, trouble)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("edgeq.formats.temporary.open", faults.open, raising=False)
            for name in ("fsync", "replace", "open"):
                patch.setattr(os, name, faults.wrap(getattr(os, name)))
            try:
                write_sample(target)
            except expected as error:
                if isinstance(trouble, OSError):
                    assert target.read_bytes() == b"old"  # what is in its place is never called unwritten
                    assert str(error) == f"{target} cannot be written: {trouble.strerror}"
        assert listing(tmp_path) == ["a.edgeq"]
        if faults.left > 0:
            break  # it did not fail: every call has had its turn
        if target.read_bytes() != b"old":
            assert formats.verify(target) == []
    assert 20 < number < 99 and formats.verify(target) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO, errno.EMFILE])
def test_a_directory_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The file is in its place by then, so nothing says that it cannot be written."""
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_sample(tmp_path / "a.edgeq")
    assert formats.verify(tmp_path / "a.edgeq") == [] and listing(tmp_path) == ["a.edgeq"]


def test_changing_the_header_meanwhile_changes_nothing(tmp_path: Path) -> None:
    config = {"a": [1]}
    path = tmp_path / "a.edgeq"
    with formats.Writer(path, {"family": "llama", "config": config}, plans()[-1:]) as writer:
        writer.write("tokenizer", b"hello")
        config["a"] += range(1000)
        writer.commit()
        assert writer.bytes_total == path.stat().st_size
    with formats.open_model(path) as file:
        assert file.config == {"a": [1]} and bytes(file.tensors["tokenizer"].data) == b"hello"


def test_a_full_disk_is_noticed_before_writing(tmp_path: Path) -> None:
    plan = [formats.TensorPlan("a", "q8", "lines16", (1 << 30, 1 << 30))]
    with pytest.raises(EdgeqError, match="needs 1224979098644840448 bytes, but only [0-9]+ are free"):
        formats.Writer(tmp_path / "a.edgeq", HEADER, plan)
    assert listing(tmp_path) == []


def test_a_bad_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        formats.Writer(tmp_path, HEADER, [])
    with pytest.raises(EdgeqError, match="cannot be written: No such file"):
        formats.Writer(tmp_path / "no" / "a.edgeq", HEADER, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "Llama!"}, "family"),
        ({"config": [1]}, "config"),
        ({"chat_template": 3}, "chat_template"),
        ({"required": ["telepathy"]}, "requires 'telepathy'"),
        ({"source": {"loss": float("nan")}}, "cannot be written as JSON"),
        ({"source": {"name": object()}}, "cannot be written as JSON"),
        ({"source": {"name": "\ud800"}}, "cannot be written as JSON"),
        ({"source": {"number": 1 << 63}}, "does not fit 64 bits"),
    ],
)
def test_the_writer_refuses_what_the_reader_would(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises((FormatError, UnsupportedError), match=message):
        formats.Writer(tmp_path / "a.edgeq", HEADER | change, plans())
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a b", "ä", "a\n", "a\0", "x" * 257, "a\\b"])
def test_the_writer_refuses_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match="is not 1 to 256 of"):
        formats.Writer(tmp_path / "a.edgeq", HEADER, [formats.TensorPlan(name, "bytes", "plain", (1,))])


def test_the_writer_refuses_a_name_twice(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="tensor norm appears twice"):
        formats.Writer(tmp_path / "a.edgeq", HEADER, [plans()[-2], plans()[-2]])


KILLED = """
import os, sys
from edgeq import formats
from tests.formats.samples import HEADER, plans
writer = formats.Writer(sys.argv[1], HEADER, plans())
writer.write("embed", bytes(10))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with file locks")
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """And neither a living writer's file, another target's, nor anything else."""
    target = tmp_path / "a.edgeq"
    command = [sys.executable, "-c", KILLED, str(target)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as living:
        assert killed.stdout is not None and living.stdout is not None and living.stdin is not None
        assert killed.stdout.readline() == living.stdout.readline() == b"ready\n"
        both = set(listing(tmp_path))
        killed.kill()
        killed.wait()
        kept = {".edgeq-00000000-0.partial", ".edgeq-notes", *(f"{sorted(both)[0][:15]}{i}" for i in "lp")}
        for name in kept:
            (tmp_path / name).write_bytes(b"x")
        link = tmp_path / f"{sorted(both)[0][:15]}link.partial"
        link.symlink_to(tmp_path / ".edgeq-notes")
        write_sample(target)
        left = set(listing(tmp_path)) - kept - {link.name}
        assert "a.edgeq" in left and len(left) == 2 and left & both
        living.stdin.close()
        living.wait()
    assert set(listing(tmp_path)) - both - kept == {"a.edgeq", link.name}
    write_sample(target)
    assert set(listing(tmp_path)) == kept | {"a.edgeq", link.name}


def test_the_hidden_file_has_a_short_name_whatever_the_targets(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    write_sample(target)
    assert listing(tmp_path) == [target.name]
