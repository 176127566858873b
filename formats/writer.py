"""Write an .edgeq file: sizes first, data as a stream, checksums last; the target is whole or untouched."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeq.errors import EdgeqError, FormatError, UsageError

from .encoding import nbytes
from .header import HEADER_BYTES_MAX, PRELUDE_BYTES, dump_header, pack_prelude, parse_header, parse_tensors
from .layout import place
from .schemes import Scheme, scheme_of
from .temporary import create, remove_stale

NO_HASH = "0" * 32


@dataclass(frozen=True)
class TensorPlan:
    """A tensor that will be written; `extra` are further optional keys of its header entry."""

    name: str
    scheme: str | Scheme
    layout: str
    shape: Sequence[int]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data."""
        return nbytes(self.scheme, self.layout, self.shape)


class Writer:
    """Writes one file.  A context manager: without `commit` the temporary file goes and nothing has changed.

    `header` holds everything but "format" and "tensors".  Data follow in the order of `tensors`.  The same
    header, plan and data give the same bytes.  FormatError when header or plan break the specification.
    """

    def __init__(
        self, path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Sequence[TensorPlan]
    ) -> None:
        from xxhash import xxh3_128

        self.path = Path(path)
        if self.path.is_dir():
            raise UsageError(f"{self.path} is a directory, not a file to write")
        self._header: dict[str, Any] = {"format": "edgeq", **header, "tensors": []}
        self._header_bytes, self._file_bytes = self._plan(tensors)
        self._new_hash = xxh3_128
        self._hash = xxh3_128()
        self._current = 0  # index of the tensor being written
        self._written = 0  # bytes of it
        self._position = 0  # in the file
        self._open: bool = False
        self._create()

    @property
    def bytes_total(self) -> int:
        """Length of the finished file in bytes."""
        return self._file_bytes

    def write(self, name: str, *chunks: Any) -> None:
        """Append bytes-like chunks to the tensor `name`, whose turn it must be; again until it is full."""
        entries = self._header["tensors"]
        if not self._open:
            raise UsageError(f"writer of {self.path} is closed")
        if self._current >= len(entries) or entries[self._current]["name"] != name:
            turn = entries[self._current]["name"] if self._current < len(entries) else "no tensor"
            raise UsageError(f"tensor {name} is written out of order: it is the turn of {turn}")
        entry = entries[self._current]
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            if self._written + len(view) > entry["nbytes"]:
                raise UsageError(f"tensor {name} gets more than its {entry['nbytes']} bytes")
            if not self._written:
                self._pad_to(entry["offset"])
            self._hash.update(view)
            self._put(view)
            self._written += len(view)
        if self._written == entry["nbytes"]:
            entry["xxh3"] = self._hash.hexdigest()
            self._hash = self._new_hash()
            self._current += 1
            self._written = 0

    def finish(self) -> Path:
        """Fill in the checksums; UsageError when a tensor is not complete. The hidden file, which can be read
        now, and is whole, but is not in its place before `commit`.
        """
        entries = self._header["tensors"]
        if not self._open:
            raise UsageError(f"writer of {self.path} is closed")
        if self._current < len(entries):
            name = entries[self._current]["name"]
            raise UsageError(f"tensor {name} is not complete, so {self.path} cannot be finished")
        raw = dump_header(self._header)
        try:
            self._file.seek(0)
            self._file.write(pack_prelude(raw, self._file_bytes) + raw)
            self._file.flush()
        except OSError as error:
            self.abort()
            raise EdgeqError(f"{self.path} cannot be written: {error.strerror or error}") from None
        return self._temporary

    def commit(self) -> None:
        """Finish, sync, and move the file into place."""
        self.finish()
        try:
            os.fsync(self._file.fileno())
            if os.name == "nt":
                self._file.close()  # an open file cannot be renamed there
            os.replace(self._temporary, self.path)
        except OSError as error:
            self.abort()
            raise EdgeqError(f"{self.path} cannot be written: {error.strerror or error}") from None
        except BaseException:
            self.abort()
            raise
        self._open = False
        # The file is whole and in its place: what fails from here on makes it no less written.
        with contextlib.suppress(OSError):
            self._file.close()  # and with it goes the lock
        with contextlib.suppress(OSError):
            _sync_directory(self.path.parent)

    def abort(self) -> None:
        """Remove the temporary file; the target stays as it was.  Does nothing after `commit`."""
        if not self._open:
            return
        self._open = False
        try:
            self._file.close()
        except OSError:
            pass  # closing flushes, which fails again on a full disk; the file goes away all the same
        finally:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _plan(self, tensors: Sequence[TensorPlan]) -> tuple[int, int]:
        """Settle the header; (header bytes, file bytes).

        Offsets have digits, so the header's length depends on them and they on it.  Both only grow from one
        round to the next, so the rounds end.
        """
        entries = self._header["tensors"]
        for plan in tensors:
            row: dict[str, Any] = {
                "name": plan.name,
                "scheme": scheme_of(plan.scheme).name,
                "layout": plan.layout,
            }
            row |= {"shape": list(plan.shape), "offset": 0, "nbytes": plan.nbytes, "xxh3": NO_HASH}
            entries.append({**row, **{key: value for key, value in plan.extra.items() if key not in row}})
        header_bytes = 0
        while True:
            position = PRELUDE_BYTES + header_bytes
            for entry in entries:
                entry["offset"] = place(position, entry["nbytes"])
                position = entry["offset"] + entry["nbytes"]
            raw = dump_header(self._header)
            if len(raw) == header_bytes:
                break
            header_bytes = len(raw)
        if header_bytes > HEADER_BYTES_MAX:
            raise FormatError(f"header needs {header_bytes} bytes, more than the limit of {HEADER_BYTES_MAX}")
        # Checked by the reader's rules before anything is written, and a copy: a caller who goes on to change
        # what it passed would change the header's length.
        self._header = parse_header(raw)
        parse_tensors(self._header, header_bytes, position)
        return header_bytes, position

    def _create(self) -> None:
        try:
            remove_stale(self.path)
            free = shutil.disk_usage(self.path.parent).free
            if free < self._file_bytes:
                raise EdgeqError(f"{self.path} needs {self._file_bytes} bytes, but only {free} are free")
            self._temporary, self._file = create(self.path)
        except OSError as error:
            raise EdgeqError(f"{self.path} cannot be written: {error.strerror or error}") from None
        self._open = True
        try:
            self._put(bytes(PRELUDE_BYTES + self._header_bytes))
        except BaseException:
            self.abort()
            raise

    def _pad_to(self, offset: int) -> None:
        self._put(bytes(offset - self._position))

    def _put(self, data: Any) -> None:
        try:
            self._file.write(data)
            self._position += len(data)
        except OSError as error:
            raise EdgeqError(f"{self.path} cannot be written: {error.strerror or error}") from None


def _sync_directory(path: Path) -> None:
    """Make a rename in `path` survive a power cut; OSError where a directory cannot be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
