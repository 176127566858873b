"""The vocabulary of the kernels, given to numba. A verb's body is its meaning in NumPy; `lower` is its spelling in LLVM.

A vector is a line: `codes` (64 bytes), `i32` or `f32` (16 lanes). A *bundle* holds one such vector for each of the tag's
tokens; LLVM takes it apart into registers. Addresses, counts and strides (in bytes) are int64. Verbs whose spelling depends
on scheme or instruction set take a tag first. There are no bounds checks: whoever builds a program checks its operands.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic, lower_builtin, overload, register_model, type_callable, typeof_impl
from numba.core.imputils import lower_constant

from edgeq.kernels.catalog import Scratch

from . import isa as spell
from .isa import CODES, F32, F32X16, I8, I16, I32, I32X16, I64, LANES, call, const, pick, splat
from .tag import Tag

u = types.int64                              # addresses, counts, strides
FLOAT, INT = types.float32, types.int32


# ---- types ----------------------------------------------------------------------------------------------------------
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
        super().__init__(f"Tag({tag.isa},{tag.scheme},{tag.tokens})")


register_model(TagType)(models.OpaqueModel)
typeof_impl.register(Tag)(lambda value, context: TagType(value))
lower_constant(TagType)(lambda context, builder, t, value: context.get_dummy_value())

codes, i32, f32 = Vec("codes", CODES), Vec("i32", I32X16), Vec("f32", F32X16)


def each_f32(t: TagType) -> Bundle:
    return Bundle(F32X16, t.tag.tokens)


def each_i32(t: TagType) -> Bundle:
    return Bundle(I32X16, t.tag.tokens)


def dots_of(tag: Tag) -> spell.Dots:
    s = tag.scheme_row
    return tag.isa_row.lower["dots"](s.bits, s.zero)


def each_dots(t: TagType) -> Bundle:
    return Bundle(dots_of(t.tag).acc, t.tag.tokens)


# ---- registration -----------------------------------------------------------------------------------------------------
MEANING: dict[str, Callable[..., Any]] = {}


def verb(result: Any, params: tuple[Any, ...], lower: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Register a verb: `result` is its type or a function of the tag's type; `lower(b, [tag,] *values)` is its spelling.

    params holds one type (or function of the tag's type) per argument after the tag; a first entry `Tag` says there is one.
    """
    tagged = params[:1] == (Tag,)

    def register(meaning: Callable[..., Any]) -> Any:
        name = meaning.__name__

        def of(spec: Any, t: Any) -> Any:
            return spec if isinstance(spec, types.Type) else spec(t)

        def typing(context: Any, *args: Any) -> Any:
            t = args[0] if tagged else None
            if tagged and not isinstance(t, TagType):
                return None
            signature = of(result, t)(*((t,) if tagged else ()), *(of(p, t) for p in params[tagged:]))

            def generate(context: Any, b: Any, sig: Any, values: Any) -> Any:
                out = lower(b, t.tag, *values[1:]) if tagged else lower(b, *values)
                return context.get_dummy_value() if out is None else out
            return signature, generate

        typing.__name__ = name               # numba reads name and arity here; it cannot type *args
        names = ["context", *inspect.signature(meaning).parameters]
        typing.__signature__ = inspect.Signature([inspect.Parameter(n, 1) for n in names])  # type: ignore[attr-defined]
        MEANING[name] = meaning
        return intrinsic(typing)
    return register


def at(b: Any, address: Any, t: Any) -> Any:
    v = b.load(b.inttoptr(address, t.as_pointer()))
    v.align = 1
    return v


def put(b: Any, address: Any, v: Any) -> None:
    b.store(v, b.inttoptr(address, v.type.as_pointer())).align = 1


def step(b: Any, address: Any, stride: Any, n: int) -> Any:
    return b.add(address, b.mul(stride, ir.Constant(I64, n)))


def bundle(b: Any, tag: Tag, t: Any, member: Callable[[int], Any]) -> Any:
    out = ir.Constant(ir.LiteralStructType([t] * tag.tokens), ir.Undefined)
    for n in range(tag.tokens):
        out = b.insert_value(out, member(n), n)
    return out


def splat_at(b: Any, address: Any, stride: Any, n: int, t: Any) -> Any:
    return splat(b, at(b, step(b, address, stride, n), t))


def _memory(address: int, dtype: Any, count: int) -> np.ndarray:
    import ctypes
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype)


# ---- facts of the tag -------------------------------------------------------------------------------------------------
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
_fact(planes, lambda tag: tag.scheme_row.planes)                      # codes in a byte
_fact(group, lambda tag: tag.scheme_row.group)                        # columns that share a scale
_fact(lines, lambda tag: tag.scheme_row.group // (4 * tag.scheme_row.planes))   # lines in a group
_fact(single, lambda tag: tag.single)
_fact(bits, lambda tag: tag.scheme_row.bits)
_fact(mask, lambda tag: 2**tag.scheme_row.bits - 1)
_fact(zero, lambda tag: tag.scheme_row.zero)
_fact(value_bytes, lambda tag: {"f32": 4, "f16": 2, "bf16": 2}[tag.scheme])


def scratch_out(t): ...  # type: ignore[no-untyped-def]
def scratch_p(t): ...  # type: ignore[no-untyped-def]
def scratch_p_scale(t): ...  # type: ignore[no-untyped-def]
def scratch_p_sum(t): ...  # type: ignore[no-untyped-def]


_fact(scratch_out, lambda tag: Scratch(tag.tokens, 0).out)            # where attention keeps what: catalog.Scratch
_fact(scratch_p, lambda tag: Scratch(tag.tokens, 0).p)
_fact(scratch_p_scale, lambda tag: Scratch(tag.tokens, 0).p_scale)
_fact(scratch_p_sum, lambda tag: Scratch(tag.tokens, 0).p_sum)


# ---- scalars and memory -----------------------------------------------------------------------------------------------
@verb(u, (u,), lambda b, p: at(b, p, I64))
def peek_i64(p: int) -> Any:
    return _memory(p, np.int64, 1)[0]


@verb(INT, (u,), lambda b, p: at(b, p, I32))
def peek_i32(p: int) -> Any:
    return _memory(p, np.int32, 1)[0]


@verb(FLOAT, (u,), lambda b, p: at(b, p, F32))
def peek_f32(p: int) -> Any:
    return _memory(p, np.float32, 1)[0]


@verb(INT, (u,), lambda b, p: b.zext(at(b, p, I8), I32))
def peek_u8(p: int) -> Any:
    return np.int32(_memory(p, np.uint8, 1)[0])


@verb(types.void, (u, FLOAT), lambda b, p, x: put(b, p, x))
def poke_f32(p: int, x: Any) -> None:
    _memory(p, np.float32, 1)[0] = x


@verb(types.void, (u, INT), lambda b, p, x: put(b, p, x))
def poke_i32(p: int, x: Any) -> None:
    _memory(p, np.int32, 1)[0] = x


@verb(types.void, (u, INT), lambda b, p, x: put(b, p, b.trunc(x, I8)))
def poke_u8(p: int, x: Any) -> None:
    _memory(p, np.uint8, 1)[0] = np.uint8(x & 255)


@verb(u, (u, u), lambda b, p, n: b.atomic_rmw("add", b.inttoptr(p, I64.as_pointer()), n, "acq_rel"))
def fetch_add(p: int, n: int) -> Any:
    """Add n to the int64 at p as one step seen by all threads; what stood there before."""
    cell = _memory(p, np.int64, 1)
    cell[0] += n
    return cell[0] - n


@verb(FLOAT, (u,), lambda b, x: b.bitcast(b.trunc(x, I32), F32))
def float_bits(x: int) -> Any:
    """The float32 whose bits are the low half of x."""
    return np.uint32(x & 0xFFFFFFFF).view(np.float32)


@verb(FLOAT, (FLOAT,), lambda b, x: call(b, "llvm.sqrt.f32", F32, x))
def root(x: Any) -> Any:
    """The square root, rounded once."""
    return np.sqrt(np.float32(x))


def _opaque(b: Any, n: Any) -> Any:
    return b.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [n], False)


@verb(u, (u,), _opaque)
def opaque(n: int) -> Any:
    """n, a constant that the optimizer may not see: a loop of that many turns stays a loop."""
    return n


@verb(codes, (u,), lambda b, p: at(b, p, CODES))
def load_codes(p: int) -> Any:
    return _memory(p, np.uint8, 64).copy()


@verb(f32, (u,), lambda b, p: at(b, p, F32X16))
def load_f32(p: int) -> Any:
    return _memory(p, np.float32, LANES).copy()


@verb(types.void, (u, f32), lambda b, p, v: put(b, p, v))
def store_f32(p: int, v: Any) -> None:
    _memory(p, np.float32, LANES)[:] = v


@verb(f32, (Tag, u), lambda b, tag, p: tag.isa_row.lower["widen_f16"](b, at(b, p, spell.F16X16)))
def load_f16(t: Any, p: int) -> Any:
    return _memory(p, np.float16, LANES).astype(np.float32)


@verb(types.void, (Tag, u, f32), lambda b, tag, p, v: put(b, p, tag.isa_row.lower["narrow_f16"](b, v)))
def store_f16(t: Any, p: int, v: Any) -> None:
    _memory(p, np.float16, LANES)[:] = v.astype(np.float16)


def _load_values(b: Any, tag: Tag, p: Any) -> Any:
    if tag.scheme == "f32":
        return at(b, p, F32X16)
    if tag.scheme == "f16":
        return tag.isa_row.lower["widen_f16"](b, at(b, p, spell.F16X16))
    if tag.scheme == "bf16":
        bits = b.zext(at(b, p, ir.VectorType(I16, LANES)), I32X16)
        return b.bitcast(b.shl(bits, const(I32X16, 16)), F32X16)
    raise TypeError(f"{tag.scheme} holds no floats")


@verb(f32, (Tag, u), _load_values)
def load_values(t: Any, p: int) -> Any:
    """Sixteen stored floats of the tag's scheme, as float32."""
    if t.scheme == "bf16":
        return (_memory(p, np.uint16, LANES).astype(np.uint32) << 16).view(np.float32)
    return _memory(p, {"f32": np.float32, "f16": np.float16}[t.scheme], LANES).astype(np.float32)


def _store_values(b: Any, tag: Tag, p: Any, v: Any) -> None:
    put(b, p, v if tag.scheme == "f32" else tag.isa_row.lower["narrow_f16"](b, v))


@verb(types.void, (Tag, u, f32), _store_values)
def store_values(t: Any, p: int, v: Any) -> None:
    """Sixteen floats in the tag's scheme (f32 or f16)."""
    dtype = {"f32": np.float32, "f16": np.float16}[t.scheme]
    _memory(p, dtype, LANES)[:] = v.astype(dtype)


def _poke_value(b: Any, tag: Tag, p: Any, x: Any) -> None:
    if tag.scheme == "f32":
        put(b, p, x)
    else:
        put(b, p, b.extract_element(tag.isa_row.lower["narrow_f16"](b, splat(b, x)), ir.Constant(I32, 0)))


@verb(types.void, (Tag, u, FLOAT), _poke_value)
def poke_value(t: Any, p: int, x: Any) -> None:
    """One float in the tag's scheme (f32 or f16)."""
    dtype = {"f32": np.float32, "f16": np.float16}[t.scheme]
    _memory(p, dtype, 1)[0] = dtype(x)


@verb(types.void, (u, i32), lambda b, p, v: put(b, p, b.trunc(v, ir.VectorType(I8, LANES))))
def store_i8(p: int, v: Any) -> None:
    """The low byte of each lane, 16 bytes in all."""
    _memory(p, np.uint8, LANES)[:] = (v & 255).astype(np.uint8)


# ---- lines of floats and integers ---------------------------------------------------------------------------------------
@verb(f32, (FLOAT,), lambda b, x: splat(b, x))
def splat_f32(x: Any) -> Any:
    return np.full(LANES, x, np.float32)


@verb(f32, (f32, f32, f32), lambda b, x, y, z: call(b, "llvm.fma.v16f32", F32X16, x, y, z))
def fma(x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""
    from fractions import Fraction
    exact = [float(Fraction(float(p)) * Fraction(float(q)) + Fraction(float(r))) for p, q, r in zip(x, y, z, strict=True)]
    return np.array(exact, np.float64).astype(np.float32)


@verb(f32, (f32, f32), lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
def larger(x: Any, y: Any) -> Any:
    """Per lane: x where x > y, else y (a NaN in x is dropped)."""
    return np.where(x > y, x, y)


@verb(f32, (f32,), lambda b, x: b.bitcast(b.and_(b.bitcast(x, I32X16), const(I32X16, 0x7FFFFFFF)), F32X16))
def magnitude(x: Any) -> Any:
    return np.abs(x)


@verb(f32, (i32,), lambda b, x: b.sitofp(x, F32X16))
def to_f32(x: Any) -> Any:
    return x.astype(np.float32)


_MAGIC = 12582912.0                          # 1.5 * 2**23: adding it leaves the rounded integer in the low mantissa bits


@verb(i32, (f32,), lambda b, x: b.sub(b.bitcast(b.fadd(x, const(F32X16, _MAGIC)), I32X16), const(I32X16, 0x4B400000)))
def nearest(x: Any) -> Any:
    """The nearest integer, ties to even, for |x| < 2**22."""
    return (x + np.float32(_MAGIC)).view(np.int32) - np.int32(0x4B400000)


def _power2(b: Any, n: Any) -> Any:
    return b.bitcast(b.shl(b.add(n, const(I32X16, 127)), const(I32X16, 23)), F32X16)


@verb(f32, (i32,), _power2)
def power2(n: Any) -> Any:
    """2 to the n, for n in -126..127."""
    return ((n + 127) << 23).astype(np.int32).view(np.float32)


def _tree(b: Any, v: Any, op: Callable[[Any, Any], Any]) -> Any:
    n = LANES
    while n > 1:
        n //= 2
        v = op(pick(b, v, list(range(n))), pick(b, v, list(range(n, 2 * n))))
    return b.extract_element(v, ir.Constant(I32, 0))


@verb(FLOAT, (f32,), lambda b, v: _tree(b, v, b.fadd))
def sum_f32(v: Any) -> Any:
    """The sum of 16 lanes by halves: lane i + lane i+8, then i+4, i+2, i+1."""
    while len(v) > 1:
        v = v[: len(v) // 2] + v[len(v) // 2:]
    return v[0]


@verb(INT, (i32,), lambda b, v: _tree(b, v, b.add))
def sum_i32(v: Any) -> Any:
    return v.sum(dtype=np.int32)


@verb(FLOAT, (f32,), lambda b, v: _tree(b, v, lambda x, y: b.select(b.fcmp_ordered(">", x, y), x, y)))
def max_f32(v: Any) -> Any:
    """The largest lane, by halves as in sum_f32."""
    while len(v) > 1:
        x, y = v[: len(v) // 2], v[len(v) // 2:]
        v = np.where(x > y, x, y)
    return v[0]


_IOTA = ir.Constant(I32X16, list(range(LANES)))


def _keep(b: Any, v: Any, first: Any, last: Any, other: Any) -> Any:
    def bound(n: Any) -> Any:                # clamped, so that the lane numbers compare in 32 bits
        low = b.select(b.icmp_signed("<", n, ir.Constant(I64, 0)), ir.Constant(I64, 0), n)
        return splat(b, b.trunc(b.select(b.icmp_signed(">", low, ir.Constant(I64, LANES)), ir.Constant(I64, LANES), low), I32))
    inside = b.and_(b.icmp_signed(">=", _IOTA, bound(first)), b.icmp_signed("<", _IOTA, bound(last)))
    return b.select(inside, v, splat(b, other))


@verb(f32, (f32, u, u, FLOAT), _keep)
def keep(v: Any, first: int, last: int, other: Any) -> Any:
    """Lanes first <= i < last of v, and `other` in the rest."""
    lane = np.arange(LANES)
    return np.where((lane >= first) & (lane < last), v, np.float32(other))


def _blend(b: Any, v: Any, w: Any, n: Any) -> Any:
    """Lane numbers compare in 64 bits: n may be any count."""
    lanes = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
    return b.select(b.icmp_signed("<", lanes, splat(b, n)), v, w)


@verb(f32, (f32, f32, u), _blend)
def blend(v: Any, w: Any, n: int) -> Any:
    """Lanes below n of v, the rest of w."""
    return np.where(np.arange(LANES) < n, v, w)


@verb(FLOAT, (f32, u), lambda b, v, n: b.extract_element(v, b.trunc(n, I32)))
def lane(v: Any, n: int) -> Any:
    """Lane n, 0 <= n < 16."""
    return v[n]


def _operator(op: Any, kind: Vec, lower: Callable[..., Any]) -> None:
    @type_callable(op)
    def typed(context: Any) -> Any:
        def typer(x: Any, y: Any) -> Any:
            return kind if x == kind and y == kind else None
        return typer
    lower_builtin(op, kind, kind)(lambda context, b, sig, args: lower(b)(*args))


_operator(operator.add, f32, lambda b: b.fadd)
_operator(operator.sub, f32, lambda b: b.fsub)
_operator(operator.mul, f32, lambda b: b.fmul)
_operator(operator.truediv, f32, lambda b: b.fdiv)
_operator(operator.add, i32, lambda b: b.add)


# ---- weights ------------------------------------------------------------------------------------------------------------
def _plane(b: Any, tag: Tag, v: Any, p: Any) -> Any:
    bits = tag.scheme_row.bits
    if bits == 8:
        return v
    shift = b.trunc(b.mul(p, ir.Constant(I64, bits)), I8)
    return b.and_(b.lshr(v, splat(b, shift, 4 * LANES)), const(CODES, 2**bits - 1))


@verb(codes, (Tag, codes, u), _plane)
def plane(t: Any, v: Any, p: int) -> Any:
    """The p-th code of every byte."""
    return (v >> (t.scheme_row.bits * p)) & (2**t.scheme_row.bits - 1)


def _column(b: Any, tag: Tag, v: Any, j: Any) -> Any:
    shift = splat(b, b.trunc(b.mul(j, ir.Constant(I64, 8)), I32))
    code = b.and_(b.lshr(b.bitcast(v, I32X16), shift), const(I32X16, 255))
    return b.sitofp(b.sub(code, const(I32X16, tag.scheme_row.zero)), F32X16)


@verb(f32, (Tag, codes, u), _column)
def column(t: Any, v: Any, j: int) -> Any:
    """Column j of a plane of codes, as float32 without the zero point: 16 rows."""
    return (v.reshape(LANES, 4)[:, j].astype(np.int32) - t.scheme_row.zero).astype(np.float32)


# ---- bundles --------------------------------------------------------------------------------------------------------------
@verb(each_f32, (Tag,), lambda b, tag: bundle(b, tag, F32X16, lambda n: const(F32X16, 0.0)))
def zeros_each(t: Any) -> Any:
    return np.zeros((t.tokens, LANES), np.float32)


def _dots_start(b: Any, tag: Tag, sums: Any, stride: Any) -> Any:
    dots = dots_of(tag)
    return bundle(b, tag, dots.acc, lambda n: dots.start(b, splat_at(b, sums, stride, n, I32)))


@verb(each_dots, (Tag, u, u), _dots_start)
def dots_start(t: Any, sums: int, stride: int) -> Any:
    """Accumulators of one group for every token; token n's sum of activations is the int32 at sums + n * stride."""
    return np.zeros((t.tokens, LANES), np.int32)


def _dots_add(b: Any, tag: Tag, acc: Any, v: Any, x: Any, stride: Any) -> Any:
    dots = dots_of(tag)

    def member(n: int) -> Any:
        four = b.bitcast(splat_at(b, x, stride, n, I32), CODES)
        return dots.add(b, b.extract_value(acc, n), v, four)
    return bundle(b, tag, dots.acc, member)


@verb(each_dots, (Tag, each_dots, codes, u, u), _dots_add)
def dots_add(t: Any, acc: Any, v: Any, x: int, stride: int) -> Any:
    """acc after four more columns: v holds their codes, token n's four int8 activations are at x + n * stride."""
    out = acc.copy()
    for n in range(t.tokens):
        four = _memory(x + n * stride, np.int8, 4).astype(np.int32)
        out[n] += ((v.reshape(LANES, 4).astype(np.int32) - t.scheme_row.zero) * four).sum(1, dtype=np.int32)
    return out


def _dots_finish(b: Any, tag: Tag, acc: Any, sums: Any, stride: Any) -> Any:
    dots = dots_of(tag)
    return bundle(b, tag, I32X16, lambda n: dots.finish(b, b.extract_value(acc, n), splat_at(b, sums, stride, n, I32)))


@verb(each_i32, (Tag, each_dots, u, u), _dots_finish)
def dots_finish(t: Any, acc: Any, sums: int, stride: int) -> Any:
    """The exact sums of (code - zero) * activation."""
    return acc


@verb(each_i32, (Tag,), lambda b, tag: bundle(b, tag, I32X16, lambda n: const(I32X16, 0)))
def zero_sums_each(t: Any) -> Any:
    return np.zeros((t.tokens, LANES), np.int32)


def _dot4_each(b: Any, tag: Tag, acc: Any, v: Any, x: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        four = b.bitcast(splat_at(b, x, stride, n, I32), CODES)
        return tag.isa_row.lower["dot4"](b, b.extract_value(acc, n), four, v)
    return bundle(b, tag, I32X16, member)


@verb(each_i32, (Tag, each_i32, codes, u, u), _dot4_each)
def dot4_each(t: Any, acc: Any, v: Any, x: int, stride: int) -> Any:
    """acc[n] + the sum of four signed bytes of v times token n's four at x + n * stride, which lie in 0..127."""
    four = np.stack([_memory(x + n * stride, np.int8, 4) for n in range(t.tokens)]).astype(np.int32)
    return acc + np.einsum("rc,nc->nr", v.view(np.int8).reshape(LANES, 4).astype(np.int32), four).astype(np.int32)


def _scaled_add(b: Any, tag: Tag, acc: Any, sums: Any, scale: Any, p: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        both = b.fmul(scale, splat_at(b, p, stride, n, F32))
        return call(b, "llvm.fma.v16f32", F32X16, b.sitofp(b.extract_value(sums, n), F32X16), both, b.extract_value(acc, n))
    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, each_i32, f32, u, u), _scaled_add)
def scaled_add_each(t: Any, acc: Any, sums: Any, scale: Any, p: int, stride: int) -> Any:
    """acc[n] + float(sums[n]) * (scale * s), s the float32 at p + n * stride, with one fma."""
    rows = [fma_meaning(sums[n].astype(np.float32), scale * _memory(p + n * stride, np.float32, 1)[0], acc[n])
            for n in range(t.tokens)]
    return np.stack(rows)


fma_meaning = MEANING["fma"]


def _fma_each(b: Any, tag: Tag, acc: Any, w: Any, x: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        return call(b, "llvm.fma.v16f32", F32X16, w, splat_at(b, x, stride, n, F32), b.extract_value(acc, n))
    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, f32, u, u), _fma_each)
def fma_each(t: Any, acc: Any, w: Any, x: int, stride: int) -> Any:
    """acc[n] + w * x[n], x[n] the float32 at x + n * stride, with one fma."""
    return np.stack([fma_meaning(w, np.full(LANES, _memory(x + n * stride, np.float32, 1)[0]), acc[n]) for n in range(t.tokens)])


def _fma_bundles(b: Any, tag: Tag, x: Any, v: Any, acc: Any) -> Any:
    return bundle(b, tag, F32X16, lambda n: call(b, "llvm.fma.v16f32", F32X16, b.extract_value(x, n), v, b.extract_value(acc, n)))


@verb(each_f32, (Tag, each_f32, f32, each_f32), _fma_bundles)
def scale_each(t: Any, x: Any, v: Any, acc: Any) -> Any:
    """acc[n] + x[n] * v with one fma."""
    return np.stack([fma_meaning(x[n], v, acc[n]) for n in range(t.tokens)])


@verb(each_f32, (Tag, each_f32, f32), lambda b, tag, x, v: bundle(b, tag, F32X16, lambda n: b.fadd(b.extract_value(x, n), v)))
def add_each(t: Any, x: Any, v: Any) -> Any:
    """x[n] + v."""
    return x + v


@verb(each_f32, (Tag, each_f32, each_f32),
      lambda b, tag, x, y: bundle(b, tag, F32X16, lambda n: b.fadd(b.extract_value(x, n), b.extract_value(y, n))))
def sum_each(t: Any, x: Any, y: Any) -> Any:
    """x[n] + y[n]."""
    return x + y


@verb(each_f32, (Tag, u, u), lambda b, tag, p, stride: bundle(b, tag, F32X16, lambda n: at(b, step(b, p, stride, n), F32X16)))
def load_each(t: Any, p: int, stride: int) -> Any:
    return np.stack([_memory(p + n * stride, np.float32, LANES) for n in range(t.tokens)])


def _store_each(b: Any, tag: Tag, p: Any, stride: Any, x: Any) -> None:
    for n in range(tag.tokens):
        put(b, step(b, p, stride, n), b.extract_value(x, n))


@verb(types.void, (Tag, u, u, each_f32), _store_each)
def store_each(t: Any, p: int, stride: int, x: Any) -> None:
    """x[n] to p + n * stride."""
    for n in range(t.tokens):
        _memory(p + n * stride, np.float32, LANES)[:] = x[n]


def _merge_each(b: Any, tag: Tag, x: Any, p: Any, y: Any, q: Any) -> Any:
    four = ir.Constant(I64, 4)

    def member(n: int) -> Any:
        kept = b.fmul(b.extract_value(x, n), splat_at(b, p, four, n, F32))
        return call(b, "llvm.fma.v16f32", F32X16, b.extract_value(y, n), splat_at(b, q, four, n, F32), kept)
    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, u, each_f32, u), _merge_each)
def merge_each(t: Any, x: Any, p: int, y: Any, q: int) -> Any:
    """x[n] * p[n] + y[n] * q[n], the second product with one fma; p and q are addresses of float32."""
    pn, qn = _memory(p, np.float32, t.tokens), _memory(q, np.float32, t.tokens)
    return np.stack([fma_meaning(y[n], np.full(LANES, qn[n]), x[n] * pn[n]) for n in range(t.tokens)])


# ---- threads ----------------------------------------------------------------------------------------------------------------
@verb(u, (u,), lambda b, p: b.load_atomic(b.inttoptr(p, I64.as_pointer()), "acquire", 8))
def peek_shared(p: int) -> Any:
    """The int64 at p, and all that was written before it was."""
    return _memory(p, np.int64, 1)[0]


@verb(u, (u, u), lambda b, p, x: b.atomic_rmw("xchg", b.inttoptr(p, I64.as_pointer()), x, "acq_rel"))
def exchange(p: int, x: int) -> Any:
    """Put x in the int64 at p as one step seen by all threads; what stood there before."""
    cell = _memory(p, np.int64, 1)
    before, cell[0] = cell[0], x
    return before


@verb(types.void, (Tag,), lambda b, tag: tag.isa_row.lower["pause"](b))
def pause(t: Any) -> None:
    """Tell the core that this thread is waiting."""


def _call(b: Any, address: Any, *args: Any) -> None:
    f = ir.FunctionType(ir.VoidType(), [I64] * len(args))
    b.call(b.inttoptr(address, f.as_pointer()), args)


@verb(types.void, (u, u, u, u), _call)
def call_kernel(address: int, instruction: int, worker: int, workers: int) -> None:
    """Call the compiled kernel at a native address."""
    import ctypes
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(address)(instruction, worker, workers)


@verb(types.void, (u,), _call)
def call_plain(address: int) -> None:
    """Call a native function that takes nothing and whose result is of no interest."""
    import ctypes
    ctypes.CFUNCTYPE(None)(address)()
