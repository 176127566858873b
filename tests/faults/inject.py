"""Calls that can fail, counted, and one of them failed.

Patched are Python's own doors to the system (`os`, `open` and files, `mmap`, `fcntl`), the start of threads
and the arrays that edgeq asks numpy for. Not reached: what libraries in C or Rust do by themselves, memory
that Python itself asks for, and calls while a module is imported.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ERRNOS = (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EACCES, errno.ENOMEM)
OF_OS = (
    "open", "read", "write", "pread", "pwrite", "close", "fsync", "replace", "rename", "ftruncate",
    "truncate", "mkdir",
    "stat", "fstat", "lstat", "unlink", "chmod", "memfd_create", "scandir", "listdir", "statvfs", "dup",
    "dup2", "access",
    "readlink", "getcwd", "sched_getaffinity", "eventfd", "pipe",
)  # fmt: skip
OF_FILES = ("read", "readinto", "readline", "readlines", "write", "flush", "seek", "truncate", "close")
OF_NUMPY = ("zeros", "empty", "full", "ones", "concatenate", "arange", "ascontiguousarray", "outer")
ROOT = Path(__file__).resolve().parents[2]
SOURCES = tuple(str(ROOT / part) + os.sep for part in ("edgeq", "formats", "converters"))


class Injector:
    """Counts the calls of a command; the one numbered `fail` raises `error` in its place."""

    def __init__(self, fail: int = 0, error: BaseException | None = None) -> None:
        self.calls: list[
            str
        ] = []  # the kind of each call: "os", "memory" or "thread", and its name and place
        self._fail, self._error = fail, error
        self._armed = False

    def call(self, kind: str, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        place = caller() if self._armed else None
        if place is None:
            return function(*args, **kwargs)
        self.calls.append(f"{kind} {name} {place}")
        if len(self.calls) == self._fail:
            self._armed = False  # while the rest is set right for the failure
            if name.endswith("close"):
                function(*args, **kwargs)  # which the system does, whatever it says of it
            self._armed = True
            assert self._error is not None
            raise self._error
        return function(*args, **kwargs)

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Everything counted from here to the end."""
        doors: list[tuple[Any, str, Callable[..., Any]]] = [
            *((os, name, self._wrapped("os", os, name)) for name in OF_OS if hasattr(os, name)),
            *((np, name, self._wrapped("memory", np, name)) for name in OF_NUMPY),
            (mmap, "mmap", self._wrapped("os", mmap, "mmap")),
            (fcntl, "flock", self._wrapped("os", fcntl, "flock")),
            (builtins, "open", self._opening(open)),
            (io, "open", self._opening(io.open)),
            (threading.Thread, "start", self._starting(threading.Thread.start)),
            (sys, "stdout", File(self, sys.stdout)),  # type: ignore[list-item]
        ]
        with ExitStack() as patches:
            for owner, name, replacement in doors:
                patches.enter_context(mock.patch.object(owner, name, replacement))
            self._armed = True
            try:
                yield
            finally:
                self._armed = False

    def _wrapped(self, kind: str, owner: Any, name: str) -> Callable[..., Any]:
        function = getattr(owner, name)
        return lambda *args, **kwargs: self.call(kind, name, function, *args, **kwargs)

    def _opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: File(self, self.call("os", "open file", function, *args, **kwargs))

    def _starting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda thread: self.call("thread", "start", function, thread)


class File:
    """A file whose methods count."""

    def __init__(self, injector: Injector, file: Any) -> None:
        self._injector, self._file = injector, file

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if name not in OF_FILES:
            return found
        return lambda *args, **kwargs: self._injector.call("os", f"file.{name}", found, *args, **kwargs)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)


def caller() -> str | None:
    """Where in edgeq's sources a call comes from; None from elsewhere, or while a module is imported."""
    frame, place = sys._getframe(2), None
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return None
        if place is None and name.startswith(SOURCES):
            place = f"{Path(os.path.normpath(name)).name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return place


def errors_of(call: str) -> list[BaseException]:
    """What a call of that kind can raise."""
    kind = call.split()[0]
    if kind == "memory":
        return [MemoryError("Unable to allocate 1.00 GiB for an array")]
    if kind == "thread":
        return [RuntimeError("can't start new thread")]
    return [OSError(number, os.strerror(number)) for number in ERRNOS]
