"""What goes to a person's terminal: text of models and files without control characters, tables, one JSON
object.

A model, a file name or a header can hold escape sequences that move the cursor, set the title or write the
clipboard. On a terminal they are dropped one character at a time, so it does not matter how a sequence is cut
into tokens; into a pipe or a file the text goes as it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from edgeq.errors import EdgeqError
from edgeq.errors import size as size
from edgeq.whole import write_whole

# C0 but tab and newline, DEL, C1; marks, embeddings, overrides and isolates of writing direction; U+2028 and
# U+2029
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """`text` without control characters; tab and newline stay."""
    return CONTROLS.sub("", text)


def one_line(text: str) -> str:
    """`text` as one printable line."""
    return " ".join(clean(text).split())


def one_line_kept(text: str) -> str:
    """`text` as one printable line, its spaces as they are."""
    return clean(text).replace("\n", " ").replace("\t", " ")


def is_person() -> bool:
    """Whether stdin is someone who types."""
    return sys.stdin is not None and sys.stdin.isatty()


def width() -> int:
    """The columns that a line may have; the last one stays free, since some terminals break behind it."""
    return max(shutil.get_terminal_size().columns - 1, 1)


def write(text: str, stream: TextIO | None = None) -> None:
    """Write and flush `text` to stdout (or `stream`), cleaned when that is a terminal."""
    out = sys.stdout if stream is None else stream
    if text:
        out.write(clean(text) if out.isatty() else text)
        out.flush()


def draw(text: str, *, dim: bool = False) -> None:
    """Write and flush to stdout what is clean already but for what edgeq itself put in to move the cursor."""
    if text:
        sys.stdout.write(dimmed(text, sys.stdout) if dim else text)
        sys.stdout.flush()


def dimmed(text: str, stream: TextIO) -> str:
    """`text` as it is dimmed on `stream`: not at all where that is no terminal, or none that can (TERM=dumb),
    or where nobody wants it (NO_COLOR).
    """
    plain = not stream.isatty() or os.environ.get("TERM") == "dumb" or os.environ.get("NO_COLOR")
    return text if plain else f"\x1b[2m{text}\x1b[0m"


def say(text: str = "") -> None:
    """A line of a command's answer, on stdout."""
    write(text + "\n")


def note(text: str, *, dim: bool = False) -> None:
    """A line beside the answer, on stderr: always cleaned, always one line."""
    line = one_line(text)
    print(dimmed(line, sys.stderr) if dim else line, file=sys.stderr, flush=True)


class Status:
    """One line on stderr that is written again and again; nothing where stderr is no terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self.moves = not quiet and sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self.moves:
            sys.stderr.write(f"\r\x1b[K{one_line(text)[: width()]}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self.moves:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def say_json(value: Any) -> None:
    """One JSON object on stdout; no raw control characters can be in it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=sys.stdout.isatty(), allow_nan=False) + "\n")
    sys.stdout.flush()


def save_json(path: Path, value: Any) -> None:
    """One JSON object as a file, which appears whole."""
    data = json.dumps(value, allow_nan=False, indent=1).encode() + b"\n"
    try:
        write_whole(path, data, mode=0o666)
    except OSError as error:
        raise EdgeqError(f"{path} cannot be written: {error.strerror or error}") from None


def counted(count: int, what: str) -> str:
    """A number of things for people: '1 file', '2,000 files'."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """Columns under their heads; the first `left` columns are set left, the others (numbers) right."""
    lines = [list(head)] + [[one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
