"""Facts of a tag that kernels use as compile-time constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..isa.vectors import I64
from ..tag import Tag
from .registry import TagType


def fact(value: Callable[[Tag], int | Tag]) -> Any:
    """What kernels ask a tag for, `value`(t), as a constant in machine code; another tag is one for numba."""

    def typing(context, t):  # type: ignore[no-untyped-def]  # numba reads the signature
        constant = value(t.tag)
        result = TagType(constant) if isinstance(constant, Tag) else types.int64

        def generate(context: Any, b: Any, sig: Any, values: Any) -> Any:
            return context.get_dummy_value() if isinstance(constant, Tag) else ir.Constant(I64, constant)

        return result(t), generate

    typing.__name__ = value.__name__
    return intrinsic(typing)


@fact
def tokens(tag: Tag) -> int:
    """Tokens that a tile holds."""
    return tag.tokens


@fact
def single(tag: Tag) -> Tag:
    """The tag of the same kernel for one token at a time."""
    return tag.single


@fact
def half(tag: Tag) -> Tag:
    """The tag for half the tokens at a time, where that is many."""
    return tag.half


@fact
def stored(tag: Tag) -> Tag:
    """The tag for a tile that reads codes as they are stored."""
    return tag.stored


@fact
def unpacks_once(tag: Tag) -> int:
    """Whether the first of many tiles of tokens leaves codes unpacked for the others."""
    return int(tag.unpacks_once)


@fact
def streams(tag: Tag) -> int:
    """Whether a tile's weights are mostly read for it alone."""
    return int(tag.streams)


@fact
def unpacking(tag: Tag) -> Tag:
    """The tag for a tile that leaves codes unpacked."""
    return tag.unpacking


@fact
def unpacked(tag: Tag) -> Tag:
    """The tag for a tile that finds them so."""
    return tag.unpacked


@fact
def value_bytes(tag: Tag) -> int:
    """Bytes of a float of the scheme."""
    return tag.scheme_row.itemsize
