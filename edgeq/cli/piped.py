"""Where a prompt comes from: an option, a file, and what is piped into stdin."""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import sys

from edgeq.cli import terminal
from edgeq.cli.files import all_of, read_bytes, utf8, without_newline
from edgeq.errors import UsageError

WAIT_S = 5.0  # for the first byte of a pipe beside -p: whoever started us may keep one open and write nothing


def read_prompt(prompt: str | None, file: str | None, *, quiet: bool = False) -> str:
    """The prompt's text: from -p or -f, with what is piped into stdin behind it, or from stdin alone.

    One newline at the end of a file or of stdin is no part of it. A newline stands between the two texts
    unless the first ends in white space. UsageError when there is no prompt, two, or no UTF-8.
    """
    if prompt is not None and file not in (None, "-"):
        raise UsageError("two prompts are given, a text and -f: give one of them")
    if prompt is None and file in (None, "-"):
        if sys.stdin is None or (file is None and holds_nothing()):
            raise UsageError("no prompt is given: use -p TEXT or -f FILE, or pipe text into stdin")
        return without_newline(utf8(all_of(sys.stdin.buffer, "stdin"), "stdin"))
    if prompt is not None:
        first = utf8(prompt.encode("utf-8", "surrogateescape"), "the prompt")
    else:
        assert file is not None
        first = without_newline(utf8(read_bytes(file), file))
    return joined(first, without_newline(utf8(from_stdin(wait=file == "-", quiet=quiet), "stdin")))


def joined(first: str, second: str) -> str:
    """Two texts with a newline between, where white space does not part them already."""
    apart = not first or not second or first[-1].isspace()
    return first + second if apart else f"{first}\n{second}"


def holds_nothing() -> bool:
    """Whether stdin is closed, a terminal or another device, as /dev/null."""
    if sys.stdin is None or sys.stdin.isatty():
        return True
    with contextlib.suppress(OSError, io.UnsupportedOperation):  # no file of the system's: Python is embedded
        return stat.S_ISCHR(os.fstat(sys.stdin.fileno()).st_mode)
    return False


def from_stdin(*, wait: bool = False, quiet: bool = False) -> bytes:
    """What is piped into stdin, or a file there; nothing from a terminal or another device.

    A pipe in which nothing comes within WAIT_S is left alone, with a line that says so, unless `wait`: a
    program or `ssh` may hold its other end open for nothing.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return b""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, io.UnsupportedOperation):  # no file of the system's, as where Python is embedded
        with contextlib.suppress(OSError):
            return all_of(sys.stdin.buffer, "stdin")
        return b""
    if stat.S_ISCHR(mode):
        return b""
    if not wait and not stat.S_ISREG(mode) and ready(WAIT_S) is False:
        if not quiet:
            terminal.note(
                f"edgeq: warning: nothing came on stdin in {WAIT_S:.0f} s, so the prompt is what was given "
                "(-f - waits for its end, </dev/null says that there is none)"
            )
        return b""
    return all_of(sys.stdin.buffer, "stdin")


def ready(seconds: float) -> bool | None:
    """Whether stdin has something, or its end, within so many seconds; None where the system cannot tell, as
    Windows of a pipe."""
    try:
        return bool(select.select([sys.stdin], [], [], seconds)[0])
    except (OSError, ValueError):
        return None
