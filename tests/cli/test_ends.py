"""Whatever ends the command, its user reads one line: also before the command line is there to read it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq import ends
from edgeq.cli import run_command
from edgeq.errors import EdgeqError

# The first import of a module fails, as if it were interrupted there or found no memory.
PROGRAM = """
import sys

class Finder:
    def find_spec(self, name, *_):
        if name == {name!r}:
            raise {error}

sys.meta_path.insert(0, Finder())
sys.argv = ["edgeq", *{arguments!r}]
from edgeq.__main__ import main
sys.exit(main())
"""


def process(name: str, error: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(name=name, error=error, arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("name", ["click", "edgeq.cli.terminal", "edgeq.cli.show", "numpy", "edgeq.formats"])
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("KeyboardInterrupt", 130, ""),
        ("MemoryError", 4, "edgeq: error: out of memory"),
        ("ImportError('no such library')", 1, "edgeq: error: a library that edgeq needs cannot be imported"),
        ("TypeError('odd')", 1, "edgeq: error: unexpected TypeError: odd; this is a fault of edgeq"),
        ('RuntimeError("can\'t start new thread")', 1, "edgeq: error: the system gives no more threads"),
        ("OSError(5, 'Input/output error')", 1, "edgeq: error: Input/output error"),
        ("OSError(12, 'Cannot allocate memory')", 4, "edgeq: error: out of memory: [Errno 12] Cannot"),
        (
            "ImportError('x.so: failed to map: Cannot allocate memory')",
            4,
            "edgeq: error: out of memory: x.so: failed",
        ),
    ],
)
def test_what_fails_while_modules_are_imported(
    name: str, error: str, code: int, line: str, story: Path
) -> None:
    ended = process(name, error, "show", str(story))
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith(line) and ended.stderr.count("\n") == bool(line)


def test_the_traceback_is_there_for_who_asks() -> None:
    ended = process("click", "TypeError('odd')", "--help", EDGEQ_DEBUG="1")
    assert "Traceback" in ended.stderr and ended.stderr.splitlines()[-1].startswith(
        "edgeq: error: unexpected TypeError"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["demo", "--help"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "edgeq", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1 and ended.stderr == "edgeq: error: No space left on device\n"


class Panic(BaseException):
    """What a library in Rust raises where it panics is no Exception."""


def test_what_nobody_expected(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise Panic("index out of\nbounds")

    monkeypatch.setattr("edgeq.cli.cli.invoke", broken)
    monkeypatch.delenv("EDGEQ_DEBUG", raising=False)
    assert run_command(["show", "x"]) == 1
    out, err = capsys.readouterr()
    assert (
        out == ""
        and err.startswith("edgeq: error: unexpected Panic: index out of bounds; ")
        and err.count("\n") == 1
    )


def test_a_message_without_end_is_cut() -> None:
    assert len(ends.outcome(TypeError("x" * 100_000))[1]) < 3000
    assert ends.outcome(EdgeqError("as it is")) == (1, "as it is")


# closed streams ------------------------------------------------------------------------------------------


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """A line for sh in which $EDGEQ is the command; what it ends with."""
    environment = {**os.environ, "EDGEQ": f"{sys.executable} -m edgeq"}
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    "line",
    ["$EDGEQ show {story} >&-", "$EDGEQ --help >&-", "$EDGEQ --version >&-", "$EDGEQ doctor --json >&- 2>&-"],
)
def test_a_closed_output_is_nobody_who_reads(line: str, story: Path) -> None:
    ended = shell(line.format(story=story))
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, "", "")


@pytest.mark.parametrize("line", ["show {story} --tensors --json", "--help"])
def test_a_reader_that_goes_away(line: str, story: Path) -> None:
    """It is gone before the first byte."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "edgeq", *line.format(story=story).split()]
    with open(write, "wb") as gone:
        ended = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_closed_output_does_not_become_a_file(tmp_path: Path, demo_checkpoint: Path) -> None:
    """What is opened later gets other numbers than 0, 1 and 2, and an error's line is not in it."""
    target = tmp_path / "out.edgeq"
    ended = shell(f"$EDGEQ convert {demo_checkpoint} -o {target} <&- >&- 2>&-")
    assert ended.returncode == 0 and target.read_bytes().startswith(b"EDGEQ")
    ended = shell(f"$EDGEQ verify {target} >&- 2>&-")
    assert ended.returncode == 141
    ended = shell("$EDGEQ show nowhere 2>&-")
    assert (ended.returncode, ended.stdout) == (2, "")
