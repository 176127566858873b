"""What runs in a compiler, a process of its own that compiles kernels for the one that started it.

It reads from stdin a line of JSON, `compilers.setup`, and then requests, each a number of bytes and so many
bytes of pickle, which come from its parent alone. It answers each in turn on stdout: MARK, a kind, a number
of bytes, and so many bytes. Whatever else appears there was said by a library, or by LLVM when it gave up:
stdout and stderr are one pipe. It ends when stdin does, or when nobody reads any more.
"""

from __future__ import annotations

import gc
import os
import pickle
import struct
import sys
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from edgeq.formats.schemes import SCHEMES, Scheme

from . import isa, shortage
from .isa import ISA
from .sources import Module, Sources
from .tag import Request
from .target import Target

MARK = b"\0edgeq:answer\0"  # before an answer; in no text
HEADER = struct.Struct("<cQ")  # of an answer, after the mark: its kind, bytes of its body
LENGTH = struct.Struct("<I")  # of a request
OBJECT, SHORT, FAILED = b"o", b"m", b"f"  # an object file; a lack of memory, or another failure, in words
WORDS_MAX = 600  # characters of a failure's reason
SYMBOL = "kernel"  # what every object calls its function


class Answer(NamedTuple):
    """What came of a request."""

    kind: bytes  # OBJECT, SHORT or FAILED
    body: bytes


@dataclass(frozen=True)
class Order:
    """A request, with the rows of tables that it names: some may have been added while the parent ran."""

    request: Request
    target: Target
    scheme: Scheme | None
    isa: ISA

    @classmethod
    def of(cls, request: Request, target: Target) -> Order:
        tag = request[1]
        return cls(request, target, tag.scheme_row if tag.scheme else None, tag.isa_row)

    def enter_rows(self) -> None:
        """Add to this process's tables the rows that they lack."""
        if self.scheme:
            SCHEMES.setdefault(self.scheme.name, self.scheme)
        if self.isa.name not in {row.name for row in isa.ISAS}:
            isa.ISAS = (*isa.ISAS, self.isa)


def answer(known: Module, request: Request, target: Target) -> Answer:
    """Compile a kernel of the module's."""
    try:
        from .compile import compile_kernel

        return Answer(OBJECT, compile_kernel(known.entry(*request), SYMBOL, target))
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> Answer:
    """An exception as an answer."""
    short = shortage.behind(error)
    cause = short or error
    words = " ".join(str(cause).split())[:WORDS_MAX]
    reason = f"{type(cause).__name__}: {words}" if words else type(cause).__name__
    return Answer(SHORT if short else FAILED, reason.encode(errors="replace"))


def serve(module: str, digest: str) -> None:
    """Answer requests until there are no more, for kernels of the module: the parent's `Sources`."""
    gc.disable()  # numba makes objects by the million that stay, and they would be looked through each time
    known = Sources(module, digest).imported()
    try:
        same = known.digest() == digest
    except OSError:
        same = False
    while order := read_order(sys.stdin.buffer):
        if same:
            reply(answered(known, order))
        else:
            reply(Answer(FAILED, b"edgeq's sources have changed since this process began; start it anew"))


def answered(known: Module, order: bytes) -> Answer:
    try:
        read: Order = pickle.loads(order)
        read.enter_rows()
    except Exception as error:
        return failure(error)
    return answer(known, read.request, read.target)


def read_order(stream: BinaryIO) -> bytes:
    """The bytes of the next request; none at the end."""
    head = stream.read(LENGTH.size)
    return stream.read(*LENGTH.unpack(head)) if len(head) == LENGTH.size else b""


def reply(given: Answer) -> None:
    """Write an answer; OSError where nobody reads."""
    message = memoryview(MARK + HEADER.pack(given.kind, len(given.body)) + given.body)
    while message:
        message = message[os.write(1, message) :]
