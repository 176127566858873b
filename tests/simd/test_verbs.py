"""Every verb on every instruction set against its meaning in NumPy, bit for bit.

A verb is a row of CASES; one without a row fails `test_every_verb_has_a_case`. NaNs are compared as such:
what their payload is, no verb says.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from edgeq.formats import encode_parts
from edgeq.formats.schemes import SCHEMES, Scheme, dequantize, pack
from edgeq.kernels import meaning
from edgeq.kernels.row import CACHED, FLOATS
from edgeq.simd import verbs
from edgeq.simd.isa import by_name
from edgeq.simd.isa.parts import halves
from edgeq.simd.isa.vectors import I32X16, LANES
from edgeq.simd.isa.wide import WIDE_MAX
from edgeq.simd.tag import Tag
from edgeq.simd.verbs.dots import dots_of
from edgeq.simd.verbs.registry import MEANING
from edgeq.simd.verbs.wide import wide_of
from tests import emulator
from tests.formats.parts import TOYS, random_parts
from tests.kernels.calling import random_part
from tests.simd.native import SLOT, Array, Memory, compiled, mean, operator_call, same, verb_call
from tests.simd.rows import CODES, HERE, SOME, runnable

Rng = np.random.Generator
Fill = Callable[[Rng, int, Tag], Any]

SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38,
     -3.4028235e38, 1.0, -1.0, 0.5, 16777216.0, 16777218.0, 65504.0, 65519.996, 65520.0, 5.9604645e-08,
     2.9802322e-08],
    np.float32,
)  # fmt: skip
BIG = (0, 1, 15, 16, 17, -1, 2**31 - 1, 2**31, 2**32, 2**32 + 3, -(2**31), -(2**32), 2**63 - 1, -(2**63))


def floats(rng: Rng, shape: Any) -> Array:
    """Of every magnitude, a fifth of them special."""
    ordinary = rng.normal(size=shape) * np.exp2(rng.choice([0.0, 0.0, 3.0, -60.0, 60.0, -140.0], size=shape))
    return np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, shape), ordinary.astype(np.float32))


def ints(rng: Rng, shape: Any) -> Array:
    """Of every magnitude, with ties of the conversion to float32."""
    wide = rng.integers(-(2**31), 2**31, shape)
    corner = rng.choice([0, 1, -1, 2**31 - 1, -(2**31), 2**24 + 1, 2**24 + 3, -(2**24) - 1], shape)
    return np.where(rng.random(shape) < 0.5, wide >> rng.integers(0, 32, shape), corner).astype(np.int32)


def big(rng: Rng, trial: int, tag: Tag) -> Any:
    return np.int64(BIG[trial % len(BIG)] if trial < 60 else rng.integers(-(2**63), 2**63 - 1))


def bound(rng: Rng, trial: int, tag: Tag) -> Any:
    """A lane bound: mostly 0..16, also far outside on both sides."""
    return np.int64(rng.integers(-3, 20) if rng.random() < 0.6 else rng.choice(BIG))


def doubles(rng: Rng, shape: Any) -> Array:
    """Of every magnitude of float64."""
    return floats(rng, shape).astype(np.float64) * np.exp2(rng.choice([0.0, 0.0, 500.0, -500.0], size=shape))


DEFAULT: dict[str, Fill] = {
    "n": big,
    "k": lambda rng, trial, tag: ints(rng, 1),
    "x": lambda rng, trial, tag: floats(rng, 1),
    "y": lambda rng, trial, tag: doubles(rng, 1),
    "f": lambda rng, trial, tag: floats(rng, LANES),
    "d": lambda rng, trial, tag: doubles(rng, LANES),
    "i": lambda rng, trial, tag: ints(rng, LANES),
    "c": lambda rng, trial, tag: rng.integers(0, 256, 4 * LANES, np.uint8),
    "F": lambda rng, trial, tag: floats(rng, (tag.tokens, LANES)),
    "I": lambda rng, trial, tag: ints(rng, (tag.tokens, LANES)),
    "a": lambda rng, trial, tag: floats(rng, SLOT // 4),
}


@dataclass(frozen=True)
class Case:
    """A verb's arguments and result in the letters of `native`, and what to put where."""

    letters: str
    result: str = ""
    fill: dict[int, Fill] = field(default_factory=dict)  # by slot, where DEFAULT will not do
    schemes: tuple[str, ...] = ("",)
    view: str = "<f4"  # how memory is compared
    trials: int = 96


def magnitudes(rng: Rng, trial: int, tag: Tag) -> Any:
    """Bit patterns of floats without a sign, NaNs among them."""
    return (rng.integers(0, 2**32, LANES, np.uint32) >> np.uint32(1)).view(np.float32)


def half_line(rng: Rng, trial: int, tag: Tag) -> Any:
    return np.arange(trial * LANES, (trial + 1) * LANES, dtype=np.uint32).astype(np.uint16)


def around_half(rng: Rng, trial: int, tag: Tag) -> Any:
    """The float32 values of every half, and beside and on the middle between it and the next."""
    half = half_line(rng, trial % 4096, tag).view(np.float16).astype(np.float32)
    if trial < 4096:
        return half
    with np.errstate(all="ignore"):
        bits = half_line(rng, trial % 4096, tag) & 0x7FFF
        after = (np.minimum(bits, 0x7BFF) + 1).astype(np.uint16).view(np.float16).astype(np.float32)
        after = np.where(np.isfinite(after), after, np.float32(65536.0))
        middle = np.copysign((np.abs(half) + after) / 2, half)
    step = trial // 4096 - 2  # -1, 0, 1
    return (middle.view(np.int32) + step).view(np.float32)


def tie(rng: Rng, trial: int, tag: Tag) -> Any:
    whole = rng.integers(-(2**21), 2**21, LANES) if trial % 2 else rng.integers(-40, 40, LANES)
    return (whole + rng.choice([0.5, 0.0, 0.25, -0.5, 0.499], LANES)).astype(np.float32)


def small(low: int, high: int) -> Fill:
    return lambda rng, trial, tag: np.int64(low + trial % (high - low))


def stride(rng: Rng, trial: int, tag: Tag) -> Any:
    return np.int64(4 * (trial % 25))


def line_stride(rng: Rng, trial: int, tag: Tag) -> Any:
    return np.int64(64 + 4 * (trial % 10))


def sometimes_zero(rng: Rng, trial: int, tag: Tag) -> Any:
    return np.where(rng.random(SLOT // 4) < 0.4, np.float32(0.0), floats(rng, SLOT // 4))


def powers(rng: Rng, trial: int, tag: Tag) -> Any:
    return np.int32((trial * LANES + np.arange(LANES)) % 254 - 126)


def wide_tie(rng: Rng, trial: int, tag: Tag) -> Any:
    whole = rng.integers(-(2**50), 2**50, LANES) if trial % 2 else rng.integers(-40, 40, LANES)
    return whole + rng.choice([0.5, 0.0, 0.25, -0.5, 0.499], LANES)


def wide_powers(rng: Rng, trial: int, tag: Tag) -> Any:
    return ((trial * LANES + np.arange(LANES)) % 2046 - 1022).astype(np.float64)


CODED = (*CODES, *(name for name, row in TOYS.items() if row.planes))

CASES = {
    "peek_i64": Case("a", "n"),
    "peek_i32": Case("a", "k"),
    "peek_f32": Case("a", "x"),
    "peek_f64": Case("a", "y", view="<f8"),
    "peek_u8": Case("a", "k"),
    "poke_f32": Case("ax"),
    "poke_f64": Case("ay", view="<f8"),
    "poke_i32": Case("ak"),
    "poke_u8": Case("ak"),
    "peek_shared": Case("a", "n"),
    "fetch_add": Case("an", "n"),
    "exchange": Case("an", "n"),
    "replace": Case("ann", "n", {1: small(0, 2), 2: small(0, 3)}),
    "float_bits": Case("n", "x"),
    "root": Case("x", "x"),
    "eleven_bits": Case("x", "x"),
    "opaque": Case("n", "n"),
    "prefetch": Case("n"),
    "pause": Case("t"),
    "load_f32": Case("a", "f"),
    "store_f32": Case("af"),
    "load_f16": Case("ta", "f", {2: half_line}, trials=4096),
    "store_f16": Case("taf", "", {3: around_half}, view="<f2", trials=4 * 4096),
    "load_values": Case("ta", "f", schemes=FLOATS),
    "poke_value": Case("tax", schemes=CACHED, view="<f2"),
    "store_i8": Case("ai"),
    "load_codes": Case("a", "c"),
    "store_quads": Case("aiiii"),
    "where_less": Case("ffff", "f"),
    "store_i32": Case("ai"),
    "splat_f32": Case("x", "f"),
    "fma": Case("fff", "f"),
    "larger": Case("ff", "f"),
    "where_at_least": Case("ffff", "f"),
    "hadamard": Case("f", "f", trials=200),
    "larger_magnitude": Case("ff", "f"),
    "max_magnitude": Case("f", "x", {1: magnitudes}),
    "nearest": Case("f", "i", {1: tie}),
    "whole": Case("f", "f", {1: tie}),
    "power2": Case("i", "f", {1: powers}),
    "sum_f32": Case("f", "x"),
    "splat_f64": Case("y", "d", view="<f8"),
    "widen_f32": Case("f", "d", view="<f8"),
    "larger_f64": Case("dd", "d", view="<f8"),
    "whole_f64": Case("d", "d", {1: wide_tie}, view="<f8"),
    "power2_f64": Case("d", "d", {1: wide_powers}, view="<f8"),
    "sum_f64": Case("d", "y", view="<f8"),
    "sum_halves": Case("ii", "k"),
    "max_f32": Case("f", "x"),
    "keep": Case("fnnx", "f", {2: bound, 3: bound}, trials=600),
    "lane": Case("fn", "x", {2: small(0, 16)}),
    "column": Case("cn", "f", {2: small(0, 4)}),
    "zeros_each": Case("t", "F"),
    "no_sums": Case("t", "I"),
    "floats_each": Case("tI", "F"),
    "scaled_add_each": Case("tFIfan", "F", {6: stride}, schemes=("q8",), trials=32),
    "fma_each": Case("tFfan", "F", {5: stride}, trials=32),
    "fma_seen_each": Case("tFfan", "F", {4: sometimes_zero, 5: stride}, trials=64),
    "scale_each": Case("tFfF", "F", trials=32),
    "add_each": Case("tFf", "F"),
    "sum_each": Case("tFF", "F"),
    "times_each": Case("tFf", "F"),
    "load_each": Case("tann", "F", {3: line_stride, 4: small(1, 10)}),
    "store_each": Case("tanFn", "", {3: line_stride, 5: small(1, 10)}),
    "merge_each": Case("tFaFa", "F", trials=32),
}
APART = {  # verbs with a test of their own below
    **dict.fromkeys(("tile_parts", "group_parts", "dots", "add_group_each"), "test_dots"),
    **dict.fromkeys(("quad", "sub_scale", "sub_min"), "test_numbers"),
    **dict.fromkeys(("group_scale", "group_min", "row_floats"), "test_numbers"),
    "values_at": "test_values_at",
    "with_room": "test_dots_of_codes_unpacked",
    **dict.fromkeys(("lines_at", "prefetch_group"), "test_lines_at"),
    "wide_dots": "test_wide_dots",
    "store_wide": "test_numbers_of_16_bits",
    "call_kernel": "test_calls",
    "call_system": "test_calls",
}


def tags(case: Case) -> list[Tag]:
    """What to compile a case for. A verb without a tag has one spelling for all instruction sets."""
    if "t" not in case.letters:
        return [Tag("generic")]
    tiled = bool(set(case.letters + case.result) & set("FI"))
    return [
        Tag(row.name, scheme, tokens)
        for row in runnable()
        for scheme in case.schemes
        for tokens in ((1, row.tokens) if tiled else (1,))
    ]


def test_every_verb_has_a_case() -> None:
    assert set(CASES) | set(APART) == set(MEANING)
    assert all(name in globals() for name in APART.values())


def name_of(tag: Tag) -> str:
    return f"{tag}x{tag.tokens}"


PAIRS = [
    pytest.param(name, tag, id=f"{name}-{name_of(tag)}") for name, case in CASES.items() for tag in tags(case)
]


@pytest.mark.parametrize(("name", "tag"), PAIRS)
def test_verb(name: str, tag: Tag) -> None:
    case = CASES[name]
    call = verb_call(name, case.letters, case.result, tag)
    rng = np.random.default_rng(sum(name.encode()))
    native, meant = Memory(), Memory()
    used = (len(case.letters) + 1) * SLOT
    for trial in range(case.trials):
        for slot, letter in enumerate(case.letters, 1):
            if letter != "t":
                given = case.fill.get(slot, DEFAULT[letter])(rng, trial, tag)
                native.put(slot, given)
                meant.put(slot, given)
        call(native.address)
        mean(name, case.letters, case.result, tag, meant)
        if not same(native.bytes[:used], meant.bytes[:used], case.view):
            at = int(np.flatnonzero(native.bytes[:used] != meant.bytes[:used])[0])
            slot, offset = divmod(at, SLOT)
            line = slice(at // 64 * 64, at // 64 * 64 + 64)
            raise AssertionError(
                f"{name} {tag}, trial {trial}, slot {slot} from byte {offset // 64 * 64}: "
                f"{native.bytes[line].view(case.view)} is not {meant.bytes[line].view(case.view)}"
            )


@pytest.mark.parametrize(
    ("operator", "letter"),
    [("+", "f"), ("-", "f"), ("*", "f"), ("/", "f"), ("+", "d"), ("-", "d"), ("*", "d")],
)
def test_operators_of_float_lines(operator: str, letter: str) -> None:
    call = operator_call(operator, letter)
    fill, dtype = (floats, np.float32) if letter == "f" else (doubles, np.float64)
    rng = np.random.default_rng(1)
    m = Memory()
    for _ in range(200):
        a, b = fill(rng, LANES), fill(rng, LANES)
        m.put(1, a)
        m.put(2, b)
        call(m.address)
        with np.errstate(all="ignore"):
            want = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[operator]
        assert same(m.get(0, dtype, LANES).copy(), want, np.dtype(dtype).str), (a, operator, b)


def test_sum_of_integer_lines_wraps() -> None:
    call = operator_call("+", "i")
    rng = np.random.default_rng(2)
    m = Memory()
    for _ in range(100):
        a, b = ints(rng, LANES), ints(rng, LANES)
        m.put(1, a)
        m.put(2, b)
        call(m.address)
        np.testing.assert_array_equal(m.get(0, np.int32, LANES), a + b)


# ---- groups ----
X_STRIDE = 40  # bytes from a token's activations to the next one's
X, SUMS, SCALES, WEIGHTS, ROOM = 3 * SLOT, 3 * SLOT + 512, 3 * SLOT + 768, 4 * SLOT, 12 * SLOT
GROUP = f"""w = tile_parts(t, m + {WEIGHTS}, 2, STEP, 1)
w = with_room(t, w, m + {ROOM}, m + {ROOM} + 16 * STEP)
w = group_parts(t, w, STEP // group(t) - 1)
"""
DOTS = f"""out = dots(t, w, m + {X}, {X_STRIDE}, m + {SUMS}, 4)
store_SUM(m, out)
"""
ADDED = f"""out = add_group_each(t, load_F(m + {SLOT}), w, m + {X}, {X_STRIDE}, m + {SCALES}, m + {SUMS}, 4)
store_F(m + {2 * SLOT}, out)"""
NUMBERS = """for i in range(group(t) // 4):
    v = quad(t, w, i)
    for j in range(4):
        store_f32(m + i * 256 + j * 64, column(v, j))
for h in range(halves(t)):
    store_f32(m + 2048 + h * 64, sub_scale(t, w, h))
    store_f32(m + 2176 + h * 64, sub_min(t, w, h))
store_f32(m + 2304, group_scale(t, w))
store_f32(m + 2368, group_min(t, w))
store_f32(m + 2432, row_floats(t, w))"""
WIDE_STRIDE = 96  # bytes from a token's numbers to the next one's
WIDE_DOTS = f"""out = wide_dots(t, load_I(m), m + {2 * SLOT}, m + {3 * SLOT}, {WIDE_STRIDE})
store_I(m, out)"""
STORED_WIDE = f"""store_wide(t, m + {2 * SLOT}, load_i(m))
store_wide(t, m + {2 * SLOT} + 32, load_i(m + 64))"""
TILES = [(row, tokens) for row in runnable() for tokens in sorted({1, 3, row.tokens})]


def corners(rng: Rng, trial: int, low: int, high: int, shape: Any, dtype: Any) -> Array:
    """low..high: all one end or the other at first, then the ends and their neighbours, then anything."""
    if trial < 4:
        return np.full(shape, (low, high)[trial % 2], dtype)
    if trial < 40:
        return rng.choice([low, low + 1, (low + high + 1) // 2, high - 1, high], shape).astype(dtype)
    return rng.integers(low, high + 1, shape).astype(dtype)


def tile_of(x: Array) -> Array:
    """Activations [tokens, columns of a group] as they lie in memory."""
    return np.pad(x, ((0, 0), (0, X_STRIDE - x.shape[1])), constant_values=99)


def sums_of(x: Array) -> Array:
    """Their sums of 16 columns each, int16, 4 bytes from a token's to the next one's."""
    sums = x.reshape(len(x), -1, 16).sum(2, dtype=np.int16)
    return np.pad(sums, ((0, 0), (0, 2 - sums.shape[1])), constant_values=999)


def last_group(scheme: Scheme) -> str:
    """The text that finds the last group of a step, in the second of two tiles."""
    return GROUP.replace("STEP", str(scheme.step))


def some_parts(rng: Rng, trial: int, scheme: Scheme) -> dict[str, Array]:
    """The parts of two tiles of a step, row-major; codes and sub-scales as `corners`."""
    found = {}
    for n, part in enumerate(scheme.arrays):
        shape = 2 * LANES, part.entries(scheme.step)
        if part.number:
            found[part.name] = random_part(rng, part, shape)
            continue
        limits = np.iinfo(part.dtype)
        low, high = (0, 2**part.bits - 1) if part.bits else (limits.min, limits.max)
        found[part.name] = corners(rng, trial >> n if trial < 4 else trial, low, high, shape, part.dtype)
    return found


def compiled_dots(text: str, tag: Tag) -> Any:
    """A text with DOTS in it, whose sums are integers or floats as the tag has them."""
    letter = "I" if dots_of(tag).sum == I32X16 else "F"
    return compiled(text.replace("store_SUM", f"store_{letter}"), tag, letter + "F")


def sums_in(m: Memory, tag: Tag) -> Array:
    dtype = np.int32 if dots_of(tag).sum == I32X16 else np.float32
    return m.get(0, dtype, tag.tokens * LANES).reshape(tag.tokens, LANES)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the table with what none of its own has."""
    for row in TOYS.values():
        monkeypatch.setitem(SCHEMES, row.name, row)


@pytest.mark.parametrize(
    ("name", "scheme_name", "tokens"),
    [
        (row.name, scheme, tokens)
        for row, tokens in TILES
        for scheme in CODED
        if tokens == (row.tokens if row.name == HERE else 3) or scheme in SOME
    ],
)
@pytest.mark.usefixtures("toys")
def test_dots(name: str, scheme_name: str, tokens: int) -> None:
    """A group as kernels add it up: against the verbs' meanings and against plain integers."""
    tag = Tag(name, scheme_name, tokens)
    scheme, m = tag.scheme_row, Memory(12)
    call = compiled_dots(last_group(scheme) + DOTS + ADDED, tag)
    rng = np.random.default_rng(3)
    groups = scheme.step // scheme.group
    last, rows = slice(scheme.step - scheme.group, None), slice(LANES, None)
    for trial in range(100):
        given = some_parts(rng, trial, scheme)
        x = corners(rng, trial // 2, -127, 127, (tag.tokens, scheme.group), np.int8)
        acc, scales = floats(rng, (tag.tokens, LANES)) + np.float32(0), floats(rng, tag.tokens)
        data = np.concatenate(list(encode_parts(given, scheme)))
        for at, value in ((SLOT, acc), (WEIGHTS, data), (X, tile_of(x)), (SCALES, scales)):
            m.lay(at, value)
        m.lay(SUMS, sums_of(x))
        call(m.address)
        got = sums_in(m, tag)
        plain = meaning.Codes.of(given, scheme)
        sub = np.repeat(plain.sub, scheme.step // plain.sub.shape[1], axis=1)
        exact = x.astype(np.int64) @ (plain.v * sub)[rows, last].T
        np.testing.assert_array_equal(got.view(np.int32), exact.astype(got.dtype).view(np.int32))
        parts = MEANING["tile_parts"](tag, m.address + WEIGHTS, 2, scheme.step, 1)
        w = MEANING["group_parts"](tag, parts, groups - 1)
        found = MEANING["dots"](tag, w, m.address + X, X_STRIDE, m.address + SUMS, 4)
        np.testing.assert_array_equal(got, found)
        if trial % 7:  # an fma is slow in Python
            continue
        with np.errstate(all="ignore"):
            places = m.address + X, X_STRIDE, m.address + SCALES, m.address + SUMS, 4
            want = MEANING["add_group_each"](tag, acc, w, *places)
        assert same(m.at(2 * SLOT, np.float32, tag.tokens * LANES).copy(), want.reshape(-1), "<f4")


@pytest.mark.parametrize(
    ("name", "scheme_name", "tokens"),
    [
        (row.name, scheme, tokens)
        for row, tokens in TILES
        for scheme in CODED
        if row.unpacks_once(TOYS.get(scheme) or SCHEMES[scheme])
        and ((tokens == row.tokens and row.name == HERE) or scheme in SOME)
    ],
)
@pytest.mark.usefixtures("toys")
def test_dots_of_codes_unpacked(name: str, scheme_name: str, tokens: int) -> None:
    """The tile that unpacks a group, and one that finds it so when what was stored is gone, add what one adds
    that reads it as it is.
    """
    tag = Tag(name, scheme_name, tokens)
    scheme, m = tag.scheme_row, Memory(20)
    text = last_group(scheme) + ADDED
    calls = [compiled(text.replace("(t,", f"({how}(t),"), tag, "F") for how in ("unpacking", "unpacked")]
    rng = np.random.default_rng(6)
    columns = scheme.step
    for trial in range(25):
        given = some_parts(rng, trial, scheme)
        x = corners(rng, trial // 2, -127, 127, (tokens, scheme.group), np.int8)
        acc, scales = floats(rng, (tokens, LANES)) + np.float32(0), floats(rng, tokens)
        data = np.concatenate(list(encode_parts(given, scheme)))
        for at, value in ((SLOT, acc), (WEIGHTS, data), (X, tile_of(x)), (SCALES, scales)):
            m.lay(at, value)
        m.lay(SUMS, sums_of(x))
        parts = MEANING["tile_parts"](tag, m.address + WEIGHTS, 2, columns, 1)
        places = m.address + X, X_STRIDE, m.address + SCALES, m.address + SUMS, 4
        want = []
        for one in (tag.unpacking, tag.unpacked):
            w = MEANING["with_room"](one, parts, m.address + ROOM, m.address + ROOM + 16 * columns)
            w = MEANING["group_parts"](one, w, columns // scheme.group - 1)
            with np.errstate(all="ignore"):
                want.append(MEANING["add_group_each"](one, acc.copy(), w, *places).reshape(-1))
        for call, meant in zip(calls, want, strict=True):
            call(m.address)
            assert same(m.at(2 * SLOT, np.float32, tokens * LANES).copy(), meant, "<f4")
            m.lay(WEIGHTS, rng.integers(0, 256, len(data), np.uint8))


@pytest.mark.parametrize("scheme_name", CODED)
@pytest.mark.parametrize("name", [row.name for row in runnable()])
@pytest.mark.usefixtures("toys")
def test_numbers(name: str, scheme_name: str) -> None:
    """The integers and floats of a group, against the meanings and against `dequantize`."""
    tag = Tag(name, scheme_name)
    scheme, m = tag.scheme_row, Memory(12)
    call = compiled(last_group(scheme) + NUMBERS, tag)
    rng = np.random.default_rng(5)
    size, groups = scheme.group, scheme.step // scheme.group
    for trial in range(20):
        given = some_parts(rng, trial, scheme)
        m.lay(WEIGHTS, np.concatenate(list(encode_parts(given, scheme))))
        call(m.address)
        parts = MEANING["tile_parts"](tag, m.address + WEIGHTS, 2, scheme.step, 1)
        w = MEANING["group_parts"](tag, parts, groups - 1)
        columns = [MEANING["column"](MEANING["quad"](tag, w, n // 4), n % 4) for n in range(size)]
        count = halves(scheme)
        by_half = [[MEANING[n](tag, w, h) for h in range(count)] for n in ("sub_scale", "sub_min")]
        whole = [MEANING[n](tag, w) for n in ("group_scale", "group_min", "row_floats")]
        places = [n * 64 for n in range(size)] + [at + h * 64 for at in (2048, 2176) for h in range(count)]
        meant = [*columns, *itertools.chain(*by_half), *whole]
        for at, want in zip([*places, 2304, 2368, 2432], meant, strict=True):
            assert same(m.at(at, np.float32, LANES).copy(), want, "<f4"), at
        sub, submin = (np.repeat(np.stack(lines, 1), size // count, 1) for lines in by_half)
        value = (np.stack(columns, 1) * sub + np.float32(0)) * whole[0][:, None]
        if scheme.min:
            value = value + submin * whole[1][:, None]
        value = value * whole[2][:, None]
        assert same(value, dequantize(given, scheme)[LANES:, scheme.step - size :], "<f4")


def test_lines_at() -> None:
    """A group of which only the codes are there, asked for ahead of what exists."""
    tag = Tag(HERE, "q8")
    m = Memory()
    text = f"w = lines_at(t, m + {2 * SLOT})\nprefetch_group(t, w, 1 << 40)\n"
    m.put(2, np.arange(512).astype(np.uint8))
    compiled(text + "store_f32(m, column(quad(t, w, 3), 1))", tag)(m.address)
    w = MEANING["lines_at"](tag, m.address + 2 * SLOT)
    want = MEANING["column"](MEANING["quad"](tag, w, 3), 1)
    assert MEANING["prefetch_group"](tag, w, 1 << 40) is None
    np.testing.assert_array_equal(m.get(0, np.float32, LANES), want)


@pytest.mark.parametrize("tag", [Tag(r.name, "q8", n) for r, n in TILES], ids=name_of)
def test_wide_dots(tag: Tag) -> None:
    """Signed bytes times numbers of 16 bits, added to what was there: against the verb's meaning and against
    plain integers.
    """
    call = compiled(WIDE_DOTS, tag, "I")
    rng = np.random.default_rng(4)
    m = Memory()
    for trial in range(300):
        values = corners(rng, trial, -127, 127, (LANES, 32), np.int8)
        x = corners(rng, trial // 2, -WIDE_MAX, WIDE_MAX, (tag.tokens, 32), np.int32)
        before = rng.integers(-(2**30), 2**30, (tag.tokens, LANES)).astype(np.int32)
        m.put(0, before)
        m.put(2, pack(values.view(np.uint8), (8,))[0])
        m.put(3, np.pad(wide_of(tag).layout.laid(x), ((0, 0), (0, WIDE_STRIDE - 64)), constant_values=99))
        at = m.address + 2 * SLOT, m.address + 3 * SLOT, WIDE_STRIDE
        meant = MEANING["wide_dots"](tag, before, *at)
        call(m.address)
        got = m.get(0, np.int32, tag.tokens * LANES).reshape(tag.tokens, LANES)
        np.testing.assert_array_equal(got, before + x.astype(np.int64) @ values.astype(np.int64).T)
        np.testing.assert_array_equal(got, meant)


@pytest.mark.parametrize("tag", [Tag(row.name, "q8") for row in runnable()], ids=name_of)
def test_numbers_of_16_bits(tag: Tag) -> None:
    """What is stored is read again, by the layout that the instruction set says it has."""
    call = compiled(STORED_WIDE, tag, "i")
    layout, every = wide_of(tag).layout, np.arange(-WIDE_MAX, WIDE_MAX + 1, dtype=np.int32)
    m = Memory()
    for numbers in every[: len(every) // 32 * 32].reshape(-1, 32)[::7]:
        m.put(0, numbers)
        call(m.address)
        got = m.get(2, np.uint8, 64).copy()
        np.testing.assert_array_equal(got, layout.laid(numbers))
        np.testing.assert_array_equal(layout.read(got), numbers)
        for at in (0, 1):
            MEANING["store_wide"](tag, m.address + 4 * SLOT + 32 * at, numbers[16 * at : 16 * at + 16])
        np.testing.assert_array_equal(got, m.get(4, np.uint8, 64))


# ---- calls ----
def address(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


@pytest.mark.usefixtures("toys")
def test_values_at() -> None:
    """Plain numbers and the rows' floats of the second of two tiles, of a number of columns that is no whole
    group.
    """
    tag, m = Tag(HERE, "toyf"), Memory(12)
    text = f"w = tile_parts(t, m + {WEIGHTS}, 2, 5, 1)\n"
    text += "store_f32(m, load_values(t, values_at(t, w) + 4 * 32))\nstore_f32(m + 64, row_floats(t, w))"
    given = random_parts(tag.scheme_row, 2 * LANES, 5)
    m.lay(WEIGHTS, np.concatenate(list(encode_parts(given, tag.scheme_row))))
    compiled(text, tag)(m.address)
    w = MEANING["tile_parts"](tag, m.address + WEIGHTS, 2, 5, 1)
    want = MEANING["load_values"](tag, MEANING["values_at"](tag, w) + 4 * 32), MEANING["row_floats"](tag, w)
    assert same(m.at(0, np.float32, 2 * LANES).copy(), np.concatenate(want), "<f4")
    assert np.array_equal(want[0], given["value"][LANES:, 4].astype(np.float32))
    assert np.array_equal(want[1], given["row"][LANES:, 0])


@pytest.mark.skipif(bool(emulator.CPU), reason="Python's functions are not there")
def test_calls() -> None:
    """call_kernel and call_system reach the function at the address, with the arguments in order."""
    seen: list[tuple[int, ...]] = []
    three = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(lambda *given: seen.append(given))
    one = ctypes.CFUNCTYPE(None, ctypes.c_int64)(lambda given: seen.append((given,)))
    m = Memory()
    given = (2**40 + 1, -7, 2**62)
    for slot, number in enumerate((address(three), *given), 1):
        m.put(slot, np.int64(number))
    verb_call("call_kernel", "nnnn", "", Tag("generic"))(m.address)
    verb_call("call_system", "nnnn", "", Tag("generic"))(m.address)
    m.put(1, np.int64(address(one)))
    verb_call("call_system", "nnnn", "", Tag("generic"))(m.address)
    assert seen == [given, given, given[:1]]
    assert MEANING["call_kernel"](address(three), 1, 2, 3) is None
    assert MEANING["call_system"](address(three), 4, 5, 6) is None
    assert seen[3:] == [(1, 2, 3), (4, 5, 6)]


# ---- facts ----
FACTS = {
    "tokens": lambda tag: tag.tokens,
    "group": lambda tag: tag.scheme_row.group,
    "halves": lambda tag: 32 // tag.scheme_row.sub.columns if tag.scheme_row.sub else 1,
    "has_min": lambda tag: tag.scheme_row.min is not None,
    "unpacks_once": lambda tag: tag.unpacks_once,
}


@pytest.mark.parametrize("scheme", CODES)
def test_facts(scheme: str) -> None:
    """A tag tells a kernel what its scheme and instruction set are."""
    m = Memory()
    tag = Tag(HERE, scheme, by_name(HERE).tokens)
    text = "\n".join(f"store_n(m + {8 * n}, int({name}(t)))" for n, name in enumerate(FACTS))
    compiled(text, tag)(m.address)
    want = [fact(tag) for fact in FACTS.values()]
    np.testing.assert_array_equal(m.bytes.view(np.int64)[: len(want)], want)
    compiled("store_n(m, tokens(single(t)))", tag)(m.address)
    assert m.bytes.view(np.int64)[0] == 1


def test_float_schemes_say_their_size() -> None:
    m = Memory()
    for scheme in FLOATS:
        compiled("store_n(m, value_bytes(t))", Tag("generic", scheme))(m.address)
        assert m.bytes.view(np.int64)[0] == SCHEMES[scheme].itemsize


def test_every_name_is_exported() -> None:
    assert set(MEANING) <= set(verbs.__all__)
