"""The hub's cache on this machine: one folder for each repository, with blobs named by their digests,
snapshots of commits that link to them, and refs that say which commit a branch was at.

The layout is the hub's own (https://huggingface.co/docs/hub/local-cache); `edgeq/COMMIT.json` beside it is
edgeq's: what the hub has at a commit, and which files were held against their checksums.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import EdgeqError
from edgeq.whole import write_whole

from .listing import COMMIT, DIGEST, Entry, Listing
from .reasons import SYSTEM


def root() -> Path:
    """Where the hub's client keeps what it fetches: HF_HUB_CACHE, else `hub` in HF_HOME, else in the user's
    cache."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if path := os.environ.get(variable):
            return Path(os.path.expandvars(path)).expanduser()
    home = os.environ.get("HF_HOME")
    if home is None:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


@dataclass(frozen=True)
class Repository:
    """The folder of a repository in the cache; it need not be there."""

    path: Path

    @classmethod
    def of(cls, repository: str) -> Repository:
        return cls(root() / "--".join(("models", *repository.split("/"))))

    def blob(self, entry: Entry) -> Path:
        return self.path / "blobs" / entry.digest

    def snapshot(self, commit: str) -> Path:
        return self.path / "snapshots" / commit

    def file(self, commit: str, name: str) -> Path:
        """A file as it is called in the repository."""
        return self.snapshot(commit).joinpath(*name.split("/"))

    def commit(self, revision: str) -> str | None:
        """The commit that a revision was when it was fetched."""
        if COMMIT.fullmatch(revision):
            return revision
        try:
            found = self.path.joinpath("refs", *revision.split("/")).read_text().strip()
        except (OSError, ValueError):
            return None
        return found if COMMIT.fullmatch(found) else None

    def listing(self, commit: str) -> tuple[Listing, frozenset[str]] | None:
        """What the hub has at a commit, and the digests of what was checked of it; None where that is not
        known."""
        try:
            note = json.loads((self.path / "edgeq" / f"{commit}.json").read_text())
            return Listing.from_json(commit, note["files"]), frozenset(map(str, note["checked"]))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def found(self, commit: str) -> Listing:
        """What is in the snapshot, whoever fetched it."""
        folder, entries = self.snapshot(commit), []
        for path in sorted(folder.rglob("*")):
            digest = path.resolve().name
            if path.is_file() and DIGEST.fullmatch(digest):
                entries.append(Entry(path.relative_to(folder).as_posix(), path.stat().st_size, digest))
        return Listing(commit, tuple(entries))

    def has(self, commit: str, entry: Entry) -> bool:
        """Whether a file is in the snapshot, at its full size."""
        return size_of(self.file(commit, entry.name)) == entry.size

    def link(self, commit: str, entry: Entry) -> None:
        """Let the snapshot have a file whose blob is there."""
        place = self.file(commit, entry.name)
        if size_of(place) == entry.size:
            return
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            made = place.with_name(f".{secrets.token_hex(8)}.tmp")  # threads may link the same file at once
            try:
                made.symlink_to(os.path.relpath(self.blob(entry), place.parent))
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                made = self.blob(entry)  # a disk that knows no links
            made.replace(place)

    def forget(self, commit: str, entry: Entry) -> None:
        """Remove a file that is not what the hub has."""
        for path in (self.file(commit, entry.name), self.blob(entry)):
            with writing(path):
                path.unlink(missing_ok=True)

    def keep(self, listing: Listing, checked: Iterable[str], revision: str) -> None:
        """Note what a revision is and what was checked, after all of it is there; a cache that cannot be
        written has none of this."""
        note = {"files": listing.to_json(), "checked": sorted(checked)}
        with suppress(OSError):
            appear(self.path / "edgeq" / f"{listing.commit}.json", json.dumps(note))
            if revision != listing.commit:
                appear(self.path.joinpath("refs", *revision.split("/")), listing.commit)


def size_of(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def appear(path: Path, text: str) -> None:
    """A small file of the cache, which other users may share; one that is right already is left alone."""
    if size_of(path) == len(text) and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode(), mode=0o666)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses while the cache is written, as one sentence with what to do."""
    try:
        yield
    except OSError as error:
        sentence = SYSTEM.get(error.errno or 0, "{file}: {error}")
        raise EdgeqError(
            sentence.format(file=error.filename or path, error=error.strerror or error)
        ) from None
