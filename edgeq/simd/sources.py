"""What is to be compiled, told by those who have kernels: this package imports none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from .tag import Tag


class Given(NamedTuple):
    """What a kernel is given of an int64 of its entry: that plus `offset`, or the int64 that lies there."""

    argument: int  # which of the entry's
    offset: int = 0
    lies_there: bool = False


class Entry(NamedTuple):
    """A kernel for a tag, as it is called from outside."""

    kernel: str
    tag: Tag
    function: Callable[..., Any]  # of the tag and of what is `given`, in what numba can type
    given: tuple[Given, ...]
    arguments: int  # int64 that the entry takes
    returns: bool  # an int64; else nothing

    def __str__(self) -> str:
        return f"{self.kernel} {self.tag}"


class Module(Protocol):
    """A module that has kernels. Importing it is cheap; `entry` imports what writes machine code."""

    def digest(self) -> str:
        """Of all sources that shape the machine code."""

    def entry(self, kernel: str, tag: Tag) -> Entry:
        """The kernel of that name for the tag; KeyError where there is none."""


class Sources(NamedTuple):
    """Kernels as every process finds them, one that compiles them for another included."""

    module: str  # a `Module`, by the name that it is imported by
    digest: str  # what its `digest` must give there

    def imported(self) -> Module:
        module: Any = importlib.import_module(self.module)
        return module
