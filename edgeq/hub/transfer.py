"""One file from the hub into the cache: it goes on where it was cut, and counts only with the right checksum.

What has come lies in `DIGEST.edgeq-part` beside the blobs, locked by the process that fetches it; the blob
appears by rename when it is whole and its digest is the hub's.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from edgeq.errors import NetworkError

from .cache import Repository, writing
from .client import Cut, insist, opened
from .listing import Entry

try:
    import fcntl
except (
    ImportError
):  # Windows: two processes that fetch one file would spoil it for each other, which its digest shows
    fcntl = None  # type: ignore[assignment]

# a cache may be shared, and a link in it lead to a file that is none of the cache's
OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
HASHED_BYTES = 4 << 20  # of a file at a time
WAIT_S = 0.2  # between two looks at another process that fetches the same
RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
Came = Callable[[int], object]
Tell = Callable[[str], object]


def fetch_blob(repository: Repository, entry: Entry, url: str, came: Came, tell: Tell) -> None:
    """Get a file's blob; came(bytes) is called with all that is there of it. NetworkError where what comes is
    not what the hub promised: it is gone then. Whatever else breaks it off, Ctrl-C too, leaves the part for
    the next try."""
    blob = repository.blob(entry)
    part = part_of(blob)
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    with locked(part, tell) as file:
        if blob.is_file():  # another process was first
            file.truncate(0)
            part.unlink(missing_ok=True)
            return
        growing = Growing(file, part, entry, url, came)
        resumed = growing.size > 0
        insist(growing.grow, lambda: growing.total)
        if not growing.right and resumed:  # what an earlier process left may be what is wrong
            growing.restart()
            insist(growing.grow, lambda: growing.total)
        if not growing.right:
            part.unlink(missing_ok=True)
            raise NetworkError(
                f"{entry.name}: what came over the network has not the checksum that the hub promises, and "
                "was deleted; try again, and if that ends the same, ask who runs the network or the proxy"
            )
        with writing(part):
            os.fsync(file.fileno())
            part.replace(blob)


def part_of(blob: Path) -> Path:
    """Where a blob grows."""
    return blob.with_name(blob.name + ".edgeq-part")


class Growing:
    """A file that grows to its full size; what an earlier process left of it is the beginning."""

    def __init__(self, file: FileIO, path: Path, entry: Entry, url: str, came: Came) -> None:
        self._file, self._path, self._entry, self._url, self._came = file, path, entry, url, came
        self.total = 0  # bytes that came over the network, those that were thrown away too
        self.size = 0
        self._hash = entry.hasher()
        file.seek(0)
        while data := file.read(HASHED_BYTES):
            self._hash.update(data)
            self.size += len(data)
        if self.size > entry.size:
            self.restart()

    @property
    def right(self) -> bool:
        """Whether it is what the hub has."""
        return self.size == self._entry.size and self._hash.hexdigest() == self._entry.digest

    def restart(self) -> None:
        """Begin again with nothing."""
        with writing(self._path):
            self._file.seek(0)
            self._file.truncate()
        self.size, self._hash = 0, self._entry.hasher()

    def grow(self) -> None:
        """Fetch what is missing. It ends with more than the full size only by one piece, and is wrong
        then."""
        self._came(self.size)
        if self.size == self._entry.size:
            return
        with opened(self._url, start=self.size) as response:
            if self.size and not continues(response, self.size, self._entry.size):
                self.restart()
            for piece in response.iter_bytes():
                self._append(piece)
                if self.size > self._entry.size:
                    return
        if self.size < self._entry.size:
            raise Cut(f"{self.size} of {self._entry.size} bytes")

    def _append(self, piece: bytes) -> None:
        with writing(self._path):
            view = memoryview(piece)
            while view:  # a disk that is nearly full takes less than it is given
                view = view[self._file.write(view) or 0 :]
        self._hash.update(piece)
        self.size += len(piece)
        self.total += len(piece)
        self._came(self.size)


def continues(response: object, start: int, size: int) -> bool:
    """Whether an answer goes on at byte `start` of a file of that size; one that does not begins at 0."""
    if getattr(response, "status_code", None) != 206:
        return False
    found = RANGE.fullmatch(str(response.headers.get("Content-Range", "")))  # type: ignore[attr-defined]
    if found is None or int(found[1]) != start or found[2] not in ("*", str(size)):
        raise Cut(f"a part that does not begin at byte {start}")
    return True


@contextmanager
def locked(path: Path, tell: Tell) -> Iterator[FileIO]:
    """A file, made where there is none, that no other process has like this; unbuffered."""
    told = False
    while True:
        with writing(path):
            descriptor = os.open(path, OPEN, 0o644)
        with FileIO(descriptor, "r+b") as file:
            if not lock(descriptor):
                if not told:
                    tell("another process is fetching this file: waiting for it")
                told = True
            elif same(descriptor, path):
                yield file
                return
        time.sleep(WAIT_S)


def lock(descriptor: int) -> bool:
    """Whether the file is ours now; where a disk knows no locks it always is."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def same(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name: another process may have renamed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
