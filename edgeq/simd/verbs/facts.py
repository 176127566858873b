"""Facts of a tag that kernels use as compile-time constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import overload

from ..tag import Tag


def tokens(t): ...  # type: ignore[no-untyped-def]
def single(t): ...  # type: ignore[no-untyped-def]
def value_bytes(t): ...  # type: ignore[no-untyped-def]


def fact(stub: Any, value: Callable[[Tag], Any]) -> None:
    """Make a stub a constant of the tag."""

    def typed(t):  # type: ignore[no-untyped-def]  # numba compares the signatures
        constant = value(t.tag)
        return lambda t: constant

    overload(stub, inline="always")(typed)


fact(tokens, lambda tag: tag.tokens)
fact(single, lambda tag: tag.single)
fact(value_bytes, lambda tag: tag.scheme_row.itemsize)
