"""The files that a repository has at a commit, with their sizes and checksums, as the hub says."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from .names import plain

COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
ENTRIES_MAX = 100_000
SIZE_MAX = 1 << 50  # bytes of a file


@dataclass(frozen=True)
class Entry:
    """A file of a repository. Its digest, the name of its blob in the cache, is the SHA-256 of what is stored
    by LFS and git's SHA-1 of what is not."""

    name: str  # with / between folders
    size: int  # bytes
    digest: str  # hexadecimal

    def hasher(self) -> hashlib._Hash:
        """What makes the digest when it is fed the file's bytes."""
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


@dataclass(frozen=True)
class Listing:
    """All files of a repository at a commit."""

    commit: str
    entries: tuple[Entry, ...]

    @classmethod
    def from_hub(cls, answer: Any) -> Listing:
        """From the answer to a question for a model with its blobs; ValueError where it is something else."""
        if not isinstance(answer, dict) or not isinstance(answer.get("siblings"), list):
            raise ValueError("no list of files")
        commit = answer.get("sha")
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise ValueError("no commit")
        if len(answer["siblings"]) > ENTRIES_MAX:
            raise ValueError(f"more than {ENTRIES_MAX} files")
        found = (entry_of(row) for row in answer["siblings"] if isinstance(row, dict))
        return cls(commit, tuple(entry for entry in found if entry is not None))

    @classmethod
    def from_json(cls, commit: str, rows: Any) -> Listing:
        """From what `to_json` gave; ValueError or TypeError where it is something else."""
        entries = tuple(Entry(str(name), int(size), str(digest)) for name, size, digest in rows)
        if not all(plain(entry.name) and DIGEST.fullmatch(entry.digest) for entry in entries):
            raise ValueError("a name or a digest is none")
        return cls(commit, entries)

    def to_json(self) -> list[list[Any]]:
        return [[entry.name, entry.size, entry.digest] for entry in self.entries]


def entry_of(row: dict[str, Any]) -> Entry | None:
    """A file of the hub's answer; None for one that nobody can want, by its name or for want of a
    checksum."""
    name, size, digest = row.get("rfilename"), row.get("size"), row.get("blobId")
    if isinstance(row.get("lfs"), dict):
        size, digest = row["lfs"].get("size", size), row["lfs"].get("sha256") or row["lfs"].get("oid")
    if not isinstance(name, str) or not plain(name) or type(size) is not int or not 0 <= size <= SIZE_MAX:
        return None
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        return None
    return Entry(name, size, digest)
