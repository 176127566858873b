"""Documents of calibration text, from files and to files.

A file is read by its name: `.jsonl` has an object or a string a line, `.json` a list of them, any other is
plain text in UTF-8. An object has a `text` or `messages` (of a dialogue, each with a role and a content), and
may say its `source` and `domain`; what else it holds is left aside. Plain text is cut at form feeds, and
between these at blank lines into documents of up to PIECE_CHARS characters.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from edgeq.errors import EdgeqError, FormatError, UsageError, printable, quote, shown, size
from edgeq.formats.strictjson import parse
from edgeq.formats.temporary import create, remove_stale

PIECE_CHARS = 4000  # of a document that is cut out of plain text
FILE_BYTES_MAX = 32 << 20
DOCUMENTS_MAX = 1 << 18  # of a file
MARKS_MAX = 1 << 22  # , : [ { in a .json file
MESSAGES_MAX = 1000
NAME_CHARS_MAX = 200  # of a source or a domain
DEPTH_MAX = 32
ROLES = ("system", "developer", "user", "assistant", "tool")
SHIPPED = Path(__file__).parent / "text"


class Message(NamedTuple):
    """A turn of a dialogue."""

    role: str  # one of ROLES
    content: str


@dataclass(frozen=True)
class Document:
    """A text that is read on its own: plain (`text`) or a dialogue (`messages`), never both."""

    source: str  # the name of the file that it is from, without its folder
    domain: str  # what it is about; texts are balanced over these
    text: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def plain(self) -> str:
        """The text; of a dialogue what its messages say, with a blank line between two."""
        return self.text or "\n\n".join(message.content for message in self.messages)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of `plain` in UTF-8."""
        return len(self.plain.encode())

    def to_json(self) -> dict[str, Any]:
        """As a line of a file has it: {"text" or "messages", "source", "domain"}."""
        what: dict[str, Any] = {"text": self.text}
        if self.messages:
            what = {"messages": [message._asdict() for message in self.messages]}
        return {**what, "source": self.source, "domain": self.domain}


def default_texts() -> list[Document]:
    """The text that comes with edgeq, the files in the order of their names."""
    found: list[Document] = []
    for path in sorted(SHIPPED.iterdir()):
        if path.suffix == ".txt":
            found += read([path])[1:]  # the first is the file's notice
        elif path.suffix == ".jsonl":
            found += read([path])
    return found


# ---- from files ----
def read(paths: Iterable[str | os.PathLike[str]]) -> list[Document]:
    """The documents of files, in their order. A document that does not say its domain has the file's name
    without its ending.

    Raises UsageError for what is no regular file or cannot be read, FormatError, which begins with the path
    (and the line), for what breaks the rules above, holds no text, or is larger than the limits.
    """
    if isinstance(paths, str | os.PathLike):
        raise UsageError(f"paths is {shown(paths)}, but must be a list of paths.")
    return [document for path in paths for document in _documents(Path(path))]


def _documents(path: Path) -> list[Document]:
    where = printable(os.fspath(path))
    data = _content(path, where)
    name = printable(path.name)[:NAME_CHARS_MAX]
    domain = printable(path.stem)[:NAME_CHARS_MAX]
    kind = path.suffix.lower()
    if kind == ".jsonl":
        found = _lines(data, where, name, domain)
    elif kind == ".json":
        found = _list(data, where, name, domain)
    else:
        found = (Document(name, domain, piece) for piece in pieces(_utf8(data, where)))
    documents: list[Document] = []
    for document in found:
        if len(documents) == DOCUMENTS_MAX:
            raise FormatError(f"{where} has more than {DOCUMENTS_MAX} documents")
        documents.append(document)
    if not documents:
        raise FormatError(f"{where} holds no text, but some is needed")
    return documents


def _content(path: Path, where: str) -> bytes:
    """The bytes of a regular file, without a byte-order mark."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{where} is not a regular file")
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"{where} cannot be read: {why}; name a text file that can be") from None
    except ValueError:  # a NUL in the name
        raise UsageError(f"{where} is no path") from None
    if len(data) > FILE_BYTES_MAX:
        raise FormatError(f"{where} has more than {size(FILE_BYTES_MAX)}: give a part of it")
    return data.removeprefix(codecs.BOM_UTF8)


def _without_waiting(path: str, flags: int) -> int:
    """A pipe that nobody writes into is opened at once, and refused."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _utf8(data: bytes, where: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{where} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}"
        ) from None
    if "\0" in text:
        raise FormatError(f"{where} is no text: byte {data.index(0)} is zero")
    return text


def pieces(text: str) -> Iterator[str]:
    """The documents of a plain text: see the module. None is only white space, and all letters are in one."""
    for section in text.replace("\r\n", "\n").replace("\r", "\n").split("\f"):
        piece = ""
        for part in re.split(r"\n(?:[^\S\n]*\n)+", section):
            for short in _shortened(part.rstrip().strip("\n")):
                if piece and len(piece) + 2 + len(short) > PIECE_CHARS:
                    yield piece
                    piece = ""
                piece = f"{piece}\n\n{short}" if piece else short
        if piece:
            yield piece


def _shortened(paragraph: str) -> Iterator[str]:
    """A paragraph in parts of up to PIECE_CHARS: cut after lines, else between words, else anywhere."""
    start, end = 0, len(paragraph)
    while end - start > PIECE_CHARS:
        limit = start + PIECE_CHARS
        cut = max(paragraph.rfind("\n", start + 1, limit), 0) or max(
            paragraph.rfind(" ", start + 1, limit), 0
        )
        part = paragraph[start : cut or limit]
        start = cut + 1 if cut else limit
        if part.strip():
            yield part.rstrip()
    if paragraph[start:].strip():
        yield paragraph[start:]


def _lines(data: bytes, where: str, name: str, domain: str) -> Iterator[Document]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            place = f"{where}, line {number},"
            yield _document(parse(line, place, depth_max=DEPTH_MAX), place, name, domain)


def _list(data: bytes, where: str, name: str, domain: str) -> Iterator[Document]:
    rows = parse(data, where, marks_max=MARKS_MAX, depth_max=DEPTH_MAX)
    if not isinstance(rows, list):
        raise FormatError(f"{where} is no list of texts")
    for number, row in enumerate(rows):
        yield _document(row, f"{where}, item {number},", name, domain)


def _document(row: object, where: str, name: str, domain: str) -> Document:
    """A string, or an object with `text` or `messages`."""
    if isinstance(row, str):
        return Document(name, domain, _text(row, where, "text"))
    if not isinstance(row, dict):
        raise FormatError(f"{where} is neither a text nor an object with 'text' or 'messages'")
    if ("text" in row) == ("messages" in row):
        raise FormatError(f"{where} must have either 'text' or 'messages'")
    source, about = _name(row, "source", name, where), _name(row, "domain", domain, where)
    if "text" in row:
        return Document(source, about, _text(row["text"], where, "text"))
    return Document(source, about, messages=tuple(_messages(row["messages"], where)))


def _messages(rows: object, where: str) -> Iterator[Message]:
    if not isinstance(rows, list) or not 0 < len(rows) <= MESSAGES_MAX:
        raise FormatError(f"{where} has messages that are no list of 1 to {MESSAGES_MAX}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(Message._fields):
            raise FormatError(
                f"{where} has a message {number} that is no object of 'role' and 'content' alone"
            )
        if row["role"] not in ROLES:
            raise FormatError(
                f"{where} has a message {number} of the role {quote(row['role'])}, which is none of "
                f"{', '.join(ROLES)}"
            )
        yield Message(row["role"], _text(row["content"], where, f"message {number}"))


def _text(value: object, where: str, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise FormatError(f"{where} has a {what} that holds no text")
    if "\0" in value:
        raise FormatError(f"{where} has a {what} with the character U+0000")
    return value


def _name(row: dict[str, Any], key: str, otherwise: str, where: str) -> str:
    value = row.get(key, otherwise)
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARS_MAX or not value.isprintable():
        raise FormatError(f"{where} has a {key} that is no line of 1 to {NAME_CHARS_MAX} characters")
    return value


# ---- to files ----
def encoded(documents: Sequence[Document]) -> bytes:
    """JSON lines in UTF-8, which `read` takes back as they were."""
    rows = (json.dumps(document.to_json(), ensure_ascii=False) for document in documents)
    return "".join(f"{row}\n" for row in rows).encode()


def write(path: str | os.PathLike[str], documents: Sequence[Document]) -> None:
    """The documents as a file of JSON lines, which appears when it is complete and replaces what was there.
    UsageError where there are none, or the name does not end as one of such files does; EdgeqError where it
    cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".jsonl":
        raise UsageError(f"{target} holds JSON lines: give it a name that ends with .jsonl")
    if not documents:
        raise UsageError(f"there are no documents to write into {target}")
    data = encoded(documents)
    try:
        remove_stale(target)
        temporary, file = create(target)
        try:
            with file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EdgeqError(f"{target} cannot be written: {error.strerror or error}") from None
