"""A part of `python -m tests.faults`: some failures of each command, and the judge of what comes of them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, OLD, Command, Ended
from tests.faults.inject import Injector, errors_of
from tests.faults.runs import Bench, wrong

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="commands run in processes forked from this one"
)
FAILURES = 12  # of each command; `python -m tests.faults` makes all


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name.replace(" ", "-"))
def test_a_call_that_fails_leaves_nothing_half_done(bench: Bench, command: Command) -> None:
    whole, problems = bench.calls(command)
    assert (whole.code, problems) == (0, []), whole.err
    step = max(1, sum(len(errors_of(call)) for call in whole.calls) // FAILURES) | 1
    found = list(bench.faults(command, step, every=True))
    assert len(found) >= min(FAILURES, 5) and not any(found), "\n".join(map(str, filter(None, found)))


def test_calls_are_counted_and_one_fails(tmp_path: Path) -> None:
    """Calls from edgeq's sources only; the numbered one raises, those before and after it do not."""
    from edgeq.formats import temporary

    counting = Injector()
    with counting.patched():
        path, file = temporary.create(tmp_path / "x")
        file.close()
    assert [call.split()[1] for call in counting.calls] == ["open", "flock", "stat"]
    assert not any("inject.py" in call for call in counting.calls)
    path.unlink()
    failing = Injector(1, OSError(errno.EIO, "Input/output error"))
    with failing.patched(), pytest.raises(OSError, match="Input/output error"):
        temporary.create(tmp_path / "x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "out", "err", "words"),
    [
        (1, "", "edgeq: error: no\n", None),
        (0, "5 tokens", "edgeq: warning: not kept\n", None),
        (0, "nothing", "", "another answer"),
        (1, "", "", "0 lines of errors"),
        (1, "", "edgeq: error: no\nedgeq: error: no\n", "2 lines of errors"),
        (99, "", "Traceback (most recent call last):\nTypeError: x\n", "a traceback"),
        (-11, "", "", "signal 11"),
        (7, "", "edgeq: error: no\n", "exit code 7"),
        (0, "5 tokens", "edgeq: warning: a\nedgeq: warning: b\n", "2 warnings"),
    ],
)
def test_the_judge(code: int, out: str, err: str, words: str | None) -> None:
    whole = Ended(0, "3 tokens", "", [])
    found = wrong(Command("x", ()), Ended(code, out, err, []), whole, OSError(5, "x"))
    assert bool(found) == (words is not None) and (words or "") in "".join(found)


def test_what_is_left_is_seen(tmp_path: Path) -> None:
    command = Command("made", ("convert",), "made.edgeq", there=True)
    (tmp_path / "made.edgeq").write_bytes(OLD)
    failed = Ended(1, "", "edgeq: error: made.edgeq cannot be written: x\n", [])
    assert command.problems(tmp_path, failed) == []
    (tmp_path / ".edgeq-1234-5.partial").touch()
    assert command.problems(tmp_path, failed) == [".edgeq-1234-5.partial is left"]
    (tmp_path / ".edgeq-1234-5.partial").unlink()
    assert command.problems(tmp_path, Ended(0, "", "", [])) == [
        "made.edgeq is not there, but the command says so"
    ]
    (tmp_path / "made.edgeq").write_bytes(b"half")
    assert any("not an .edgeq file" in problem for problem in command.problems(tmp_path, failed))
    (tmp_path / "made.edgeq").unlink()
    assert "made.edgeq is gone" in command.problems(tmp_path, failed)
