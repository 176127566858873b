"""How a process of the command ends: its exit codes, and one line on stderr for whatever ended it.

Imports nothing that an installation could lack, so that it can speak when something else cannot be imported.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

from edgeq.errors import (
    EdgeqError,
    FormatError,
    NetworkError,
    OutOfMemoryError,
    UnsupportedError,
    UsageError,
)

EXIT_FAILED, EXIT_USAGE, EXIT_MODEL, EXIT_MEMORY, EXIT_NETWORK = 1, 2, 3, 4, 5
EXIT_INTERRUPTED, EXIT_PIPE = 130, 141
MESSAGE_CHARS_MAX = 2000  # of another library's error


class NobodyReads(io.TextIOBase):
    """In place of a standard output that was closed before the process began: as a pipe without a reader."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def writable(self) -> bool:
        return True


def open_streams() -> None:
    """Stand something in for each standard stream that who started us closed (`>&-`).

    Their numbers are taken, so that no file that is opened later gets them: what a library writes to standard
    output would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, this one
    if sys.stdout is None:
        sys.stdout = NobodyReads()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (to the end of the process)


def ended(error: BaseException) -> int:
    """Say in one line what ended the process, where there is something to say; the exit code for it.

    With EDGEQ_DEBUG set, the traceback comes before the line.
    """
    if isinstance(error, KeyboardInterrupt):
        if sys.stderr.isatty():
            print(file=sys.stderr)
        return EXIT_INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return silenced()
    if os.environ.get("EDGEQ_DEBUG"):
        import traceback

        traceback.print_exception(error)
    code, message = outcome(error)
    complain(message)
    return code


def outcome(error: BaseException) -> tuple[int, str]:
    """The exit code and the message for an error of any kind."""
    if isinstance(error, FormatError | UnsupportedError):
        return EXIT_MODEL, str(error)
    if isinstance(error, OutOfMemoryError):
        return EXIT_MEMORY, str(error)
    if isinstance(error, NetworkError):
        return EXIT_NETWORK, str(error)
    if isinstance(error, EdgeqError):
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED, str(error)
    text = str(error)[:MESSAGE_CHARS_MAX]
    if isinstance(error, MemoryError):
        return EXIT_MEMORY, f"out of memory{f': {text}' if text else ''}"
    if getattr(error, "errno", None) == errno.ENOMEM or os.strerror(errno.ENOMEM) in text:
        return EXIT_MEMORY, f"out of memory: {text}"  # of the system's calls, or while a library is mapped
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename is not None else ""
        return EXIT_FAILED, f"{name}{error.strerror or text}"
    if isinstance(error, ImportError):
        return EXIT_FAILED, f"a library that edgeq needs cannot be imported, install edgeq anew: {text}"
    if isinstance(error, RuntimeError) and "start new thread" in text:
        return EXIT_FAILED, f"the system gives no more threads: {text}"
    return EXIT_FAILED, (
        f"unexpected {type(error).__name__}{f': {text}' if text else ''}; this is a fault of edgeq: "
        "please report it, with what it says under EDGEQ_DEBUG=1"
    )


def complain(message: str) -> None:
    """A line of error on stderr: one, printable, whatever the message holds."""
    line = " ".join("".join(c for c in message if c.isprintable() or c.isspace()).split())
    with contextlib.suppress(OSError):
        print(f"edgeq: error: {line}", file=sys.stderr, flush=True)


def silenced() -> int:
    """After the reader of our output went away: nothing more is written, not even at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_PIPE
