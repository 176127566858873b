"""The header of a GGUF file from left to right: numbers, strings and arrays, each within a limit.

Every count and length is a Python integer, held against a limit and the bytes that are left before anything
is read, copied or allocated by it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np

from edgeq.errors import FormatError

from .schemes.numbers import Array

STRING_BYTES_MAX = 8 << 20
HEADER_BYTES_MAX = 64 << 20
# Of the header read so far, the Python values made of it, and what stands for the time that takes: the
# largest vocabularies in use, 262 000 tokens with scores and 515 000 merges, need four fifths.
MEMORY_MAX = 64 << 20
ARRAY_DEPTH_MAX = 4

_SCALARS = {  # value type: struct code
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
UINT32 = 4
_BOOL, _STRING, _ARRAY = 7, 8, 9
_UINT64 = struct.Struct("<Q")
_NUMBER_BYTES = 40  # of a number in a list, and of its place there
_PLACE_BYTES = 8  # of the place alone, where Python keeps the value ready: bools, small integers
_STRING_BYTES = 32  # of a string in an array
_ARRAY_BYTES = 256  # of an array in an array
_LONG = 1 << 16  # bytes of a string that is large enough to be counted before it is decoded


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


class Cursor:
    """Reads a header from left to right and never past the file's or the limit's end.

    `made` counts against the limit of memory from the start: bytes of other headers and their values.
    """

    def __init__(self, raw: Array, file_bytes: int, made: int = 0) -> None:
        self._raw = memoryview(raw)
        self._limited = len(raw) < file_bytes
        self._made = made  # bytes of the Python values
        self.position = 0

    @property
    def spent(self) -> int:
        """Bytes of the header so far and of all values made."""
        return self._made + self.position

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
        if self.spent > MEMORY_MAX:
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
