"""The folder of a user's packs: who may write it, how files come and go, and the lock that writers hold.

Packs are code that will run, so the folder and each file must belong to the user (or to root, who can do
anything anyway) and nobody else may be able to write them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from .pack import BYTES_MAX, PackError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"
WAIT = 0.05  # seconds between two looks at a lock that another holds


def packs_folder() -> Path:
    """Where a user's packs are: EDGEQ_KERNELS, or `kernels` in the user's cache folder."""
    forced = os.environ.get("EDGEQ_KERNELS")
    if forced:
        return Path(forced)
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgeq", appauthor=False)) / "kernels"


def check_owner(facts: os.stat_result) -> None:
    """PackError when others own or can write what `facts` are of."""
    if hasattr(os, "getuid"):
        if facts.st_uid not in (os.getuid(), 0):
            raise PackError(f"it belongs to another user (id {facts.st_uid})")
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PackError("others can write it (chmod go-w makes it safe)")


def readable(folder: Path) -> bool:
    """Whether there is a folder to read packs from; PackError when there is and it is not safe."""
    try:
        facts = folder.stat()
    except OSError:
        return False
    if not stat.S_ISDIR(facts.st_mode):
        raise PackError("it is no folder")
    check_owner(facts)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise PackError("it cannot be read")
    return True


def make(folder: Path) -> None:
    """Make the folder if need be; PackError or OSError when it cannot be written safely."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    readable(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PackError("it cannot be written")


@contextlib.contextmanager
def opened(path: Path, *, safe: bool = False) -> Iterator[tuple[int, int]]:
    """(descriptor, size) of a pack's file; PackError when it cannot be a pack or, unless the path is known to
    be safe, others may have written it.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise PackError("it is no regular file")
        if not 0 < facts.st_size <= BYTES_MAX:
            raise PackError("it is empty" if not facts.st_size else "it is too large")
        if not safe:
            check_owner(facts)
        yield descriptor, facts.st_size
    finally:
        os.close(descriptor)


def publish(path: Path, blob: bytes) -> None:
    """Put a file under its name, whole or not at all: a reader never sees half of one."""
    import tempfile

    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(blob)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Lock:
    """A folder's lock, held from its making to the end of a `with`. The system lets go of it when the holder
    ends, however it ends. On a file system without locks nobody waits, and several may do the same work.
    A forked process does not have its parent's.
    """

    def __init__(
        self, folder: Path, waiting: Callable[[], None], hopeless: Callable[[], bool] = lambda: False
    ):
        """Wait for the lock; `waiting` is called once when another has it. Nobody waits while it is hopeless:
        then several may do the same work, too.
        """
        self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        _open.add(self)
        try:
            told = False
            while not taken(self._descriptor) and not hopeless():
                if not told:
                    waiting()
                    told = True
                time.sleep(WAIT)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                let_go(self._descriptor)
        self.close()

    def close(self) -> None:
        """Close the file, without a word to others who have it open."""
        descriptor, self._descriptor = self._descriptor, -1
        _open.discard(self)
        if descriptor >= 0:
            os.close(descriptor)


# A forked process has its parent's open files, and with them its locks: it would wait for itself when the
# parent is gone.
_open: weakref.WeakSet[Lock] = weakref.WeakSet()


def _close_parents() -> None:
    for lock in list(_open):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_parents)


def let_go(descriptor: int) -> None:
    """Give the lock back, for all who share the open file: a process may be forked and not run on yet."""
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def taken(descriptor: int) -> bool:
    """Try to take the lock; False while another process has it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
