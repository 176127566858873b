"""Calls of single verbs: each compiled into a function of one address, from which it takes its arguments.

Memory is a row of slots. Slot 0 takes the result, slot 1 holds the first argument, and so on. What an
argument is, a letter says; the meaning in NumPy gets the same letters' values out of a copy of the memory.

    t tag    a address of the slot    n int64    k int32    x float32    y float64
    f d i c lines of float32, float64, int32, bytes          F I bundles of float32, int32
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from edgeq.packs.executable import Executable
from edgeq.simd import compile, verbs
from edgeq.simd.frontend import written
from edgeq.simd.isa.vectors import LANES, at, put
from edgeq.simd.link import link
from edgeq.simd.tag import Tag
from edgeq.simd.target import Target
from edgeq.simd.verbs.registry import MEANING, codes, each_f32, each_i32, f32, f64, i32
from tests import emulator

SLOT = 1024
SLOTS = 8
Array = np.ndarray[Any, Any]

SCALARS = {
    "n": (np.int64, "peek_i64"),
    "k": (np.int32, "peek_i32"),
    "x": (np.float32, "peek_f32"),
    "y": (np.float64, "peek_f64"),
}
LINES = {
    "f": (np.float32, LANES),
    "d": (np.float64, LANES),
    "i": (np.int32, LANES),
    "c": (np.uint8, 4 * LANES),
}


KEEP: list[Executable] = []  # compiled functions live as long as the tests


def _moves(kind: Any) -> tuple[Any, Any]:
    """A load and a store of any vector or bundle, for numba."""

    @intrinsic
    def load(context, p):  # type: ignore[no-untyped-def]
        return kind(types.int64), lambda context, b, sig, v: at(b, v[0], kind.ir)

    @intrinsic
    def store(context, p, x):  # type: ignore[no-untyped-def]
        def generate(context, b, sig, v):  # type: ignore[no-untyped-def]
            put(b, *v)
            return context.get_dummy_value()

        return types.void(types.int64, kind), generate

    return load, store


def _kind(letter: str, tag: Tag) -> Any:
    tagged = verbs.TagType(tag)
    return {"f": f32, "d": f64, "i": i32, "c": codes, "F": each_f32(tagged), "I": each_i32(tagged)}[letter]


class Memory:
    """Slots, 64-byte aligned."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._raw = emulator.zeros(SLOT * slots + 64)
        start = -int(self._raw.ctypes.data) % 64
        self.bytes = self._raw[start : start + SLOT * slots]
        self.address = int(self.bytes.ctypes.data)

    def put(self, slot: int, value: Any) -> None:
        self.lay(slot * SLOT, value)

    def lay(self, at: int, value: Any) -> None:
        """The value's bytes from that byte on."""
        raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self.bytes[at : at + len(raw)] = raw

    def get(self, slot: int, dtype: Any, count: int) -> Array:
        return self.at(slot * SLOT, dtype, count)

    def at(self, at: int, dtype: Any, count: int) -> Array:
        size = count * np.dtype(dtype).itemsize
        return self.bytes[at : at + size].view(dtype)


def _stored(letter: str, slot: int) -> str:
    """The text that stores `out` of that kind."""
    pokes = {"k": "poke_i32", "x": "poke_f32", "y": "poke_f64"}
    scalars = {"n": "store_n(m, out)", **{each: f"{poke}(m, out)" for each, poke in pokes.items()}}
    return scalars.get(letter) or f"store_{letter}(m, out)"


def _argument(letter: str, slot: int) -> str:
    place = f"m + {slot * SLOT}"
    if letter == "t":
        return "t"
    if letter == "a":
        return place
    return f"{SCALARS[letter][1]}({place})" if letter in SCALARS else f"load_{letter}({place})"


@intrinsic
def store_n(context, p, x):  # type: ignore[no-untyped-def]
    def generate(context, b, sig, v):  # type: ignore[no-untyped-def]
        put(b, *v)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def compiled(text: str, tag: Tag, letters: str = "") -> Callable[[int], None]:
    """The native function of one address m whose body is `text`; t is the tag, and loads and stores of the
    letters' kinds are to be had.
    """
    scope: dict[str, Any] = {**{n: getattr(verbs, n) for n in verbs.__all__}, "t": tag, "store_n": store_n}
    for letter in set(letters) & set("fdicFI"):
        scope[f"load_{letter}"], scope[f"store_{letter}"] = _moves(_kind(letter, tag))
    lines = "\n    ".join(text.splitlines())
    exec(f"def f(m):\n    {lines}\n", scope)
    signature = types.void(types.int64)
    target = emulator.target(tag.isa) if emulator.CPU else Target.of(tag.isa)
    module = compile.optimized(*written(scope["f"], signature), 1, "f", target)
    blob = bytes(compile.target_machine(target).emit_object(module))
    if emulator.CPU:
        return emulator.loaded(blob, "f")
    image, at = link({"f": blob}, "f", target.machine)
    KEEP.append(Executable.of_bytes(image))
    return ctypes.CFUNCTYPE(None, ctypes.c_int64)(KEEP[-1].address + at["f"])


def verb_call(name: str, letters: str, result: str, tag: Tag) -> Callable[[int], None]:
    """One verb, compiled to take its arguments from slots and leave its result in slot 0."""
    arguments = ", ".join(_argument(letter, n) for n, letter in enumerate(letters, 1))
    text = f"{name}({arguments})" if not result else f"out = {name}({arguments})\n{_stored(result, 0)}"
    return compiled(text, tag, letters + result)


def operator_call(operator: str, letter: str) -> Callable[[int], None]:
    """A binary operator between two lines."""
    text = f"out = {_argument(letter, 1)} {operator} {_argument(letter, 2)}\n{_stored(letter, 0)}"
    return compiled(text, Tag("generic"), letter)


def value(memory: Memory, letter: str, slot: int, tag: Tag) -> Any:
    """The argument of that kind as the meaning takes it."""
    if letter == "t":
        return tag
    if letter == "a":
        return memory.address + slot * SLOT
    if letter in SCALARS:
        scalar = memory.get(slot, SCALARS[letter][0], 1)[0]
        return int(scalar) if letter == "n" else scalar
    if letter in LINES:
        dtype, count = LINES[letter]
        return memory.get(slot, dtype, count).copy()
    dtype = np.float32 if letter == "F" else np.int32
    return memory.get(slot, dtype, tag.tokens * LANES).reshape(tag.tokens, LANES).copy()


def mean(name: str, letters: str, result: str, tag: Tag, memory: Memory) -> None:
    """What `verb_call` does, by the verb's NumPy body."""
    with np.errstate(all="ignore"):
        out = MEANING[name](*(value(memory, letter, n, tag) for n, letter in enumerate(letters, 1)))
        if result:
            dtype = SCALARS[result][0] if result in SCALARS else LINES[result.lower()][0]
            memory.put(0, np.asarray(out).astype(dtype, casting="same_kind"))


def same(a: Array, b: Array, dtype: Any) -> bool:
    """The same bits; of NaNs only that they are."""
    if np.array_equal(a, b):
        return True
    x, y = a.view(dtype), b.view(dtype)
    if np.dtype(dtype).kind != "f":
        return False
    nan = np.isnan(x) & np.isnan(y)
    bits = f"u{np.dtype(dtype).itemsize}"
    return bool(np.all(nan | (x.view(bits) == y.view(bits))))
