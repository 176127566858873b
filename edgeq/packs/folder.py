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
from functools import partial
from io import FileIO
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


def lock_file(folder: Path) -> FileIO:
    """The file whose lock one holds who writes into the folder; closing it gives the lock back.

    The system lets go of it, too, when the holder ends, however it ends. `with` closes a file by an
    instruction that no Ctrl-C comes before, whereas a class of edgeq's would be left with the lock. A forked
    process does not have its parent's.
    """
    file = FileIO(folder / LOCK, "a+", opener=partial(os.open, mode=0o600))
    _open.add(file)
    return file


def lock(file: FileIO, waiting: Callable[[], None], hopeless: Callable[[], bool] = lambda: False) -> None:
    """Wait for the lock; `waiting` is called once when another has it. Nobody waits while it is hopeless:
    then several may do the same work. On a file system without locks, too.
    """
    told = False
    while not file.closed and not taken(file.fileno()) and not hopeless():  # closed in a fork meanwhile
        if not told:
            waiting()
            told = True
        time.sleep(WAIT)


def unlock(file: FileIO) -> None:
    """Give the lock back, for all who share the open file: a process may be forked and not run on yet."""
    if sys.platform != "win32" and not file.closed:
        with contextlib.suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


# A forked process has its parent's open files, and with them its locks: it would wait for itself when the
# parent is gone.
_open: weakref.WeakSet[FileIO] = weakref.WeakSet()


def _close_parents() -> None:
    for file in list(_open):
        file.close()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_parents)


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
