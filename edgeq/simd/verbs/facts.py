"""Facts of a tag that kernels use as compile-time constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import overload

from edgeq.formats.schemes import ACT_GROUP
from edgeq.kernels.catalog import Scratch

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
fact(planes, lambda tag: 8 // tag.scheme_row.bits)  # codes in a byte
fact(group, lambda tag: ACT_GROUP)  # columns that share a scale
fact(lines, lambda tag: ACT_GROUP * tag.scheme_row.bits // 32)  # lines in a group
fact(single, lambda tag: tag.single)
fact(bits, lambda tag: tag.scheme_row.bits)
fact(mask, lambda tag: 2**tag.scheme_row.bits - 1)
fact(zero, lambda tag: tag.scheme_row.zero)
fact(value_bytes, lambda tag: {"f32": 4, "f16": 2, "bf16": 2}[tag.scheme])


def scratch_p(t): ...  # type: ignore[no-untyped-def]
def scratch_p_scale(t): ...  # type: ignore[no-untyped-def]
def scratch_tiles(t): ...  # type: ignore[no-untyped-def]


fact(scratch_p, lambda tag: Scratch(tag.tokens, 0).p)  # where attention keeps what: catalog.Scratch
fact(scratch_p_scale, lambda tag: Scratch(tag.tokens, 0).p_scale)
fact(scratch_tiles, lambda tag: Scratch(tag.tokens, 0).tiles)
