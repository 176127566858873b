"""Open a GGUF file (versions 2 and 3, little-endian): metadata as Python values, tensors as zero-copy views.

Written from the format's description, for files from anywhere: every count and length is a Python integer,
held against a limit and the bytes that are left before anything is read, copied or allocated by it.
Knows no model: what a key or tensor means is the converter's business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeq.errors import EdgeqError, FormatError, UnsupportedError, UsageError

from .foreign import AGAIN, HEAD_BYTES, refusal
from .ggml import NUMBERED, described, name_of
from .gguf_cursor import HEADER_BYTES_MAX, UINT32, Cursor
from .layout import round_up
from .reader import FileMap, open_regular
from .schemes.numbers import Array

MAGIC = b"GGUF"
VERSIONS = (2, 3)
KEY_BYTES_MAX = 64 << 10
TENSOR_NAME_BYTES_MAX = 256
KEYS_MAX = TENSORS_MAX = 1 << 16  # a hundred times what large models have
DIMENSIONS_MAX = 4
ALIGNMENT_DEFAULT = 32
KEY_VALUE_BYTES_MIN = 14  # key length, one byte of key, value type, one byte of value
TENSOR_BYTES_MIN = 33  # name length, one byte of name, dimension count, one dimension, type, offset

PARTS_MAX = 256  # of one model; each is a mapped file
PART_NAME = re.compile(r"(?P<stem>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)

_TENSOR_BYTES = 512  # of a tensor, without its name


@dataclass(frozen=True)
class _Row:
    """A tensor as the header describes it."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int  # from the start of the data section


class GGUFTensor:
    """One tensor: its type's name ("type 199" without one), shape in NumPy's order [rows, cols], bytes."""

    def __init__(self, row: _Row, offset: int, nbytes: int, mapped: FileMap) -> None:
        self.name: str = row.name
        self.type: str = name_of(row.type_number)
        self.type_number: int = row.type_number
        self.shape: tuple[int, ...] = row.shape
        self.offset: int = offset
        self.nbytes: int = nbytes
        self._map = mapped

    @property
    def data(self) -> Array:
        """uint8 [nbytes], read-only; UnsupportedError where the type, and so the length, is unknown."""
        if self.type_number not in NUMBERED:
            raise UnsupportedError(
                f"tensor {self.name} is {described(self.type_number)}, which cannot be read"
            )
        return self._map.view(self.offset, self.nbytes)

    def __repr__(self) -> str:
        return f"GGUFTensor({self.name!r}, {self.type}, {list(self.shape)})"


class GGUFFile:
    """An open GGUF model, of one file or of several; a context manager."""

    def __init__(
        self,
        paths: Sequence[Path],
        version: int,
        metadata: dict[str, Any],
        tensors: dict[str, GGUFTensor],
        mapped: Sequence[FileMap],
        header_bytes: int,
    ) -> None:
        self.paths = tuple(paths)
        self.version = version
        self.metadata = metadata  # int, float, bool, str, a list of these, or Strings
        self.tensors = tensors  # in the file's order
        self.header_bytes = header_bytes  # of the headers and the values made of them
        self._maps = tuple(mapped)

    @property
    def path(self) -> Path:
        """The file, or the first of several."""
        return self.paths[0]

    def close(self) -> None:
        """Let go of the files.  Arrays handed out earlier stay valid and keep their memory mapped."""
        for mapped in self._maps:
            mapped.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Open and check a GGUF file; tensor data are mapped, not read.  A vocabulary without tensors is fine.

    Of a model in several files any may be named; the others are found beside it (see `part_paths`), and the
    metadata are the first's.  FormatError when a file is damaged or passes a limit, UnsupportedError for
    other versions and byte orders, UsageError when it cannot be opened or is missing.  Every message starts
    with the path.
    """
    where = Path(path)
    file = _open_one(where)
    count = file.metadata.get("split.count", 1)
    if type(count) is not int or count > PARTS_MAX:
        raise FormatError(
            f"{where}: split.count is {ascii(count)[:40]}, but a model has at most {PARTS_MAX} parts"
        )
    if count <= 1:
        return file
    paths = part_paths(where)
    if len(paths) != count:
        raise FormatError(
            f"{where}: it is one of {count} parts, but its name does not end in a part's "
            f"-00001-of-{count:05}.gguf, by which the others are found"
        )
    parts, spent = [], file.header_bytes
    for part in paths:
        parts.append(file if part == where else _open_part(part, where, spent))
        spent = max(spent, parts[-1].header_bytes)
    return _joined(parts, spent)


def part_paths(path: Path) -> list[Path]:
    """The files of a model that `path` is a part of, by its name alone; the path itself for other names."""
    found = PART_NAME.fullmatch(path.name)
    if found is None or not 1 <= int(found["number"]) <= int(found["count"]) <= PARTS_MAX:
        return [path]
    return [
        path.with_name(f"{found['stem']}-{number:05}-of-{found['count']}.gguf")
        for number in range(1, int(found["count"]) + 1)
    ]


def _open_one(where: Path, spent: int = 0) -> GGUFFile:
    file, file_bytes = open_regular(where)
    with file:
        try:
            _check_start(file.read(HEAD_BYTES))
            return parse(FileMap.of(file, file_bytes, where), file_bytes, spent)
        except EdgeqError as error:
            raise type(error)(f"{where}: {error}") from None


def _open_part(part: Path, where: Path, spent: int) -> GGUFFile:
    if not part.exists():
        raise UsageError(
            f"{part} is missing: {where.name} is one of several parts of a model, and all are needed"
        )
    return _open_one(part, spent)


def _joined(parts: list[GGUFFile], header_bytes: int) -> GGUFFile:
    """One file of all parts, in their order."""
    tensors: dict[str, GGUFTensor] = {}
    for number, part in enumerate(parts):
        metadata = part.metadata
        place = metadata.get("split.no"), metadata.get("split.count")
        if place != (number, len(parts)):
            raise FormatError(
                f"{part.path}: split.no and split.count are {ascii(place)[:80]}, but by its name it is part "
                f"{number + 1} of {len(parts)}, {(number, len(parts))}"
            )
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise FormatError(f"{part.path}: tensor {name} is in an earlier part, too")
            tensors[name] = tensor
        if len(tensors) > TENSORS_MAX:
            raise FormatError(
                f"{part.path}: the parts so far have more than the limit of {TENSORS_MAX} tensors"
            )
    first = parts[0]
    total = first.metadata.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise FormatError(
            f"{first.path}: split.tensors.count is {ascii(total)[:40]}, but the parts hold {len(tensors)}"
        )
    paths = [part.path for part in parts]
    maps = [mapped for part in parts for mapped in part._maps]
    return GGUFFile(paths, first.version, first.metadata, tensors, maps, header_bytes)


def _check_start(raw: bytes) -> None:
    if raw[:4] != MAGIC:
        raise FormatError(refusal(raw, "a GGUF file", MAGIC))
    if len(raw) < 8:
        raise FormatError(f"cut off: {len(raw)} bytes, but magic and version alone have 8; {AGAIN}")
    version = int.from_bytes(raw[4:8], "little")
    if version not in VERSIONS:
        if int.from_bytes(raw[4:8], "big") in VERSIONS:
            raise UnsupportedError(
                "GGUF file is big-endian; only little-endian files can be read: get one that is"
            )
        raise UnsupportedError(
            f"GGUF version is {version}; versions {' and '.join(map(str, VERSIONS))} can be read: "
            "get the model as one of these"
        )


def parse(mapped: FileMap, file_bytes: int, spent: int = 0) -> GGUFFile:
    """What `open_gguf` does with a file whose magic and version are right; `spent` bytes went to the headers
    of other parts."""
    cursor = Cursor(mapped.view(0, min(file_bytes, HEADER_BYTES_MAX)), file_bytes, spent)
    cursor.take(4, "magic")
    version = cursor.integer("<I", "version")
    tensor_count = cursor.count("tensor count", TENSOR_BYTES_MIN, TENSORS_MAX)
    pair_count = cursor.count("metadata count", KEY_VALUE_BYTES_MIN, KEYS_MAX)
    metadata: dict[str, Any] = {}
    types: dict[str, int] = {}
    for number in range(pair_count):
        key = cursor.name(f"key number {number}", KEY_BYTES_MAX)
        if key in metadata:
            raise FormatError(f"metadata key {key[:80]} appears twice")
        what = f"metadata key {key[:80]}"
        types[key] = cursor.integer("<I", what)
        metadata[key] = cursor.value(types[key], what, 0)
    rows = [_tensor_row(cursor, number) for number in range(tensor_count)]
    alignment = metadata.get("general.alignment", ALIGNMENT_DEFAULT)
    if types.get("general.alignment", UINT32) != UINT32 or alignment < 1 or alignment & (alignment - 1):
        raise FormatError(
            f"general.alignment is {ascii(alignment)[:40]}, but must be a uint32 that is a power of two"
        )
    start = round_up(cursor.position, alignment)
    tensors = _place(rows, start, alignment, file_bytes, mapped)
    return GGUFFile([mapped.path], version, metadata, tensors, [mapped], cursor.spent)


def _tensor_row(cursor: Cursor, number: int) -> _Row:
    name = cursor.name(f"name of tensor number {number}", TENSOR_NAME_BYTES_MAX)
    what = f"tensor {name}"
    cursor.spend(_TENSOR_BYTES, what)
    dimensions = cursor.integer("<I", what)
    if not 1 <= dimensions <= DIMENSIONS_MAX:
        raise FormatError(f"{what} has {dimensions} dimensions, but 1 to {DIMENSIONS_MAX} are allowed")
    sizes = [cursor.integer("<Q", what) for _ in range(dimensions)]
    for size in sizes:
        if not 1 <= size < 1 << 63:
            raise FormatError(f"{what} has the dimension {size}, but each is from 1 to 2^63 - 1")
    type_number = cursor.integer("<I", what)
    offset = cursor.integer("<Q", what)
    kind = NUMBERED.get(type_number)
    if kind is not None and sizes[0] % kind.columns:
        raise FormatError(
            f"{what} of type {kind.name} has rows of {sizes[0]} values, not whole blocks of {kind.columns}"
        )
    return _Row(name, tuple(reversed(sizes)), type_number, offset)


def _place(
    rows: list[_Row], start: int, alignment: int, file_bytes: int, mapped: FileMap
) -> dict[str, GGUFTensor]:
    """Tensors by name, each aligned, inside the file, clear of the others; the data begin at `start`."""
    if rows and start > file_bytes:
        raise FormatError(f"data would start at byte {start}, but the file ends at {file_bytes}")
    sized: dict[str, GGUFTensor] = {}
    limit = file_bytes - start  # where the next tensor begins, walking back from the end of the file
    for row in sorted(rows, key=lambda row: row.offset, reverse=True):
        if row.name in sized:
            raise FormatError(f"tensor {row.name} appears twice")
        if row.offset % alignment:
            raise FormatError(
                f"tensor {row.name} has offset {row.offset}, which is not a multiple of {alignment}"
            )
        if kind := NUMBERED.get(row.type_number):
            nbytes = prod(row.shape) // kind.columns * kind.nbytes
        else:
            nbytes = max(limit - row.offset, 1)
        if row.offset + nbytes > limit == file_bytes - start:
            raise FormatError(
                f"tensor {row.name} of {nbytes} bytes at data offset {row.offset} runs past the end of the "
                f"file, at {limit}: it is cut off or damaged; {AGAIN}"
            )
        if row.offset + nbytes > limit:
            raise FormatError(
                f"tensor {row.name} of {nbytes} bytes at data offset {row.offset} runs into the next tensor, "
                f"at {limit}"
            )
        limit = row.offset
        sized[row.name] = GGUFTensor(row, start + row.offset, nbytes, mapped)
    return {row.name: sized[row.name] for row in rows}
