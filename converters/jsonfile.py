"""JSON and directories from strangers: limits, no key twice, no NaN, no name that leaves its directory."""

from __future__ import annotations

import codecs
import json
import math
from pathlib import Path
from typing import Any, NoReturn

from edgeq.errors import FormatError

TEXT_BYTES_MAX = 16 << 20  # of any JSON or text file beside the weights (tokenizers have their own reader)
MARKS_MAX = 1 << 21  # of , : [ { in a JSON text: bounds the values, and so the memory, that parsing can make


def parse(text: bytes, where: str) -> dict[str, Any]:
    """The object that `text` holds; FormatError names `where` for anything else."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            seen: set[str] = set()
            twice = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError(
                f"{where}: key {twice!r:.80} stands twice in one object; each key may stand once"
            )
        return found

    def constant(word: str) -> NoReturn:
        raise FormatError(f"{where}: {word} is no JSON number; only finite numbers are allowed")

    def number(word: str) -> float:
        value = float(word)
        if not math.isfinite(value):
            constant(word[:40])
        return value

    if sum(map(text.count, (b",", b":", b"[", b"{"))) > MARKS_MAX:
        raise FormatError(f"{where}: has more values than any real file; at most {MARKS_MAX} are allowed")
    try:
        decoded = text.decode("utf-8")
        value = json.loads(decoded, object_pairs_hook=pairs, parse_constant=constant, parse_float=number)
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{where}: byte {error.start} is not UTF-8; a UTF-8 JSON object is needed"
        ) from None
    except RecursionError:
        raise FormatError(f"{where}: JSON is nested too deeply; a plain object is needed") from None
    except ValueError as error:
        raise FormatError(f"{where}: not valid JSON ({error}); a JSON object is needed") from None
    if not isinstance(value, dict):
        raise FormatError(f"{where}: holds a JSON {type(value).__name__}, but an object is needed")
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


def content(directory: Path, name: str) -> bytes | None:
    """The bytes of a file in a directory, or None where there is no such file; at most TEXT_BYTES_MAX."""
    path = inside(directory, name)
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size > TEXT_BYTES_MAX:
        raise FormatError(f"{name}: {size} bytes are too many; at most {TEXT_BYTES_MAX} are allowed")
    with path.open("rb") as file:
        return file.read(TEXT_BYTES_MAX)


def start(directory: Path, name: str, length: int) -> bytes:
    """The first bytes of a file in a directory; none where there is no such file."""
    path = inside(directory, name)
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(length)


def load(directory: Path, name: str) -> dict[str, Any] | None:
    """The JSON object in a file of a directory, or None where there is no such file."""
    data = content(directory, name)
    return None if data is None else parse(data.removeprefix(codecs.BOM_UTF8), name)
