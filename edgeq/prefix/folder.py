"""The folder of prefixes, which outlives the process and which several processes may use at once.

A name says what computed the prefix, what its first chunk is, and what all of it is, as digests; so a look at
the names tells which few heads to read, and other models' files are left alone. Files are written whole or
not at all, never changed, and the one unused for longest goes when they pass the limit. A file that is not
what it should be is removed and told of once; whatever goes wrong here costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import UsageError, printable, size
from edgeq.formats import temporary
from edgeq.ownership import Unique

from . import file as files
from .file import DamagedError, Head
from .pages import Ids, Layout, Page, Pages, alike, packed, usable, wanted

SUFFIX = ".prefix"
LIMIT = 10**9  # bytes of a folder, unless told
_FLAGS = ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")  # as far as the system has them
OPEN = os.O_RDONLY | sum(getattr(os, name, 0) for name in _FLAGS)


@dataclass(frozen=True)
class Stored:
    """A file that begins like what was asked for: its first `length` tokens can be gone on from."""

    name: str
    head: Head
    length: int


class Folder(Unique):
    """Prefixes of one model in a folder. Every method may be called from any thread."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: bytes,
        layout: Layout,
        *,
        limit: int = LIMIT,
        writable: bool = True,
    ):
        """identity: `file.identity`, of all that decides what pages hold. limit: bytes of all files in the
        folder. UsageError where the folder cannot be had, or others can write it."""
        self.path = Path(path).expanduser()
        self.identity, self.layout, self.limit, self.writable = identity, layout, limit, writable
        self._heads: dict[tuple[str, int], Head] = {}  # by name and inode: what was read of them
        self._told = False
        try:
            if writable:
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if writable or self.path.exists():
                _check_folder(self.path)
        except OSError as error:
            raise UsageError(
                f"{printable(str(self.path))} cannot be a prompt cache: {error.strerror or error}"
            ) from None
        if writable:
            temporary.sweep(self.path)

    # finding --------------------------------------------------------------------------------------------

    def find(self, ids: Sequence[int] | NDArray[np.integer], salt: str = "") -> Stored | None:
        """The file with the longest beginning of `ids` that can be gone on from, a whole chunk at least. No
        page is read."""
        key = packed(ids)
        if len(key) < self.layout.chunk:
            return None
        heads = [(alike(head.ids, key), name, head) for name, head in self._alike(key, salt)]
        best: Stored | None = None
        for most, name, head in sorted(heads, key=lambda each: -each[0]):
            if best is not None and best.length >= most:
                break
            length = usable(most, head.forms.__getitem__, self.layout)
            if length > (best.length if best is not None else 0):
                best = Stored(name, head, length)
        return best

    def load(
        self, stored: Stored, take: Callable[[int], Page], have: Sequence[Pages] = (), salt: str = ""
    ) -> list[Pages] | None:
        """The pages that a sequence of the file's first `length` tokens needs, by chunk; None where they are
        not to be had. `have` are those that are there already; the others are read into pages from `take`."""
        pages: list[dict[str, Page]] = [dict() for _ in range(-(-stored.length // self.layout.chunk))]
        with self._minding(stored.name), self._opened(stored.name) as (file, file_bytes):
            # another file may stand there by now
            head = files.read_head(file, file_bytes, self.layout, self.identity, salt)
            if not np.array_equal(head.ids, stored.head.ids) or head.rows.keys() != stored.head.rows.keys():
                raise DamagedError("it is another prefix than its name says")
            for at, form in wanted(stored.length, self.layout):
                page = have[at].get(form) if at < len(have) else None
                if page is None:
                    row = head.rows[at, form]
                    page = take(row.nbytes)
                    files.read_page(file, row, page.array)
                pages[at][form] = page
            with contextlib.suppress(OSError):  # a folder that may only be read
                os.utime(file.fileno())
            return list(pages)
        return None

    def _alike(self, ids: Ids, salt: str) -> Iterator[tuple[str, Head]]:
        """(name, head) of the files whose first chunk is that of `ids`."""
        beginning = self._beginning(ids, salt)
        names = [(entry.name, entry.inode()) for entry in self._entries() if entry.name.startswith(beginning)]
        heads: dict[tuple[str, int], Head] = {}
        for name in names:
            head = self._heads.get(name)
            if head is None:
                with self._minding(name[0]), self._opened(name[0]) as (file, file_bytes):
                    head = files.read_head(file, file_bytes, self.layout, self.identity, salt)
            if head is not None:
                heads[name] = head
                yield name[0], head
        self._heads = heads

    # writing --------------------------------------------------------------------------------------------

    def write(self, ids: Sequence[int] | NDArray[np.integer], pages: Sequence[Pages], salt: str = "") -> bool:
        """Keep the prefix of all `ids`, whose pages have all that is needed to go on; whether it is there
        then. Files that it makes needless go."""
        key = packed(ids)
        if not self.writable or len(key) < self.layout.chunk:
            return False
        name, nbytes = self.name(key, salt), files.file_size(key, self.layout)
        if nbytes > self.limit:
            self._tell(f"a prefix of {len(key)} tokens takes {size(nbytes)}, more than {size(self.limit)}")
            return False
        with self._minding(name):
            if not self._there(name, nbytes):
                self._make_room(nbytes, name)
                self._publish(
                    name, lambda file: files.write(file, key, pages, self.layout, self.identity, salt)
                )
            self._supersede(key, name, salt)
            return True
        return False

    def _there(self, name: str, nbytes: int) -> bool:
        """Whether a file of that size stands there, which then counts as used."""
        try:
            with self._opened(name) as (file, file_bytes):
                os.utime(file.fileno())
                return file_bytes == nbytes
        except (DamagedError, OSError):
            return False

    def _publish(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        target = self.path / name
        part, file = temporary.create(target)
        try:
            with file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o600)
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        _sync(self.path)

    def _make_room(self, nbytes: int, name: str) -> None:
        """Remove what was unused for longest until so many bytes fit, whichever model it is of."""
        facts = []
        for entry in self._entries():
            with contextlib.suppress(OSError):
                if entry.name != name:
                    facts.append((entry.stat(follow_symlinks=False), entry.name))
        over = sum(fact.st_size for fact, _ in facts) + nbytes - self.limit
        for fact, other in sorted(facts, key=lambda each: each[0].st_mtime_ns):
            if over <= 0:
                break
            self._remove(other)
            over -= fact.st_size

    def _supersede(self, ids: Ids, name: str, salt: str) -> None:
        """Remove files whose every prefix the file `name` of `ids` has."""
        forms: list[set[str]] = [set() for _ in range(-(-len(ids) // self.layout.chunk))]
        for at, form in wanted(len(ids), self.layout):
            forms[at].add(form)
        for other, head in self._alike(ids, salt):
            count = len(head.ids)
            if other == name or not alike(head.ids, ids) == count < len(ids):
                continue
            if usable(count, forms.__getitem__, self.layout) == count:
                self._remove(other)

    # files ----------------------------------------------------------------------------------------------

    def name(self, ids: Ids, salt: str) -> str:
        """The name of the file of all `ids`."""
        return f"{self._beginning(ids, salt)}{self._digest(ids, salt)[:32]}{SUFFIX}"

    def _beginning(self, ids: Ids, salt: str) -> str:
        first = self._digest(ids[: self.layout.chunk], salt)
        return f"{self.identity.hex()[:16]}-{first[:16]}-"

    def _digest(self, ids: Ids, salt: str) -> str:
        data = self.identity + files.salted(salt) + ids.astype("<u4").tobytes()
        return hashlib.sha256(data).hexdigest()

    def _entries(self) -> list[os.DirEntry[str]]:
        """All files of prefixes, of other models too; none where the folder cannot be read."""
        try:
            with os.scandir(self.path) as entries:
                return [entry for entry in entries if entry.name.endswith(SUFFIX)]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._tell(str(error.strerror or error))
            return []

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[Any, int]]:
        """(file, bytes); DamagedError for what nobody but this user, or root, can have put there as it is."""
        file = open(self.path / name, "rb", buffering=0, opener=lambda path, _: os.open(path, OPEN))  # noqa: SIM115
        with file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise DamagedError("it is no regular file")
            if why := _foreign(facts):
                raise DamagedError(why)
            yield file, facts.st_size

    @contextlib.contextmanager
    def _minding(self, name: str) -> Iterator[None]:
        """Go on after the block where a file is not to be had: a damaged one is removed."""
        try:
            yield
        except FileNotFoundError:  # another process removed it
            pass
        except MemoryError:  # for pages, or for a copy of one
            pass
        except DamagedError as error:
            self._remove(name)
            self._tell(f"{name} is removed: {error}")
        except OSError as error:
            if (self.path / name).is_symlink():
                self._remove(name)
                self._tell(f"{name} is removed: it is a link")
            else:
                self._tell(f"{name}: {error.strerror or error}")

    def _remove(self, name: str) -> None:
        if self.writable:
            with contextlib.suppress(OSError):
                (self.path / name).unlink()

    def _tell(self, what: str) -> None:
        """One warning; what goes wrong later is mended in silence."""
        if not self._told:
            self._told = True
            warnings.warn(
                f"prompt cache {printable(str(self.path))}: {printable(what)}", RuntimeWarning, stacklevel=2
            )


def _foreign(facts: os.stat_result) -> str | None:
    """Why others may have written what the facts are of; None where they cannot."""
    if not hasattr(os, "geteuid"):
        return None
    if facts.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user (id {facts.st_uid})"
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others can write it"
    return None


def _check_folder(path: Path) -> None:
    """UsageError where others can put files into a folder."""
    facts = path.stat()
    why = None if stat.S_ISDIR(facts.st_mode) else "it is no folder"
    if why := why or _foreign(facts):
        more = " (chmod go-w makes it safe)" if "write" in why else ""
        raise UsageError(f"{printable(str(path))} cannot be a prompt cache: {why}{more}")


def _sync(folder: Path) -> None:
    """Let a folder's names survive a loss of power, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
