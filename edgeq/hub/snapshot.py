"""A model that is named by the hub's name, as files on this machine: from the cache, or from the hub
first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import EdgeqError, NetworkError

from . import client
from .cache import Repository
from .choice import Choice, choose, readable
from .filling import Filling, Progress, Tell
from .names import Name


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
    filling = Filling(name, repository, listing, tell, progress)
    filling.fill(choice.entries)
    repository.keep(listing, filling.checked, name.revision)
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
        choice = choose(repository.found(commit), name)
    except EdgeqError:
        return None
    return snapshot(repository, name, commit, choice) if readable(choice) else None


def found(repository: Repository, name: Name) -> Snapshot:
    """What is in the cache, where the network is forbidden; NetworkError where it is not."""
    if (there := left(repository, name)) is None:
        raise NetworkError(
            f"{str(name)!r} is no local file or directory, it is not in the hub's cache "
            f"{repository.path.parent}, and HF_HUB_OFFLINE keeps the client offline: unset it, or "
            "name a file or directory"
        )
    return there
