"""Open a GGUF file (versions 2 and 3, little-endian): metadata as Python values, tensors as zero-copy views.

Written from the format's description, for files from anywhere: every count and length is a Python integer,
held against a limit and the bytes that are left before anything is read, copied or allocated by it.
Knows no model: what a key or tensor means is the converter's business.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from edgeq.errors import EdgeqError, FormatError, UnsupportedError

from .layout import round_up
from .reader import FileMap, open_regular
from .schemes import Array

MAGIC = b"GGUF"
VERSIONS = (2, 3)
KEY_BYTES_MAX = 64 << 10
TENSOR_NAME_BYTES_MAX = 256
STRING_BYTES_MAX = 8 << 20
KEYS_MAX = TENSORS_MAX = 1 << 16  # a hundred times what large models have
HEADER_BYTES_MAX = 64 << 20
# Of the header read so far, the Python values made of it, and what stands for the time that takes: the
# largest vocabularies in use, 262 000 tokens with scores and 515 000 merges, need four fifths.
MEMORY_MAX = 64 << 20
ARRAY_DEPTH_MAX = 4
DIMENSIONS_MAX = 4
ALIGNMENT_DEFAULT = 32
KEY_VALUE_BYTES_MIN = 14  # key length, one byte of key, value type, one byte of value
TENSOR_BYTES_MIN = 33  # name length, one byte of name, dimension count, one dimension, type, offset

_SCALARS = {  # value type: struct code
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_UINT32, _BOOL, _STRING, _ARRAY = 4, 7, 8, 9
_UINT64 = struct.Struct("<Q")
_NUMBER_BYTES = 40  # of a number in a list, and of its place there
_PLACE_BYTES = 8  # of the place alone, where Python keeps the value ready: bools, small integers
_STRING_BYTES = 32  # of a string in an array
_ARRAY_BYTES = 256  # of an array in an array
_TENSOR_BYTES = 512  # of a tensor, without its name
_LONG = 1 << 16  # bytes of a string that is large enough to be counted before it is decoded


TYPES: dict[int, tuple[str, int, int]] = {  # tensor type: name, values in a block, bytes of a block
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 28: ("F64", 1, 8),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 22: ("IQ2_S", 256, 82), 18: ("IQ3_XXS", 256, 98),
    21: ("IQ3_S", 256, 110), 19: ("IQ1_S", 256, 50), 29: ("IQ1_M", 256, 56), 20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip


@dataclass(frozen=True)
class _Row:
    """A tensor as the header describes it."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int  # from the start of the data section


class GGUFTensor:
    """One tensor: its type's name ("type 99" where unknown), shape in NumPy's order [rows, cols], bytes."""

    def __init__(self, row: _Row, offset: int, nbytes: int, mapped: FileMap) -> None:
        self.name: str = row.name
        self.type: str = TYPES[row.type_number][0] if row.type_number in TYPES else f"type {row.type_number}"
        self.type_number: int = row.type_number
        self.shape: tuple[int, ...] = row.shape
        self.offset: int = offset
        self.nbytes: int = nbytes
        self._map = mapped

    @property
    def data(self) -> Array:
        """uint8 [nbytes], read-only; UnsupportedError where the type, and so the length, is unknown."""
        if self.type_number not in TYPES:
            raise UnsupportedError(
                f"tensor {self.name} has the unknown GGUF {self.type}, which cannot be read"
            )
        return self._map.view(self.offset, self.nbytes)

    def __repr__(self) -> str:
        return f"GGUFTensor({self.name!r}, {self.type}, {list(self.shape)})"


class GGUFFile:
    """An open GGUF file; a context manager."""

    def __init__(
        self,
        path: Path,
        version: int,
        metadata: dict[str, Any],
        tensors: dict[str, GGUFTensor],
        mapped: FileMap,
    ) -> None:
        self.path = path
        self.version = version
        self.metadata = metadata  # int, float, bool, str, a list of these, or Strings
        self.tensors = tensors  # in the file's order
        self._map = mapped

    def close(self) -> None:
        """Let go of the file.  Arrays handed out earlier stay valid and keep their memory mapped."""
        self._map.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Open and check a GGUF file; tensor data are mapped, not read.  A vocabulary without tensors is fine.

    FormatError when the file is damaged or passes a limit, UnsupportedError for other versions and byte
    orders, UsageError when it cannot be opened.  Every message starts with the path.
    """
    where = Path(path)
    file, file_bytes = open_regular(where)
    with file:
        try:
            _check_start(file.read(8))
            return parse(FileMap.of(file, file_bytes, where), file_bytes)
        except EdgeqError as error:
            raise type(error)(f"{where}: {error}") from None


def _check_start(raw: bytes) -> None:
    if raw[:4] != MAGIC:
        raise FormatError(
            f"not a GGUF file: it starts with {raw[:4].hex(' ') or 'nothing'}, not {MAGIC.hex(' ')}"
        )
    if len(raw) < 8:
        raise FormatError(f"cut off: {len(raw)} bytes, but magic and version alone have 8")
    version = int.from_bytes(raw[4:], "little")
    if version not in VERSIONS:
        if int.from_bytes(raw[4:], "big") in VERSIONS:
            raise UnsupportedError("GGUF file is big-endian; only little-endian files can be read")
        raise UnsupportedError(
            f"GGUF version is {version}; versions {' and '.join(map(str, VERSIONS))} can be read"
        )


def parse(mapped: FileMap, file_bytes: int) -> GGUFFile:
    """What `open_gguf` does with a file whose magic and version are right."""
    cursor = _Cursor(mapped.view(0, min(file_bytes, HEADER_BYTES_MAX)), file_bytes)
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
    if types.get("general.alignment", _UINT32) != _UINT32 or alignment < 1 or alignment & (alignment - 1):
        raise FormatError(
            f"general.alignment is {ascii(alignment)[:40]}, but must be a uint32 that is a power of two"
        )
    start = round_up(cursor.position, alignment)
    tensors = _place(rows, start, alignment, file_bytes, mapped)
    return GGUFFile(mapped.path, version, metadata, tensors, mapped)


def _tensor_row(cursor: _Cursor, number: int) -> _Row:
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
    if type_number in TYPES and sizes[0] % TYPES[type_number][1]:
        kind, values, _ = TYPES[type_number]
        raise FormatError(
            f"{what} of type {kind} has rows of {sizes[0]} values, not whole blocks of {values}"
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
        if row.type_number in TYPES:
            _, values, block_bytes = TYPES[row.type_number]
            nbytes = prod(row.shape) // values * block_bytes
        else:
            nbytes = max(limit - row.offset, 1)
        if row.offset + nbytes > limit:
            raise FormatError(
                f"tensor {row.name} of {nbytes} bytes at data offset {row.offset} runs into the next tensor "
                f"or past the end of the file, at {limit}"
            )
        limit = row.offset
        sized[row.name] = GGUFTensor(row, start + row.offset, nbytes, mapped)
    return {row.name: sized[row.name] for row in rows}


class Strings(Sequence[str]):
    """An array of strings in a header, already checked, each decoded when it is asked for.

    Equal to any list of the same strings.
    """

    def __init__(self, raw: memoryview, ends: array[int]) -> None:
        self._raw = raw
        self._ends = ends  # of string i: its length's 8 bytes start at ends[i], its text ends at ends[i + 1]

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        return str(self._raw[self._ends[number] + 8 : self._ends[number + 1]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        return (str(self._raw[start + 8 : end], "utf-8") for start, end in pairwise(self._ends))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | Strings) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))

    __hash__ = None  # type: ignore[assignment]


class _Cursor:
    """Reads a header from left to right and never past the file's or the limit's end."""

    def __init__(self, raw: Array, file_bytes: int) -> None:
        self._raw = memoryview(raw)
        self._limited = len(raw) < file_bytes
        self._made = 0  # bytes of the Python values
        self.position = 0

    def take(self, count: int, what: str) -> int:
        """Step over `count` bytes; the position they start at."""
        start = self.position
        if count > len(self._raw) - start:
            if self._limited:
                raise FormatError(f"{what}: header passes the limit of {HEADER_BYTES_MAX} bytes")
            raise FormatError(
                f"{what}: {count} bytes are needed at {start}, but the file ends at {len(self._raw)}"
            )
        self.position = start + count
        return start

    def integer(self, code: str, what: str) -> int:
        """One number of a struct code."""
        value: int = struct.unpack_from(code, self._raw, self.take(struct.calcsize(code), what))[0]
        return value

    def spend(self, count: int, what: str) -> None:
        """Note that Python values of `count` bytes are made; FormatError past the limit."""
        self._made += count
        if self._made + self.position > MEMORY_MAX:
            raise FormatError(
                f"{what}: the header's values need more than the limit of {MEMORY_MAX} bytes of memory"
            )

    def count(self, what: str, bytes_each: int, most: int) -> int:
        """A uint64 count of at most `most` things that need at least `bytes_each` bytes each of the rest."""
        value = self.integer("<Q", what)
        if value * bytes_each > len(self._raw) - self.position:
            raise FormatError(f"{what} is {value}, more than the rest of the header can hold")
        if value > most:
            raise FormatError(f"{what} is {value}, more than the limit of {most}")
        return value

    def string(self, what: str, bytes_max: int) -> str:
        """A UTF-8 string with a uint64 length in front."""
        length = self.integer("<Q", what)
        if length > bytes_max:
            raise FormatError(f"{what} has {length} bytes, more than the limit of {bytes_max}")
        start = self.take(length, what)
        if length > _LONG:
            self.spend(4 * length, what)  # Python's worst case
        try:
            value = str(self._raw[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"{what} is not UTF-8 at byte {start + error.start}") from None
        if length <= _LONG:
            self.spend(sys.getsizeof(value), what)
        return value

    def name(self, what: str, bytes_max: int) -> str:
        """A string that is safe to print: not empty, no control characters."""
        value = self.string(what, bytes_max)
        if not value or not value.isprintable():
            raise FormatError(f"{what} is {ascii(value)[:60]}, but must be printable and not empty")
        return value

    def value(self, kind: int, what: str, depth: int) -> Any:
        """One metadata value."""
        if kind in _SCALARS:
            code = "<" + _SCALARS[kind]
            return struct.unpack_from(code, self._raw, self.take(struct.calcsize(code), what))[0]
        if kind == _BOOL:
            return self._booleans(1, what)[0]
        if kind == _STRING:
            return self.string(what, STRING_BYTES_MAX)
        if kind == _ARRAY:
            return self._array(what, depth + 1)
        raise FormatError(f"{what} has the value type {kind}, but types are 0 to 12")

    def _array(self, what: str, depth: int) -> Sequence[Any]:
        if depth > ARRAY_DEPTH_MAX:
            raise FormatError(f"{what} has arrays nested deeper than {ARRAY_DEPTH_MAX}")
        kind = self.integer("<I", what)
        count = self.integer("<Q", what)
        if kind in _SCALARS:
            code = "<" + _SCALARS[kind]
            width = struct.calcsize(code)
            start = self.take(count * width, what)
            found = np.frombuffer(self._raw, code, count, start)
            small = code not in ("<f", "<d") and count > 0 and found.min() >= -5 and found.max() <= 256
            self.spend(count * (_PLACE_BYTES if small else _NUMBER_BYTES), what)
            numbers: list[Any] = found.tolist()
            return numbers
        if kind == _BOOL:
            return self._booleans(count, what)
        if kind == _STRING:
            return self._strings(count, what)
        if kind == _ARRAY:
            self.spend(count * _ARRAY_BYTES, what)
            return [self._array(what, depth + 1) for _ in range(count)]
        raise FormatError(f"{what} has elements of type {kind}, but types are 0 to 12")

    def _booleans(self, count: int, what: str) -> list[bool]:
        start = self.take(count, what)
        self.spend(count * _PLACE_BYTES, what)
        raw = np.frombuffer(self._raw, np.uint8, count, start)
        if count and raw.max() > 1:
            raise FormatError(f"{what} has a bool that is neither 0 nor 1")
        found: list[bool] = raw.view(np.bool_).tolist()
        return found

    def _strings(self, count: int, what: str) -> Strings:
        if count * 8 > len(self._raw) - self.position:
            raise FormatError(f"{what} has {count} strings, more than the rest of the header can hold")
        self.spend(count * _STRING_BYTES, what)
        # `string` unrolled, for vocabularies have hundreds of thousands; any fault is left to `string`.
        raw, end, position = self._raw, len(self._raw), self.position
        ends = array("Q", [position])
        for number in range(count):
            start = position + 8
            length = _UINT64.unpack_from(raw, position)[0] if start <= end else end
            if length <= _LONG and length <= end - start:
                try:
                    str(raw[start : start + length], "utf-8")
                    position = start + length
                    ends.append(position)
                    continue
                except UnicodeDecodeError:
                    pass
            self.position = position
            self.string(f"{what}, string number {number}", STRING_BYTES_MAX)
            position = self.position
            ends.append(position)
        self.position = position
        return Strings(raw, ends)
