"""What a verb is to numba: the types of lines and bundles, the tag as a type, and the table of meanings."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_constant
from numba.extending import intrinsic, register_model, typeof_impl

from ..isa.vectors import CODES, F32X16, F64X16, I32X16, Strided, at, splat, step
from ..tag import Tag

ADDRESS = types.int64  # addresses, counts, strides
FLOAT, DOUBLE, INT = types.float32, types.float64, types.int32


# ---- types ----
class Vec(types.Type):
    """A line in registers."""

    def __init__(self, name: str, layout: Any):
        self.ir = layout
        super().__init__(name)


class Bundle(types.Type):
    """One vector for each token of a tile."""

    def __init__(self, layout: Any, count: int):
        self.ir = ir.LiteralStructType([layout] * count)
        super().__init__(f"{count} x {layout}")


@register_default(Vec)
@register_default(Bundle)
class _Plain(models.PrimitiveModel):
    def __init__(self, manager: Any, t: Any):
        super().__init__(manager, t, t.ir)


class TagType(types.Type):
    def __init__(self, tag: Tag):
        self.tag = tag
        super().__init__(f"Tag({tag.isa},{tag.scheme},{tag.tokens},{tag.codes})")


register_model(TagType)(models.OpaqueModel)
typeof_impl.register(Tag)(lambda value, context: TagType(value))
lower_constant(TagType)(lambda context, builder, t, value: context.get_dummy_value())

codes, i32 = Vec("codes", CODES), Vec("i32", I32X16)
f32, f64 = Vec("f32", F32X16), Vec("f64", F64X16)


def each_f32(t: TagType) -> Bundle:
    return Bundle(F32X16, t.tag.tokens)


def each_i32(t: TagType) -> Bundle:
    return Bundle(I32X16, t.tag.tokens)


MEANING: dict[str, Callable[..., Any]] = {}


def verb(
    result: Any, params: tuple[Any, ...], lower: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Any]:
    """Register a verb: `result` is its type or a function of the tag's type; `lower(b, [tag,] *values)` is
    its spelling.

    params holds one type (or function of the tag's type) per argument after the tag; a first entry `Tag`
    says there is one.
    """
    tagged = params[:1] == (Tag,)

    def register(meaning: Callable[..., Any]) -> Any:
        name = meaning.__name__

        def of(spec: Any, t: Any) -> Any:
            return spec if isinstance(spec, types.Type) else spec(t)

        def typing(context: Any, *args: Any) -> Any:
            t: Any = args[0] if tagged else None
            if tagged and not isinstance(t, TagType):
                return None
            signature = of(result, t)(*((t,) if tagged else ()), *(of(p, t) for p in params[tagged:]))

            def generate(context: Any, b: Any, sig: Any, values: Any) -> Any:
                out = lower(b, t.tag, *values[1:]) if tagged else lower(b, *values)
                return context.get_dummy_value() if out is None else out

            return signature, generate

        typing.__name__ = name  # numba reads name and arity here; it cannot type *args
        names = ["context", *inspect.signature(meaning).parameters]
        parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
        typing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        MEANING[name] = meaning
        return intrinsic(typing)

    return register


def bundle(b: Any, tag: Tag, t: Any, member: Callable[[int], Any]) -> Any:
    return bundled(b, t, [member(n) for n in range(tag.tokens)])


def bundled(b: Any, t: Any, members: Sequence[Any]) -> Any:
    out = ir.Constant(ir.LiteralStructType([t] * len(members)), ir.Undefined)
    for n, member in enumerate(members):
        out = b.insert_value(out, member, n)
    return out


def members(b: Any, values: Any) -> list[Any]:
    """The vectors of a bundle."""
    return [b.extract_value(values, n) for n in range(len(values.type))]


def steps(b: Any, tag: Tag, address: Any, stride: Any) -> list[Any]:
    """An address for each token."""
    return Strided(address, stride).far(b, tag.tokens)


def splat_at(b: Any, address: Any, stride: Any, n: int, t: Any) -> Any:
    return splat(b, at(b, step(b, address, stride, n), t))


def memory(address: int, dtype: Any, count: int) -> np.ndarray:
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype)
