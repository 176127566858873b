"""Open an .edgeq file: check its head, map it read-only, hand out views.  Nothing is copied or run."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from edgeq.errors import EdgeqError, FormatError, OutOfMemoryError, UsageError, printable, shown, size

from .encoding import decode, row_blocks, views
from .header import AGAIN, PRELUDE_BYTES, Entry, Prelude, parse_header, parse_prelude, parse_tensors
from .layout import Geometry, geometry
from .schemes import TILE_ROWS, Array, Scheme


class FileMap:
    """A file's bytes, uint8 and read-only.  Views keep the memory alive; closing only lets go of it."""

    def __init__(self, whole: Array, path: Path) -> None:
        self.path = path
        self._bytes: Array | None = whole

    @classmethod
    def of(cls, file: BinaryIO, file_bytes: int, path: Path) -> FileMap:
        """Map an open file; UsageError when that fails, OutOfMemoryError for want of memory."""
        try:
            mapped = mmap.mmap(file.fileno(), file_bytes, access=mmap.ACCESS_READ)
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            short = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
            kind = OutOfMemoryError if short else UsageError  # it may have shrunk just now
            raise kind(f"its {size(file_bytes)} cannot be mapped: {error}") from None
        return cls(np.frombuffer(mapped, np.uint8), path)

    def view(self, offset: int, nbytes: int) -> Array:
        """uint8 [nbytes], read-only; UsageError when the file was closed."""
        if self._bytes is None:
            raise UsageError(f"{self.path} was closed")
        return self._bytes[offset : offset + nbytes]

    def close(self) -> None:
        """Let go of the map; views handed out earlier stay valid."""
        self._bytes = None


def map_of(view: Array) -> mmap.mmap | None:
    """The map that an array from `FileMap.view` lies in; None for an array of other memory."""
    base: Any = view
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    return base if hasattr(base, "madvise") else None


class Tensor:
    """One tensor of an open file: what the header says of it, and zero-copy read-only views of its data."""

    def __init__(self, entry: Entry, mapped: FileMap) -> None:
        self.name: str = entry.name
        self.scheme: Scheme = entry.scheme
        self.layout: str = entry.layout
        self.shape: tuple[int, ...] = entry.shape
        self.offset: int = entry.offset
        self.nbytes: int = entry.nbytes
        self.xxh3: str = entry.xxh3
        self.geometry: Geometry = geometry(entry.scheme, entry.layout, entry.shape)
        self._map = mapped

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.scheme.name}, {self.layout}, {list(self.shape)})"

    @property
    def rows_padded(self) -> int:
        """Rows with padding, a multiple of 16 in lines16."""
        return self.geometry.rows_padded

    @property
    def cols_padded(self) -> int:
        """Columns with padding, a multiple of the scheme's step."""
        return self.geometry.cols_padded

    @property
    def tiles(self) -> int:
        """Tiles of 16 rows; 0 in plain."""
        return self.geometry.tiles

    @property
    def data(self) -> Array:
        """All bytes: uint8 [nbytes].  The address is a multiple of 64, of the page size from 1 MiB on."""
        return self._map.view(self.offset, self.nbytes)

    @property
    def parts(self) -> dict[str, Array]:
        """The arrays that the tensor is made of, by the names of `Scheme.parts`, in the order of the file.

        In lines16 codes are uint8 [tiles, lines, 64] and numbers [tiles, entries, 16]; in plain the one part
        "value" is [rows, columns], a vector one row. bf16 elements are uint16, e8m0 elements and bytes uint8.
        """
        return views(self.data, self.geometry)

    def part(self, name: str) -> Array:
        """One of `parts`; UsageError when the scheme has none of that name."""
        if name not in self.geometry.spans:
            raise UsageError(f"tensor {self.name} of scheme {self.scheme.name} has no part {name}")
        return self.parts[name]

    def array(self) -> Array:
        """The tensor's numbers: a fresh float32 array of the logical shape."""
        return decode(self.data, self.scheme, self.shape, self.layout)

    def blocks(self) -> Iterator[Array]:
        """The same a few rows at a time, float32 [rows, columns]: a large matrix takes little memory."""
        rows, cols = self.geometry.rows, self.geometry.cols
        if not self.tiles:
            yield self.array().reshape(rows, cols)
            return
        parts = self.parts.values()
        for start, stop in row_blocks(rows, cols):
            tiles = slice(start // TILE_ROWS, -(-stop // TILE_ROWS))
            data = np.concatenate([part[tiles].reshape(-1).view(np.uint8) for part in parts])
            yield decode(data, self.scheme, (stop - start, cols), self.layout)


class ModelFile:
    """An open .edgeq file; a context manager.  Reading it from several threads is safe."""

    def __init__(
        self,
        path: Path,
        prelude: Prelude,
        header: dict[str, Any],
        tensors: dict[str, Tensor],
        mapped: FileMap,
    ) -> None:
        self.path = path
        self.prelude = prelude
        self.header = header
        self.tensors = tensors
        self._map = mapped

    @property
    def family(self) -> str:
        """The model family's name, such as "llama"."""
        return str(self.header["family"])

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration in Hugging Face's words, unchecked."""
        config: dict[str, Any] = self.header["config"]
        return config

    @property
    def bytes_total(self) -> int:
        """Length of the file in bytes."""
        return self.prelude.file_bytes

    def view(self, offset: int, nbytes: int) -> Array:
        """uint8 [nbytes] of the file from `offset`, zero copy."""
        return self._map.view(offset, nbytes)

    def close(self) -> None:
        """Let go of the file.  Arrays handed out earlier stay valid and keep their memory mapped."""
        self._map.close()

    def __enter__(self) -> ModelFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ModelFile({str(self.path)!r}, {self.family}, {len(self.tensors)} tensors)"


def open_regular(path: str | os.PathLike[str]) -> tuple[BinaryIO, int]:
    """(file, length) of a regular file, open for reading; UsageError, without waiting, for anything else.

    The file is looked at before, since opening a pipe waits, and after: it may be another by then.
    """
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
        if regular:
            file = open(path, "rb")  # noqa: SIM115  (an object from its first moment: no exception leaves it open)
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                return file, status.st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{printable(str(path))} cannot be opened: {reason}") from None
    raise UsageError(f"{printable(str(path))} is not a regular file")


def open_model(path: str | os.PathLike[str]) -> ModelFile:
    """Open and check an .edgeq file; its tensors' bytes are mapped, not read (`verify` reads them).

    FormatError when the file breaks its specification, UnsupportedError when it needs a newer reader,
    UsageError when it cannot be opened, OutOfMemoryError when it cannot be mapped for want of memory.  Every
    message starts with the path.
    """
    try:
        where = Path(path)
    except TypeError:
        raise UsageError(f"the path is {shown(path)}, but must be a text or an os.PathLike") from None
    file, file_bytes = open_regular(where)
    with file:
        try:
            prelude = parse_prelude(file.read(PRELUDE_BYTES), file_bytes)
            raw = file.read(prelude.header_bytes)
            if zlib.crc32(raw) != prelude.header_crc:
                raise FormatError(f"header is damaged: its CRC-32 does not match; {AGAIN}")
            header = parse_header(raw)
            entries = parse_tensors(header, prelude.header_bytes, file_bytes)
            mapped = FileMap.of(file, file_bytes, where)
        except EdgeqError as error:
            raise type(error)(f"{printable(str(where))}: {error}") from None
    return ModelFile(where, prelude, header, {entry.name: Tensor(entry, mapped) for entry in entries}, mapped)
