"""Facts of a tag that kernels use as compile-time constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import overload

from edgeq.kernels.catalog import Scratch

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


def scratch_p(t): ...  # type: ignore[no-untyped-def]
def scratch_p_scale(t): ...  # type: ignore[no-untyped-def]
def scratch_tiles(t): ...  # type: ignore[no-untyped-def]


fact(scratch_p, lambda tag: Scratch(tag.tokens, 0).p)  # where attention keeps what: catalog.Scratch
fact(scratch_p_scale, lambda tag: Scratch(tag.tokens, 0).p_scale)
fact(scratch_tiles, lambda tag: Scratch(tag.tokens, 0).tiles)
