"""The files that a snapshot lacks come into it: those that are there are checked, the others fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence

from edgeq.errors import EdgeqError, size

from . import client
from .cache import Repository, size_of
from .listing import Entry, Listing
from .names import Name
from .transfer import HASHED_BYTES, fetch_blob, part_of

Progress = Callable[[int, int, str], None]
Tell = Callable[[str], object]


class Filling:
    """A snapshot on its way to have what is wanted of a listing; `checked` has the digests of what is
    right."""

    def __init__(
        self, name: Name, repository: Repository, listing: Listing, tell: Tell, progress: Progress | None
    ) -> None:
        self._name, self._repository, self._commit = name, repository, listing.commit
        self._tell, self._progress = tell, progress or (lambda *_: None)
        before = repository.listing(listing.commit)
        self.checked = set(before[1]) if before else set()

    def fill(self, entries: Sequence[Entry]) -> None:
        """Let the snapshot have these files; it has none of those that were missing before all are there."""
        for entry in entries:
            if entry.digest in self.checked and self._there(entry):
                continue
            self.checked.discard(entry.digest)
            if self._right(entry):
                self.checked.add(entry.digest)
        missing = [entry for entry in entries if entry.digest not in self.checked]
        if missing:
            self._fetch(missing)
        for entry in entries:
            self._repository.link(self._commit, entry)

    def _there(self, entry: Entry) -> bool:
        """Whether the cache has a file's bytes, linked or not."""
        blob = self._repository.blob(entry)
        return size_of(blob) == entry.size or self._repository.has(self._commit, entry)

    def _right(self, entry: Entry) -> bool:
        """Whether the cache has a file with the hub's checksum, whoever fetched it; a wrong one is
        removed."""
        places = (self._repository.blob(entry), self._repository.file(self._commit, entry.name))
        path = next((place for place in places if size_of(place) is not None), None)
        if path is None:
            return False
        if size_of(path) == entry.size:
            hasher, done = entry.hasher(), 0
            with path.open("rb") as file:
                while data := file.read(HASHED_BYTES):
                    hasher.update(data)
                    done += len(data)
                    self._progress(done, entry.size, f"checking {entry.name}")
            if hasher.hexdigest() == entry.digest:
                return True
        self._repository.forget(self._commit, entry)
        return False

    def _fetch(self, missing: Sequence[Entry]) -> None:
        """Get the blobs of these files from the hub, one after another."""
        self._check_room(missing)
        done, total = 0, sum(entry.size for entry in missing)
        files = "1 file" if len(missing) == 1 else f"{len(missing)} files"
        self._tell(f"fetching {files}, {size(total)}, into {self._repository.path}")
        for entry in missing:

            def came(count: int, name: str = entry.name, before: int = done) -> None:
                self._progress(before + count, total, name)

            url = client.file_url(self._name.repository, self._commit, entry.name)
            with client.named(self._name):
                fetch_blob(self._repository, entry, url, came, self._tell)
            self.checked.add(entry.digest)
            done += entry.size

    def _check_room(self, missing: Iterable[Entry]) -> None:
        """EdgeqError where the disk has not the room for what is to be fetched."""
        needed = 0
        for entry in missing:
            part = part_of(self._repository.blob(entry))
            needed += entry.size - min(entry.size, size_of(part) or 0)
        place = self._repository.path
        while not place.exists() and place != place.parent:
            place = place.parent
        free = shutil.disk_usage(place).free
        if needed > free:
            raise EdgeqError(
                f"{self._repository.path} needs {size(needed)}, but its disk has {size(free)} free; make "
                "room, or set HF_HOME to a directory on another disk"
            )
