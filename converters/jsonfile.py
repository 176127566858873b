"""JSON and directories from strangers: limits, no key twice, no NaN, no name that leaves its directory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.errors import FormatError
from edgeq.formats import foreign, strictjson

TEXT_BYTES_MAX = 16 << 20  # of any JSON or text file beside weights and tokenizers


def parse(text: bytes, where: str, marks_max: int = strictjson.MARKS_MAX) -> dict[str, Any]:
    """The object that `text` holds; FormatError names `where` for anything else."""
    value: dict[str, Any] = _parsed(text, where, marks_max, dict, "an object")
    return value


def _parsed(text: bytes, where: str, marks_max: int, kind: type, right: str) -> Any:
    with explained(text, where):
        value = strictjson.parse(text.removeprefix(codecs.BOM_UTF8), where, marks_max=marks_max)
    if not isinstance(value, kind):
        raise FormatError(f"{where} holds a JSON {type(value).__name__}, but {right} is needed")
    return value


@contextmanager
def explained(data: bytes, where: str) -> Iterator[None]:
    """A FormatError of the block says what kind of file it is that was read, where that is no such file."""
    try:
        yield
    except FormatError:
        kind = foreign.kind_of(data)
        if kind is None or kind in foreign.TEXTS:
            raise
        raise FormatError(f"{where} is {kind.what}: {kind.instead}") from None


@dataclass(frozen=True)
class Folder:
    """A checkpoint's directory, and another into which links in it may lead; FormatError for other links."""

    path: Path
    follow: Path | None = None

    @classmethod
    def of(cls, path: Path | Folder) -> Folder:
        return path if isinstance(path, Folder) else cls(path)

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.resolve().name

    def below(self, name: str) -> Folder:
        """A folder in it, itself for "", with the same rules for links."""
        if not name:
            return self
        blobs = self.path.resolve().parent.parent / "blobs"
        follow = blobs if self.path.resolve().parent.name == "snapshots" else self.follow
        return Folder(self.inside(name), follow)

    def inside(self, name: str) -> Path:
        """The path of file `name`; FormatError when the name or a link leads outside.

        Links of a hub cache lead from snapshots/REVISION to the `blobs` beside it, which is allowed too.
        """
        bad = (
            not name
            or len(name) > 255
            or name in (".", "..")
            or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name)
        )
        if bad:
            raise FormatError(
                f"file name {name!r:.80} is refused; a plain name inside {self.name!r} is needed"
            )
        root = self.path.resolve()
        places = [root]
        if root.parent.name == "snapshots":
            places.append(root.parent.parent / "blobs")
        try:
            path = (root / name).resolve()
            allowed = path.parent in places or (self.follow and path.is_relative_to(self.follow.resolve()))
        except (OSError, RuntimeError):
            raise FormatError(f"file {name!r} is a link that leads nowhere; a file is needed") from None
        if not allowed:
            raise FormatError(
                f"file {name!r} is a link that leads outside {self.name!r}, to {str(path.parent)!r:.200}; "
                "copy the file, or allow that directory with --follow-links"
            )
        return path


def text(folder: Folder, name: str) -> str | None:
    """The UTF-8 text of a file in a directory, or None where there is no such file."""
    data = content(folder, name)
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: byte {error.start} is not UTF-8; UTF-8 text is needed") from None


def content(folder: Folder, name: str, bytes_max: int = TEXT_BYTES_MAX) -> bytes | None:
    """The bytes of a file in a directory, at most bytes_max; None where there is no such file."""
    path = folder.inside(name)
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size > bytes_max:
        raise FormatError(f"{name}: {size} bytes are too many; at most {bytes_max} are allowed")
    with path.open("rb") as file:
        return file.read(bytes_max)


def start(folder: Folder, name: str, length: int) -> bytes:
    """The first bytes of a file in a directory; none where there is no such file."""
    path = folder.inside(name)
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(length)


def load(
    folder: Folder, name: str, bytes_max: int = TEXT_BYTES_MAX, marks_max: int = strictjson.MARKS_MAX
) -> dict[str, Any] | None:
    """The JSON object in a file of a directory, or None where there is no such file."""
    data = content(folder, name, bytes_max)
    return None if data is None else parse(data, name, marks_max)


def load_list(folder: Folder, name: str) -> list[Any] | None:
    """The JSON list in a file of a directory, or None where there is no such file."""
    data = content(folder, name)
    return None if data is None else _parsed(data, name, strictjson.MARKS_MAX, list, "a list")
