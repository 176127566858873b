"""Files that a person names beside the model: prompts, texts, items."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from edgeq.errors import UsageError, printable, size

BYTES_MAX = 1 << 30  # of a text: more is a mistake, such as a model's file or a device without an end
PIECE_BYTES = 1 << 20


def read_bytes(file: str) -> bytes:
    """All bytes of a file, or of a pipe such as a shell's <(...); UsageError says why there are none."""
    name = printable(file)
    try:
        if Path(file).is_dir():
            raise UsageError(f"{name} is a directory, but a text file is needed: name a file in it")
        with open(file, "rb") as stream:
            return all_of(stream, name)
    except FileNotFoundError:
        raise UsageError(f"there is no file {name}: name one that is there, with its folder") from None
    except (OSError, ValueError) as error:  # a NUL in a name is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name} cannot be read ({reason}): name a text file that you may read") from None


def all_of(stream: BinaryIO, name: str) -> bytes:
    """All bytes that a stream gives; UsageError for more than BYTES_MAX. In pieces, for the room for as many
    bytes as are asked for is taken before the first one comes."""
    pieces, count = list[bytes](), 0
    while piece := stream.read(PIECE_BYTES):
        pieces.append(piece)
        count += len(piece)
        if count > BYTES_MAX:
            raise UsageError(f"{name} has more than {size(BYTES_MAX)}: give a part of it")
    return b"".join(pieces)


def utf8(data: bytes, what: str) -> str:
    """The text of some bytes; UsageError says where in `what` they are no UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{what} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}"
        ) from None


def without_newline(text: str) -> str:
    """A file's text without the newline that ends its last line."""
    return text[:-1] if text.endswith("\n") else text


def lines_of(file: str | None) -> list[str]:
    """The lines of a file, or of stdin for -, that are not empty; none without a file."""
    if file is None:
        return []
    data = all_of(sys.stdin.buffer, "stdin") if file == "-" else read_bytes(file)
    text = utf8(data, "stdin" if file == "-" else printable(file))
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
