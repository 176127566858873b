"""Conversations in files, as {"messages": [{"role": ..., "content": ...}, ...]}, and texts for messages."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from edgeq.cli.files import utf8, without_newline
from edgeq.errors import EdgeqError, FormatError, UsageError, printable, quote
from edgeq.whole import resolved, write_whole

BYTES_MAX = 16 << 20  # as UTF-8 of the characters that a conversation may hold (edgeq.chat.INPUT_CHARS_MAX)
DEPTH_MAX = 16


def path_of(words: str) -> Path:
    """The path that a person wrote: in quotes or not, with ~ for their folder."""
    if len(words) > 1 and words[0] == words[-1] and words[0] in "'\"":
        words = words[1:-1]
    if not words or "\0" in words:
        raise UsageError(f"{quote(words)} is no path of a file")
    return Path(os.path.expanduser(words))


def read_text(path: Path) -> str:
    """A file's text, without the newline at its end. UsageError where it is no text in UTF-8."""
    return without_newline(utf8(_read(path), printable(str(path))))


def load(path: Path) -> dict[str, Any]:
    """A conversation as `save` wrote it, or a list of messages. UsageError where the file holds no such
    thing."""
    from edgeq.chat import ROLES
    from edgeq.formats.strictjson import parse

    where = printable(str(path))
    try:
        data = parse(_read(path), where, depth_max=DEPTH_MAX)
    except FormatError as error:
        raise UsageError(f"{error}, so it is no saved conversation") from None
    messages = data.get("messages") if isinstance(data, dict) else data
    if not isinstance(messages, list):
        raise UsageError(f'{where} is no saved conversation, which is {{"messages": [...]}}')
    for number, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLES:
            raise UsageError(f"message {number} in {where} has no role such as user or assistant")
        if not isinstance(message.get("content"), str):
            raise UsageError(f"message {number} in {where} has no text as its content")
        if role == "system" and number > 1:
            raise UsageError(f"message {number} in {where} is the system's, which can only be the first")
    return {"messages": messages}


def save(path: Path, conversation: dict[str, Any]) -> None:
    """Write a conversation, for its owner to read. A file that holds something else is not replaced."""
    if os.path.exists(path):  # which Path.exists raises for a folder that may not be read, or a name too long
        try:
            load(path)
        except EdgeqError:
            raise UsageError(
                f"{printable(str(path))} exists and is no saved conversation, so it is not replaced"
            ) from None
    data = json.dumps(conversation, ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n"
    try:
        write_whole(resolved(path), data)
    except OSError as error:
        raise EdgeqError(f"{printable(str(path))} cannot be written: {error.strerror or error}") from None


def _read(path: Path) -> bytes:
    """The bytes of a regular file of at most BYTES_MAX."""
    where = printable(str(path))
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{where} is no regular file")
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror or error}") from None
    if len(data) > BYTES_MAX:
        raise UsageError(f"{where} has more than {BYTES_MAX >> 20} MiB, too much for a conversation")
    return data
