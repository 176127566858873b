"""Files of named arrays and a few words about them, as safetensors lays them out: written as a stream, read
as a map.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from edgeq.errors import EdgeqError, FormatError, UsageError

from .foreign import HEAD_BYTES, SAFETENSORS, kind_of
from .strictjson import parse
from .temporary import create, remove_stale

Array = np.ndarray[Any, Any]

HEADER_MAX = 16 << 20
ALIGNMENT = 64
NOTHING = np.empty(0, np.uint8)
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]  # by name: a word of DTYPES, the extents


class ArraysWriter:
    """Writes a file of arrays in the order of `shapes`. A context manager: what is not committed is gone."""

    def __init__(self, path: str | os.PathLike[str], about: Mapping[str, str], shapes: Shapes):
        self.path = Path(path)
        entries, at = dict[str, Any](), 0
        for name, (word, shape) in shapes.items():
            nbytes = prod(shape) * np.dtype(DTYPES[word]).itemsize
            entries[name] = {"dtype": word, "shape": list(shape), "data_offsets": [at, at + nbytes]}
            at += nbytes
        raw = json.dumps({"__metadata__": dict(about), **entries}).encode()
        raw += b" " * (-(8 + len(raw)) % ALIGNMENT)
        if len(raw) > HEADER_MAX:
            raise UsageError(f"{self.path} would have a header of {len(raw)} bytes, more than {HEADER_MAX}")
        self._left = list(shapes.items())
        self._file: BinaryIO | None = None
        try:
            remove_stale(self.path)
            self._temporary, self._file = create(self.path)
            self._file.write(len(raw).to_bytes(8, "little") + raw)
        except OSError as error:
            self.abort()
            raise self._failed(error) from None

    def write(self, name: str, array: Array) -> None:
        """The next array, whose name, dtype and shape must be those that were announced."""
        assert self._file is not None
        wanted, (word, shape) = self._left.pop(0)
        if name != wanted or array.shape != shape:
            raise UsageError(f"array {name} {array.shape} is written where {wanted} {shape} is due")
        try:
            self._file.write(np.ascontiguousarray(array, DTYPES[word]).tobytes())
        except OSError as error:
            self.abort()
            raise self._failed(error) from None

    def commit(self) -> None:
        """Sync, and move the file into place."""
        assert self._file is not None
        if self._left:
            raise UsageError(f"array {self._left[0][0]} is missing, so {self.path} cannot be finished")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            if os.name == "nt":
                self._file.close()  # an open file cannot be renamed there
            os.replace(self._temporary, self.path)
        except OSError as error:
            self.abort()
            raise self._failed(error) from None
        # The file is whole and in its place: what fails from here on makes it no less written.
        file, self._file = self._file, None
        with contextlib.suppress(OSError):
            file.close()

    def abort(self) -> None:
        """Remove what was written; does nothing after `commit`."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError:
            pass  # closing flushes, which fails again on a full disk; the file goes away all the same
        finally:
            self._temporary.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> EdgeqError:
        return EdgeqError(f"{self.path} cannot be written: {error.strerror or error}")

    def __enter__(self) -> ArraysWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def open_arrays(path: str | os.PathLike[str], what: str) -> tuple[dict[str, str], dict[str, Array]]:
    """The words and the arrays, mapped read-only, of a file whose words say `format` is `what`.

    FormatError for another file, and where extents and offsets do not go together; EdgeqError where it cannot
    be read.
    """
    where = f"{path} is no file of {what}"
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):  # a pipe would be waited for
            raise UsageError(f"{path} is not a regular file")
        nbytes = facts.st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= HEADER_MAX or 8 + length > nbytes:
                file.seek(0)
                kind = kind_of(file.read(HEAD_BYTES))
                if kind is not None and kind is not SAFETENSORS:
                    raise FormatError(f"{where} but {kind.what}")
                raise FormatError(f"{where}: its header would have {length} bytes")
            raw = file.read(length)
            mapped = np.memmap(file, np.uint8, "r", 8 + length) if nbytes > 8 + length else NOTHING
    except OSError as error:
        raise EdgeqError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError:  # a NUL in the name, or a file that became shorter
        raise EdgeqError(f"{path} cannot be read") from None
    header = parse(raw, f"the header of {path}", depth_max=8)
    about = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(about, dict) or about.get("format") != what:
        raise FormatError(f"{where}: its header does not say so")
    if not all(isinstance(value, str) for value in about.values()):
        raise FormatError(f"{where}: its metadata are not all texts")
    arrays, at = dict[str, Array](), 0
    for name, entry in header.items():
        word, shape, offsets = (
            (entry.get(k) for k in ("dtype", "shape", "data_offsets"))
            if isinstance(entry, dict)
            else (None, None, None)
        )
        if not isinstance(word, str) or word not in DTYPES or not isinstance(shape, list) or len(shape) > 4:
            raise FormatError(f"{where}: array {name!r:.80} has no dtype and shape that are known")
        if not all(type(n) is int and 0 < n < 1 << 40 for n in shape):
            raise FormatError(f"{where}: array {name!r:.80} has extents that are none")
        end = at + prod(shape) * np.dtype(DTYPES[word]).itemsize
        if offsets != [at, end] or end > len(mapped):
            raise FormatError(f"{where}: array {name!r:.80} does not lie where its shape says")
        arrays[name], at = mapped[at:end].view(DTYPES[word]).reshape(shape), end
    if at != len(mapped):
        raise FormatError(f"{where}: {len(mapped) - at} bytes belong to no array")
    return about, arrays
