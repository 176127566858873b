"""The roles of kernels' operands: what rows of the catalog are written in.

An instruction holds *words*, int64 each, which are a kernel's parameters. A role says under which name a
recorder is given something, which words become of it, whether the kernel reads or writes what lies there,
and how far it reaches. All of it is plain data, of which `edgeq.runtime` makes words, barriers, checks and
extents.

A size is the name of a word of the same row, or a product of such names and numbers. Besides words there are
`tokens` (rows that the kernel handles: the pass's, or what its `InBatch` says), `read` (those and what full
tiles of a product read beyond them), `limit` (tokens of a pass at the most) and `workers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

Size = str | tuple[str | int, ...]
OUTSIDE = ("tokens", "read", "limit", "workers")  # sizes that no word of a row says


def factors(size: Size) -> tuple[str | int, ...]:
    return (size,) if isinstance(size, str) else size


def product(size: Size, numbers: Mapping[str, int]) -> int:
    """The size where its words are these numbers; 1 for ()."""
    return math.prod(f if isinstance(f, int) else numbers[f] for f in factors(size))


@dataclass(frozen=True)
class Form:
    """How memory holds what is given, and the words of it, as suffixes of the operand's name."""

    name: str
    suffixes: tuple[str, ...]


ROWS = Form("a buffer of rows", ("", "_stride"))  # of float32, a stride of bytes apart
SHARED = Form("a buffer of rows", ("",))  # the same, where several have one stride: see `Stride`
INT8 = Form(
    "a set of quantized rows", ("", "_scale", "_sum")
)  # int8, and for 32 columns a float32 scale and two int16 sums
FLAT = Form("a buffer", ("",))  # numbers without gaps
SCRATCH = Form("a workspace", ("", "_stride"))  # a piece of memory for each worker
CACHE = Form("a layer of a cache", ())  # offsets in a page; the words are named in the row
STATE = Form("a part of a layer's state", ("",))  # float32, from an offset in a page of states on


@dataclass(frozen=True)
class Role:
    """Something that a recorder is given by name."""

    name: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the instruction that it becomes, in their order."""
        return (self.name,)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Those that it names."""
        return ()


@dataclass(frozen=True)
class Shaped(Role):
    """`count` rows of `width` columns; of each, the last factor of the width is touched in whole steps."""

    width: Size = ()
    step: int = 1
    count: Size = ()

    @property
    def sizes(self) -> tuple[Size, ...]:
        return self.width, self.count

    @cached_property
    def unit(self) -> int:
        """Columns that the width counts at a time: a whole tile or group, or one."""
        return math.prod(f for f in factors(self.width) if isinstance(f, int))

    def touched(self, numbers: Mapping[str, int]) -> int:
        """Columns of a row that the kernel reads or writes, those included that mean nothing."""
        *others, last = factors(self.width) or (1,)
        size = product((last,), numbers)
        return (product(tuple(others), numbers) - 1) * size + -(-size // self.step) * self.step


@dataclass(frozen=True)
class Operand(Shaped):
    """Memory that instructions share: a buffer, or a layer's cache."""

    READ: ClassVar[bool] = False
    WRITTEN: ClassVar[bool] = False

    count: Size = "tokens"
    form: Form = ROWS
    item: int = 4  # bytes of a number, where it is FLAT or SCRATCH
    before: int = 0  # bytes that come before them, where it is SCRATCH
    named: tuple[str, ...] = ()  # its words, where they are not its name and suffixes
    adds: str = ""  # a word: where that is not 0, what is written is read before

    @cached_property
    def words(self) -> tuple[str, ...]:
        return self.named or tuple(self.name + suffix for suffix in self.form.suffixes)

    @property
    def sizes(self) -> tuple[Size, ...]:
        return (*super().sizes, self.adds) if self.adds else super().sizes

    def read(self, numbers: Mapping[str, int]) -> bool:
        """Whether an instruction with these numbers reads it."""
        return self.READ or bool(self.adds and numbers[self.adds])


@dataclass(frozen=True)
class In(Operand):
    READ = True


@dataclass(frozen=True)
class Out(Operand):
    WRITTEN = True


@dataclass(frozen=True)
class InOut(Operand):
    READ = WRITTEN = True


@dataclass(frozen=True)
class Weight(Role):
    """A matrix of the model. The instruction is compiled for its scheme."""


@dataclass(frozen=True)
class Const(Shaped):
    """A vector of float32 that no instruction writes."""

    optional: bool = False  # None may be given: the word is 0


@dataclass(frozen=True)
class Tables(Shaped):
    """Rotary cosines and sines for heads of so many columns."""

    @cached_property
    def words(self) -> tuple[str, ...]:
        return ("cosine", "sine")


@dataclass(frozen=True)
class Number(Role):
    """A whole number, as it is."""


@dataclass(frozen=True)
class Float(Role):
    """A number, as the bits of a float32."""


@dataclass(frozen=True)
class InBatch(Role):
    """Where in the pass's batch stands how many rows the kernel handles."""


@dataclass(frozen=True)
class Derived(Role):
    """Not given but taken from what is: a `fact` of the first of `of`, in which all of them agree."""

    of: tuple[str, ...]
    fact: str


def fact(name: str, of: str, attribute: str = "") -> Derived:
    """A number that what is given as `of` knows, by its own name where that is the word's too."""
    return Derived(name, (of,), attribute or name)


def stride(name: str, *of: str) -> Derived:
    """The stride of several rows."""
    return Derived(name, of, "stride")
