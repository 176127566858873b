"""JSON and directories from strangers: limits, no key twice, no NaN, no name that leaves its directory."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

from edgeq.errors import FormatError
from edgeq.formats import strictjson

TEXT_BYTES_MAX = 16 << 20  # of any JSON or text file beside weights and tokenizers


def parse(text: bytes, where: str, marks_max: int = strictjson.MARKS_MAX) -> dict[str, Any]:
    """The object that `text` holds; FormatError names `where` for anything else."""
    value = strictjson.parse(text.removeprefix(codecs.BOM_UTF8), where, marks_max=marks_max)
    if not isinstance(value, dict):
        raise FormatError(f"{where} holds a JSON {type(value).__name__}, but an object is needed")
    return value


def inside(directory: Path, name: str) -> Path:
    """The path of file `name` in `directory`; FormatError when the name or a link leads outside.

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
            f"file name {name!r:.80} is refused; a plain name inside {directory.name!r} is needed"
        )
    root = directory.resolve()
    roots = [root]
    if root.parent.name == "snapshots":
        roots.append(root.parent.parent / "blobs")
    try:
        path = (root / name).resolve()
    except (OSError, RuntimeError):
        raise FormatError(f"file {name!r} is a link that leads nowhere; a file is needed") from None
    if path.parent not in roots:
        raise FormatError(
            f"file {name!r} is a link that leads outside {directory.name!r}; a file inside is needed"
        )
    return path


def text(directory: Path, name: str) -> str | None:
    """The UTF-8 text of a file in a directory, or None where there is no such file."""
    data = content(directory, name)
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: byte {error.start} is not UTF-8; UTF-8 text is needed") from None


def content(directory: Path, name: str, bytes_max: int = TEXT_BYTES_MAX) -> bytes | None:
    """The bytes of a file in a directory, at most bytes_max; None where there is no such file."""
    path = inside(directory, name)
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size > bytes_max:
        raise FormatError(f"{name}: {size} bytes are too many; at most {bytes_max} are allowed")
    with path.open("rb") as file:
        return file.read(bytes_max)


def start(directory: Path, name: str, length: int) -> bytes:
    """The first bytes of a file in a directory; none where there is no such file."""
    path = inside(directory, name)
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(length)


def load(
    directory: Path, name: str, bytes_max: int = TEXT_BYTES_MAX, marks_max: int = strictjson.MARKS_MAX
) -> dict[str, Any] | None:
    """The JSON object in a file of a directory, or None where there is no such file."""
    data = content(directory, name, bytes_max)
    return None if data is None else parse(data, name, marks_max)
