"""Facts of a tag that kernels use as compile-time constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import overload

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


def _fact(stub: Any, value: Callable[[Tag], Any]) -> None:
    def typed(t):  # type: ignore[no-untyped-def]  # numba compares the signatures
        fact = value(t.tag)
        return lambda t: fact

    overload(stub, inline="always")(typed)


_fact(tokens, lambda tag: tag.tokens)
_fact(planes, lambda tag: tag.scheme_row.planes)  # codes in a byte
_fact(group, lambda tag: tag.scheme_row.group)  # columns that share a scale
_fact(lines, lambda tag: tag.scheme_row.group // (4 * tag.scheme_row.planes))  # lines in a group
_fact(single, lambda tag: tag.single)
_fact(bits, lambda tag: tag.scheme_row.bits)
_fact(mask, lambda tag: 2**tag.scheme_row.bits - 1)
_fact(zero, lambda tag: tag.scheme_row.zero)
_fact(value_bytes, lambda tag: {"f32": 4, "f16": 2, "bf16": 2}[tag.scheme])


def scratch_out(t): ...  # type: ignore[no-untyped-def]
def scratch_p(t): ...  # type: ignore[no-untyped-def]
def scratch_p_scale(t): ...  # type: ignore[no-untyped-def]


_fact(scratch_out, lambda tag: Scratch(tag.tokens, 0).out)  # where attention keeps what: catalog.Scratch
_fact(scratch_p, lambda tag: Scratch(tag.tokens, 0).p)
_fact(scratch_p_scale, lambda tag: Scratch(tag.tokens, 0).p_scale)
