"""The hidden file that becomes the target: found again and removed where its writer was killed.

A living writer holds a lock on its file, which the system lets go of however the process ends; so a file of
that name without a lock is nobody's.  Where there are no such locks, nothing is ever removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

BEGINNING = ".edgeq-"


def create(target: Path) -> tuple[Path, BinaryIO]:
    """A new hidden file beside `target`, open for writing and locked.  OSError when that fails."""
    while True:
        path = target.parent / f"{_stem(target)}{secrets.token_hex(8)}.partial"
        file = open(path, "xb")  # noqa: SIM115  the caller closes it
        try:
            if _lock(file) and path.exists():
                return path, file
        except BaseException:
            file.close()
            path.unlink(missing_ok=True)
            raise
        # `remove_stale` of another process came before the lock, so the next name is tried.
        file.close()
        path.unlink(missing_ok=True)


def _lock(file: BinaryIO) -> bool:
    """False when another process holds the lock; True, too, on a file system without locks."""
    if fcntl is not None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def remove_stale(target: Path) -> None:
    """Remove what writers of the same target left behind when they were killed; failing is no error."""
    _sweep(target.parent, _stem(target))


def sweep(folder: Path) -> None:
    """Remove what killed writers of any target left behind in a folder; failing is no error."""
    _sweep(folder, BEGINNING)


def _sweep(folder: Path, beginning: str) -> None:
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.startswith(beginning) and entry.name.endswith(".partial"):
                _remove(entry.path)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its writer lives
                os.unlink(path)
        finally:
            os.close(descriptor)


def _stem(target: Path) -> str:
    """The beginning of the name, the same for all writers of a target and short whatever its length."""
    return f"{BEGINNING}{zlib.crc32(os.fsencode(target.name)):08x}-"
