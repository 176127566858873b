"""What a person typed, kept from one chat to the next: a file of their own in the state folder.

One message a line, as a JSON string, so that a message of several lines is one entry. Only its owner can read
the file (0600), in a folder of theirs (0700).
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from edgeq.whole import resolved, write_whole

ENTRIES_MAX = 1000
ENTRY_CHARS_MAX = 1 << 16  # a longer message is a file that was pasted, nothing to type again
FILE_BYTES_MAX = 16 << 20  # of which no more is read

OFF = "EDGEQ_NOHISTORY"


def history_path() -> Path:
    """`chat-history` in the user's state folder."""
    from platformdirs import user_state_path

    return user_state_path("edgeq", appauthor=False) / "chat-history"


def wanted(no_history: bool) -> bool:
    """Whether messages are kept: neither --no-history nor the environment says no."""
    return not no_history and os.environ.get(OFF, "") in ("", "0")


class History:
    """The file at `path`. Every method raises OSError where the system refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[str]:
        """The last ENTRIES_MAX messages, the oldest first; of a file that has grown beyond, the rest goes.

        A line that is no JSON string is left out.
        """
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return []
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            file.seek(max(0, size - FILE_BYTES_MAX))
            lines = file.read(FILE_BYTES_MAX).splitlines()
        entries = [entry for entry in map(_entry, lines) if entry is not None][-ENTRIES_MAX:]
        if len(lines) > ENTRIES_MAX or size > FILE_BYTES_MAX:
            write_whole(resolved(self.path), b"".join(map(_line, entries)))
        return entries

    def append(self, message: str) -> None:
        """Keep a message, if it is not longer than one types."""
        if len(message) > ENTRY_CHARS_MAX:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._open(os.O_WRONLY | os.O_CREAT | os.O_APPEND), "wb") as file:
            file.write(_line(message))

    def _open(self, flags: int) -> int:
        """A descriptor of the file, which only its owner can read from now on."""
        descriptor = os.open(self.path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(f"{self.path} is no regular file")
            if hasattr(os, "fchmod") and stat.S_IMODE(facts.st_mode) != 0o600:
                os.fchmod(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _line(message: str) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _entry(line: bytes) -> str | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None
