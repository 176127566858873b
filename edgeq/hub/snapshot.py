"""A model that is named by the hub's name, as files on this machine: from the cache, or from the hub
first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import EdgeqError, NetworkError, size

from . import client
from .cache import Repository, size_of
from .choice import Choice, choose
from .listing import Entry, Listing
from .names import Name
from .transfer import HASHED_BYTES, fetch_blob

Progress = Callable[[int, int, str], None]
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Snapshot(os.PathLike[str]):
    """A model of the hub on this machine: a path, and where it is from."""

    repository: str
    commit: str
    path: Path  # a checkpoint's directory, or one file
    file: str | None = None  # its name in the repository

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        """For a person."""
        return f"{self.repository}@{self.commit[:12]}" + (f"/{self.file}" if self.file else "")

    @property
    def label(self) -> str:
        """A short name for what is made of it."""
        return self.path.stem if self.file else self.repository.partition("/")[2]


def fetch(
    name: Name, *, refresh: bool = False, tell: Tell | None = None, progress: Progress | None = None
) -> Snapshot:
    """What a name means, whole and checked, on this machine.

    What an earlier call fetched is taken without asking anybody; with `refresh` the hub is asked what a
    branch is now. tell(line) says whom it asks before the first byte, and what is fetched; progress(done,
    total, file) is called with bytes. NetworkError says why it is not to be had; UsageError and
    UnsupportedError are of names and repositories; EdgeqError of the cache's disk.
    """
    tell = tell or (lambda _: None)
    repository = Repository.of(name.repository)
    if not refresh and (there := known(repository, name)):
        return there
    if client.offline():
        return found(repository, name)
    tell(f"asking {client.host()} for {name.repository}, revision {name.revision}")
    try:
        listing = client.listing(name)
    except NetworkError as error:
        if refresh or (there := left(repository, name)) is None:
            raise
        tell(f"{error}; what its cache has of {name.revision} is used")
        return there
    choice = choose(listing, name)
    before = repository.listing(listing.commit)
    checked = set(before[1]) if before else set()
    get(repository, listing, choice, checked, name, tell, progress)
    repository.keep(listing, checked, name.revision)
    return snapshot(repository, name, listing.commit, choice)


def snapshot(repository: Repository, name: Name, commit: str, choice: Choice) -> Snapshot:
    path = repository.snapshot(commit) if choice.main is None else repository.file(commit, choice.main)
    return Snapshot(name.repository, commit, path, choice.main)


def known(repository: Repository, name: Name) -> Snapshot | None:
    """What an earlier call fetched and checked, where all of it is there."""
    commit = repository.commit(name.revision)
    note = repository.listing(commit) if commit else None
    if commit is None or note is None:
        return None
    listing, checked = note
    try:
        choice = choose(listing, name)
    except EdgeqError:  # the hub may have it by now
        return None
    whole = all(entry.digest in checked and repository.has(commit, entry) for entry in choice.entries)
    return snapshot(repository, name, commit, choice) if whole else None


def left(repository: Repository, name: Name) -> Snapshot | None:
    """What any program fetched of it: nobody is at hand to ask whether that is all."""
    commit = repository.commit(name.revision)
    if commit is None:
        return None
    if repository.listing(commit) is not None:  # it is known what belongs to it
        return known(repository, name)
    try:
        return snapshot(repository, name, commit, choose(repository.found(commit), name))
    except EdgeqError:
        return None


def found(repository: Repository, name: Name) -> Snapshot:
    """What is in the cache, where the network is forbidden; NetworkError where it is not."""
    if (there := left(repository, name)) is None:
        raise NetworkError(
            f"{str(name)!r} is no local file or directory, it is not in the hub's cache "
            f"{repository.path.parent}, and HF_HUB_OFFLINE keeps the client offline: unset it, or "
            "name a file or directory"
        )
    return there


def get(
    repository: Repository,
    listing: Listing,
    choice: Choice,
    checked: set[str],
    name: Name,
    tell: Tell,
    progress: Progress | None,
) -> None:
    """Let the snapshot have every file that is wanted, and `checked` its digest."""
    commit = listing.commit
    for entry in choice.entries:
        if entry.digest in checked and available(repository, commit, entry):
            continue
        checked.discard(entry.digest)
        if right(repository, commit, entry, progress):
            checked.add(entry.digest)
    missing = [entry for entry in choice.entries if entry.digest not in checked]
    total, done = sum(entry.size for entry in missing), 0
    if missing:
        room(repository, missing)
        files = "1 file" if len(missing) == 1 else f"{len(missing)} files"
        tell(f"fetching {files}, {size(total)}, into {repository.path}")
    for entry in missing:

        def came(count: int, entry: Entry = entry, before: int = done) -> None:
            if progress is not None:
                progress(before + count, total, entry.name)

        with client.named(name):
            fetch_blob(repository, entry, client.file_url(name.repository, commit, entry.name), came, tell)
        checked.add(entry.digest)
        done += entry.size
    for entry in choice.entries:
        repository.link(commit, entry)


def available(repository: Repository, commit: str, entry: Entry) -> bool:
    """Whether the cache has a file's bytes, linked or not."""
    return size_of(repository.blob(entry)) == entry.size or repository.has(commit, entry)


def right(repository: Repository, commit: str, entry: Entry, progress: Progress | None) -> bool:
    """Whether the cache has a file with the hub's checksum, whoever fetched it; a wrong one is removed."""
    places = (repository.blob(entry), repository.file(commit, entry.name))
    path = next((place for place in places if size_of(place) is not None), None)
    if path is None:
        return False
    if size_of(path) == entry.size:
        hasher, done = entry.hasher(), 0
        with path.open("rb") as file:
            while data := file.read(HASHED_BYTES):
                hasher.update(data)
                done += len(data)
                if progress is not None:
                    progress(done, entry.size, f"checking {entry.name}")
        if hasher.hexdigest() == entry.digest:
            return True
    repository.forget(commit, entry)
    return False


def room(repository: Repository, missing: Iterable[Entry]) -> None:
    """EdgeqError where the disk has not the room for what is to be fetched."""
    needed = 0
    for entry in missing:
        part = repository.blob(entry)
        needed += entry.size - min(entry.size, size_of(part.with_name(part.name + ".edgeq-part")) or 0)
    place = repository.path
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise EdgeqError(
            f"{repository.path} needs {size(needed)}, but its disk has {size(free)} free; make room, or set "
            "HF_HOME to a directory on another disk"
        )
