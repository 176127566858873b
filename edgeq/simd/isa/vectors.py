"""Vectors in LLVM's terms: the types of lines, and small tools that llvmlite's builder lacks.

Every vector is a *line*: 16 lanes of 32 bits, or their 64 bytes; LLVM splits it into registers, and an
instruction that LLVM cannot select by itself is called on slices of its own width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
LANES = 16
CODES = ir.VectorType(I8, 4 * LANES)
I16X32 = ir.VectorType(I16, 2 * LANES)
I32X16 = ir.VectorType(I32, LANES)
F16X16 = ir.VectorType(F16, LANES)
F32X16 = ir.VectorType(F32, LANES)
F64X16 = ir.VectorType(F64, LANES)

Builder = Any  # ir.IRBuilder: llvmlite carries no types
Value = Any


class Short(ir.Constant):
    """A constant for which LLVM has a word."""

    def __init__(self, t: Any, values: Any, word: str):
        super().__init__(t, values)
        self._word = word

    def get_reference(self) -> str:
        """What is written of it: llvmlite would write out each number."""
        return self._word


_vectors: dict[tuple[str, str], Value] = {}  # by what is written of them


def vector(t: Any, values: Sequence[float] | None) -> Value:
    """A vector of numbers, or of nothing in particular: one object for all that are alike. llvmlite makes an
    object of every number and writes each out, once for a vector, and kernels repeat some dozens of vectors.
    """
    key = str(t), repr(values)
    if key not in _vectors:
        _vectors[key] = _vector(t, values)
    return _vectors[key]


def _vector(t: Any, values: Sequence[float] | None) -> Value:
    if values is None:
        return Short(t, ir.Undefined, "undef")
    if all(repr(v) in ("0", "0.0") for v in values):  # not -0.0
        return Short(t, values, "zeroinitializer")
    return ir.Constant(t, values)


def const(t: Any, v: float) -> Value:
    return vector(t, [v] * t.count)


def call(b: Builder, name: str, out: Any, *args: Value) -> Value:
    """Call an LLVM intrinsic by its full name (llvmlite cannot mangle vector types itself)."""
    f = b.module.globals.get(name)
    if f is None:
        f = ir.Function(b.module, ir.FunctionType(out, [a.type for a in args]), name)
    return b.call(f, args)


def fma(b: Builder, v: Value, w: Value, acc: Value) -> Value:
    """acc + v * w, rounded once."""
    kind = f"v{v.type.count}f32" if isinstance(v.type, ir.VectorType) else "f32"
    return call(b, f"llvm.fma.{kind}", v.type, v, w, acc)


def at(b: Builder, address: Value, t: Any) -> Value:
    """What lies at the address, which need not be aligned."""
    v = b.load(b.inttoptr(address, t.as_pointer()))
    v.align = 1
    return v


def put(b: Builder, address: Value, v: Value) -> None:
    b.store(v, b.inttoptr(address, v.type.as_pointer())).align = 1


def opaque(b: Builder, word: Value) -> Value:
    """The 64-bit word, of which the optimizer knows nothing. No instruction comes of it."""
    return b.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [word], False)


REACH = 4  # strides


def step(b: Builder, address: Value, stride: Value, n: int) -> Value:
    return b.add(address, b.mul(stride, ir.Constant(I64, n)))


class Strided(NamedTuple):
    """Where something lies for each token: from `address` on, `stride` bytes apart."""

    address: Value
    stride: Value

    def moved(self, b: Builder, by: Value) -> Strided:
        return Strided(b.add(self.address, by), self.stride)

    def near(self, b: Builder, count: int) -> list[Value]:
        """The addresses."""
        return [step(b, *self, n) for n in range(count)]

    def far(self, b: Builder, count: int) -> list[Value]:
        """The addresses, of many: REACH of them are within an instruction's reach of one register: at 0, 1, 2
        and, with another register, 3 strides. More tokens get more such bases, of which the optimizer must
        not know that they are one: it would walk from each token to the next by an addition that waits for
        the one before.
        """
        if count <= REACH:
            return self.near(b, count)
        bases = [opaque(b, step(b, *self, n)) for n in range(0, count, REACH)]
        return [step(b, bases[n // REACH], self.stride, n % REACH) for n in range(count)]


def splat(b: Builder, s: Value, count: int = LANES) -> Value:
    t = ir.VectorType(s.type, count)
    u = vector(t, None)
    first = b.insert_element(u, s, ir.Constant(I32, 0))
    return b.shuffle_vector(first, u, vector(ir.VectorType(I32, count), [0] * count))


def pick(b: Builder, v: Value, lanes: Sequence[int], other: Value = None) -> Value:
    """The given lanes of v, in order; the lanes of `other` count on from v's."""
    mask = vector(ir.VectorType(I32, len(lanes)), list(lanes))
    return b.shuffle_vector(v, vector(v.type, None) if other is None else other, mask)


def join(b: Builder, parts: Sequence[Value]) -> Value:
    """Concatenate a power of two of equal vectors."""
    while len(parts) > 1:
        lanes = range(2 * parts[0].type.count)
        parts = [pick(b, x, lanes, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def cut(b: Builder, v: Value, parts: int) -> list[Value]:
    """v in `parts` equal slices."""
    n = v.type.count // parts
    return [pick(b, v, range(i * n, i * n + n)) for i in range(parts)] if parts > 1 else [v]


def by_parts(b: Builder, parts: int, f: Callable[..., Value], *vectors: Value) -> Value:
    """f on each of `parts` equal slices of the vectors, joined again."""
    slices = [cut(b, v, parts) for v in vectors]
    return join(b, [f(*s) for s in zip(*slices, strict=True)])
