"""Facts of a tag that kernels use as compile-time constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import overload

from ..tag import Tag


def tokens(t): ...  # type: ignore[no-untyped-def]
def planes(t): ...  # type: ignore[no-untyped-def]
def group(t): ...  # type: ignore[no-untyped-def]
def lines(t): ...  # type: ignore[no-untyped-def]
def single(t): ...  # type: ignore[no-untyped-def]
def value_bytes(t): ...  # type: ignore[no-untyped-def]
def bits(t): ...  # type: ignore[no-untyped-def]
def mask(t): ...  # type: ignore[no-untyped-def]
def zero(t): ...  # type: ignore[no-untyped-def]


def fact(stub: Any, value: Callable[[Tag], Any]) -> None:
    """Make a stub a constant of the tag."""

    def typed(t):  # type: ignore[no-untyped-def]  # numba compares the signatures
        constant = value(t.tag)
        return lambda t: constant

    overload(stub, inline="always")(typed)


fact(tokens, lambda tag: tag.tokens)
fact(planes, lambda tag: tag.scheme_row.planes)  # codes in a byte
fact(group, lambda tag: tag.scheme_row.group)  # columns that share a scale
fact(lines, lambda tag: tag.scheme_row.group // (4 * tag.scheme_row.planes))  # lines in a group
fact(single, lambda tag: tag.single)
fact(bits, lambda tag: tag.scheme_row.bits)
fact(mask, lambda tag: 2**tag.scheme_row.bits - 1)
fact(zero, lambda tag: tag.scheme_row.zero)
fact(value_bytes, lambda tag: {"f32": 4, "f16": 2, "bf16": 2}[tag.scheme])
