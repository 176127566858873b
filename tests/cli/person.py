"""A person at a pseudo-terminal, with a program of Python at its other end."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.patience import STUCK_S, until

ROOT = Path(__file__).resolve().parents[2]


class Person:
    """Someone at a terminal: types, pastes, reads what appears, presses Ctrl-C; a context."""

    def __init__(
        self,
        program: str | Sequence[str],
        env: Mapping[str, str] = {},  # noqa: B006
        *,
        before: str = "",
        folder: Path = ROOT,
    ) -> None:
        """program: source of Python, or a command's words. before: what was typed before it began.
        folder: in which it runs."""
        self.end, other = pty.openpty()
        self.type(before)
        given = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", **env}
        command = [sys.executable, "-c", program] if isinstance(program, str) else program
        self.process = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, cwd=folder, env=given, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.seen = self.unread = ""

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.end)

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def paste(self, text: str) -> None:
        """Paste lines as terminals do: between two marks, with returns for newlines."""
        self.type("\x1b[200~" + text.replace("\n", "\r") + "\x1b[201~")

    def wait_for(self, text: str) -> None:
        """Read until `text` appears after what was read before."""
        while text not in self.unread:
            appears = select.select([self.end], [], [], STUCK_S)[0]
            assert appears, f"{text!r} did not appear after {self.seen!r}, but {self.unread!r}"
            self.unread += os.read(self.end, 4096).decode(errors="replace")
        at = self.unread.index(text) + len(text)
        self.seen, self.unread = self.seen + self.unread[:at], self.unread[at:]

    def interrupt(self) -> None:
        """Press Ctrl-C once the process waits: between a prompt and its wait for a key, one would be noticed
        with the next key only."""
        status = psutil.Process(self.process.pid).status
        until(lambda: status() == psutil.STATUS_SLEEPING, "that the process waits")
        self.process.send_signal(signal.SIGINT)

    def leaves(self) -> None:
        """Press Ctrl-D, which ends the program well."""
        self.type("\x04")
        assert self.process.wait(STUCK_S) == 0
        assert "Traceback" not in self.seen + self.unread
