"""What the schemes mean: against loops over the specification, and against ggml's own converter."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from edgeq import formats
from edgeq.errors import FormatError, UnsupportedError, UsageError
from edgeq.formats import NUMBERS, SCHEMES, Scheme
from edgeq.formats.schemes import SUBS, Floats, Integers, rounds_to
from edgeq.formats.schemes.rounding import by_table
from edgeq.formats.schemes.scheme import PLANES
from edgeq.formats.schemes.table import NF4
from tests.formats.parts import ROWS, random_parts, value_at

Array = np.ndarray[Any, Any]
CODES = [row.name for row in SCHEMES.values() if row.planes]
ROUNDED = [row.name for row in SCHEMES.values() if rounds_to(row)]
BY_TABLE = [name for name in ROUNDED if rounds_to(SCHEMES[name]) is by_table]
ONE_OF_A_RULE = list({rounds_to(SCHEMES[name]): name for name in reversed(ROUNDED)}.values())
FLOATS = [row.name for row in SCHEMES.values() if row.number and not row.row]
SHAPES = [(1, 1), (15, 31), (16, 32), (17, 33), (40, 172), (3, 500), (64, 64)]
F16_32, ROW = Floats("f16", 32), Floats("f32", 0)


def matrix(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- rows ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"planes": (3,)},
            r"its planes are (3,), but codes are cut into 1, 2, 2+1, 4, 4+1, 4+2, 4+2+1, 8 bits",
        ),
        ({"planes": (1, 4)}, "its planes are (1, 4)"),
        ({"scale": None}, "codes need a scale or a float for the row"),
        ({"scale": None, "row": ROW, "unit": 0.5}, "only a scale has a unit"),
        ({"scale": Floats("f32", 0)}, "a scale for 0 columns does not go with activations"),
        ({"row": F16_32}, "the row's float is for all columns (0), not for 32"),
        ({"row": Floats("f8", 0)}, "f8 is no format of numbers"),
        ({"scale": Floats("f16", 8)}, "a scale for 8 columns does not go with activations"),
        ({"scale": Floats("f16", 96)}, "a scale for 96 columns does not go with activations"),
        ({"scale": Floats("f8", 32)}, "f8 is no format of numbers"),
        ({"zero": 16}, "its zero is 16, but it is one of the 16 codes"),
        ({"zero": -1}, "its zero is -1"),
        ({"table": (1, 2)}, "a table of 16 integers, or four such tables, are needed"),
        ({"table": (128,) * 16}, "its table or its zero points hold an integer that does not fit in 8 bits"),
        (
            {"zeros": (0, 0, 0, -129), "sub": Integers("u6c2", 32)},
            "its table or its zero points hold an integer that does not fit in 8 bits",
        ),
        ({"number": "f16"}, "what has codes is no plain number"),
        ({"sub": Integers("i7", 16)}, "its sub-scales are i7, not one of i8, u8, u8+m, u4m4, s6c2, u6c2"),
        ({"sub": Integers("i8", 64)}, "a sub-scale for 64 columns is not one for 16 or 32"),
        ({"sub": Integers("u6c2", 32)}, "four zero points or tables go with sub-scales that choose one"),
        (
            {"table": (1,) * 64, "zeros": (0, 1, 2, 3), "sub": Integers("u6c2", 32)},
            "four zero points or tables go with sub-scales that choose one",
        ),
        ({"zeros": (0, 1, 2, 3)}, "only sub-scales of s6c2 or u6c2 choose a zero point or a table"),
        ({"table": (1,) * 64}, "only sub-scales of s6c2 or u6c2 choose a zero point or a table"),
        ({"zeros": (3,), "sub": Integers("i8", 16)}, "only sub-scales of s6c2 or u6c2 choose"),
        ({"sub": Integers("u8+m", 32)}, "a min and its sub-scale go together"),
        ({"sub": Integers("u8", 32), "min": F16_32}, "a min and its sub-scale go together"),
        ({"unit": 0.3}, "its unit is 0.3, but a power of two is needed"),
        ({"planes": (), "number": "f8"}, "f8 is no format of numbers"),
        ({"planes": (), "number": "f16"}, "only codes have scales or a table"),
        ({"tensor": True}, "only rows' floats can be one for the tensor"),
        ({"planes": (), "scale": None, "row": ROW}, "only numbers have a float for the row"),
    ],
)
def test_a_row_that_kernels_would_misread_is_refused(words: dict[str, Any], message: str) -> None:
    sound: dict[str, Any] = {"planes": (4,), "zero": 0, "scale": F16_32}
    Scheme("new", **sound)
    with pytest.raises(UsageError, match=re.escape(f"scheme new: {message}")):
        Scheme("new", **{**sound, **words})


def test_what_a_scheme_holds() -> None:
    """Codes move to a scheme with the same scales and more integers, value by value."""
    held = {row.name: {other for other in CODES if row.holds(SCHEMES[other])} for row in SCHEMES.values()}
    assert held["q8"] == {"q8", "q5", "q4", "t4", "fp4", "log4", "pow4"}
    assert held["q5"] == {"q5", "q4", "fp4"} and held["q4"] == {"q4"}
    assert held["k6"] == {"k6", "k3"} and held["k5"] == {"k5", "k4"} and held["q5m"] == {"q5m", "q4m", "q2m"}
    assert held["e2"] == {"e2"} and held["f32"] == held["bytes"] == set()
    for name in CODES:
        for other in held[name]:
            own, wide = SCHEMES[other], SCHEMES[name]
            parts = random_parts(own, 3, 300)
            moved = {**parts, "codes": wide.codes_of(own)[parts["codes"]]}
            assert same(formats.dequantize(moved, wide), formats.dequantize(parts, own))


def test_a_code_moves_with_all_that_may_be_chosen() -> None:
    """There is a code that means the same under each choice, whether tables are chosen or zero points."""
    own = SCHEMES["e3"]
    tables = [[5] * 4 + row[::-1] + [6] * 4 for row in own.values.tolist()]
    wide = Scheme("wide", planes=(4,), table=tuple(sum(tables, [])), sub=own.sub, row=own.row)
    assert wide.holds(own) and not own.holds(wide)
    parts = random_parts(own, 3, 70)
    moved = {**parts, "codes": wide.codes_of(own)[parts["codes"]]}
    assert same(formats.dequantize(moved, wide), formats.dequantize(parts, own))
    tables[3].reverse()  # the same integers, of other codes
    assert not replace(wide, table=tuple(sum(tables, []))).holds(own)


def test_padding_means_0_in_each_table() -> None:
    tables = (0, 1, 5, -7, 0, 5, 0, 1, 0, 0, 0, 5, 1, 5, 0, 0)
    assert Scheme("new", planes=(2,), table=tables, sub=Integers("u6c2", 32), scale=F16_32).padding == 0
    assert (
        Scheme("new", planes=(2,), table=(5, *tables[1:]), sub=Integers("u6c2", 32), scale=F16_32).padding
        == 0
    )
    tables = (1, 1, 0, 0, 0, 5, 0, 1, 0, 0, 0, 5, 1, 0, 0, 0)
    assert Scheme("new", planes=(2,), table=tables, sub=Integers("u6c2", 32), scale=F16_32).padding == 2
    assert SCHEMES["e2"].padding == 0 and SCHEMES["e6"].padding == 32


# ---- where parts lie ----


@pytest.mark.parametrize("planes", PLANES)
def test_pack_puts_each_code_where_the_specification_says(planes: tuple[int, ...]) -> None:
    codes = np.random.default_rng(1).integers(0, 1 << sum(planes), (32, 64), dtype=np.uint8)
    packed = formats.pack(codes, planes)
    assert np.array_equal(formats.unpack(packed, planes), codes)
    shift = 0
    for lines, bits in zip(packed, planes, strict=True):
        assert lines.shape == (2, 2 * bits, 64) and lines.dtype == np.uint8
        for row, col in np.ndindex(codes.shape):
            line, inside = divmod(col, 32 // bits)
            field, j = divmod(inside, 4)
            byte = int(lines[row // 16, line, row % 16 * 4 + j])
            assert byte >> (bits * field) & ((1 << bits) - 1) == codes[row, col] >> shift & ((1 << bits) - 1)
        shift += bits


def test_pack_refuses_what_is_not_whole_lines() -> None:
    with pytest.raises(ValueError, match="whole lines"):
        formats.pack(np.zeros((15, 32), np.uint8), (4,))
    with pytest.raises(ValueError, match="whole lines"):
        formats.pack(np.zeros((16, 12), np.uint8), (4,))


@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (32, 256)])
@pytest.mark.parametrize("scheme", ROWS.values(), ids=ROWS)
def test_parts_of_a_tensor_byte_by_byte(scheme: Scheme, shape: tuple[int, int]) -> None:
    """Codes, numbers and padding lie where README.md puts them."""
    parts = random_parts(scheme, *shape)
    data = np.concatenate(list(formats.encode_parts(parts, scheme)))
    sizes = formats.geometry(scheme, "lines16", shape)
    assert data.size == sizes.nbytes == formats.nbytes(scheme, "lines16", shape)
    assert sizes.cols_padded % scheme.step == 0 and sizes.cols_padded - shape[1] < scheme.step
    at, shift = 0, 0
    for part in scheme.parts:
        size = np.dtype(part.dtype).itemsize
        for row in range(sizes.rows_padded):
            for entry in range(0, part.entries(sizes.cols_padded), 3 if part.bits else 1):
                if part.bits:
                    line, inside = divmod(entry, 32 // part.bits)
                    field, j = divmod(inside, 4)
                    tile = row // 16 * (sizes.cols_padded * part.bits // 32)
                    byte = int(data[at + (tile + line) * 64 + row % 16 * 4 + j])
                    mask = (1 << part.bits) - 1
                    code = parts["codes"][row, entry] if row < shape[0] else scheme.padding
                    assert byte >> (part.bits * field) & mask == int(code) >> shift & mask
                    continue
                tile = row // 16 * part.entries(sizes.cols_padded)
                place = at + ((tile + entry) * 16 + row % 16) * size
                expected = parts[part.name][row, entry].tobytes() if row < shape[0] else bytes(size)
                assert data[place : place + size].tobytes() == expected
        at += sizes.spans[part.name].nbytes
        shift += part.bits
    assert at == data.size


@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (32, 256)])
@pytest.mark.parametrize("scheme", ROWS.values(), ids=ROWS)
def test_values_are_what_the_definition_says(scheme: Scheme, shape: tuple[int, int]) -> None:
    parts = random_parts(scheme, *shape, seed=1)
    data = np.concatenate(list(formats.encode_parts(parts, scheme)))
    split = formats.split(data, scheme, formats.geometry(scheme, "lines16", shape))
    assert all(np.array_equal(split[name][: shape[0]], part) for name, part in parts.items())
    decoded = formats.decode(data, scheme, shape)
    assert decoded.dtype == np.float32 and decoded.shape == shape
    for row, col in np.random.default_rng(2).integers(0, shape, (300, 2)):
        assert same(decoded[row, col], value_at(scheme, parts, row, col)), (row, col)


def test_the_table_has_a_row_for_each_kind_of_part() -> None:
    """So that the tests above see them all."""
    rows = ROWS.values()
    assert {row.sub.kind for row in rows if row.sub} == set(SUBS)
    assert {row.planes for row in rows if row.planes} == set(PLANES)


def same(a: Any, b: Any) -> bool:
    """Bit by bit."""
    return np.asarray(a, np.float32).tobytes() == np.asarray(b, np.float32).tobytes()


@pytest.mark.parametrize("name", CODES)
def test_encode_parts_refuses_what_is_no_matrix_of_the_scheme(name: str) -> None:
    scheme = SCHEMES[name]
    sound = random_parts(scheme, 20, 256)
    for part in sound:
        for wrong in (
            {key: array for key, array in sound.items() if key != part},
            {**sound, part: sound[part][:, :-1]},
            {**sound, part: sound[part][:-1]},
            {**sound, part: sound[part].astype(np.float64)},
        ):
            with pytest.raises(ValueError, match=rf"(scheme|part) .*{name}"):
                list(formats.encode_parts(wrong, scheme))
    for floats in scheme.parts:
        if floats.number:
            broken = {**sound, floats.name: sound[floats.name].copy()}
            broken[floats.name].view(np.uint8)[18, -floats.itemsize :] = 255
            with pytest.raises(FormatError, match=f"row 18, .*: a {floats.noun} is not finite"):
                list(formats.encode_parts(broken, scheme))


# ---- rounding ----


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ROUNDED)
def test_what_is_rounded_is_within_a_step(name: str, shape: tuple[int, int]) -> None:
    x = matrix(shape)
    parts = formats.quantize(x, name)
    assert np.array_equal(formats.encode(x, name), np.concatenate(list(formats.encode_parts(parts, name))))
    decoded = formats.decode(formats.encode(x, name), name, shape)
    assert same(decoded, formats.dequantize(parts, name)[:, : shape[1]])
    row = SCHEMES[name]
    part, floats = next(iter(row.floats.items()))
    values = row.values[0] if row.planes else every_number(row.number)
    unit = np.abs(np.repeat(parts[part].astype(np.float32), floats.columns or shape[1], axis=1))
    step = unit[:, : shape[1]] * np.diff(np.sort(values)).max()
    far = np.abs(x) - unit[:, : shape[1]] * values.max() if row.bits == 1 else 0  # a sign has no step
    assert (np.abs(decoded - x) <= np.maximum(step * 1.01, far) + 2**-10 * np.abs(x).max()).all()


@pytest.mark.parametrize("name", BY_TABLE)
def test_each_value_gets_the_nearest_entry(name: str) -> None:
    """With the smallest scale that leaves none outside of the table."""
    row = SCHEMES[name]
    assert row.scale is not None
    (values,) = row.values
    x = matrix((40, 256))
    x[3] = 0
    groups = x.reshape(40, -1, row.scale.columns)
    d = np.maximum(groups.max(axis=2) / values.max(), groups.min(axis=2) / values.min())
    d = np.abs(d)  # of zeros
    parts = formats.quantize(x, name)
    assert same(parts["scale"], d.astype(np.float16).astype(np.float32))
    steps = x / np.maximum(np.repeat(d, row.scale.columns, axis=1), np.float32(1e-30))
    found = values[parts["codes"]].astype(np.float32)
    least = np.abs(steps[..., None] - values).min(axis=-1)
    assert (np.abs(steps - found) <= least + 1e-4).all()
    if values.max() == -values.min():
        assert np.array_equal(
            np.abs(found.reshape(groups.shape)).max(axis=2)[d > 0], np.full((d > 0).sum(), values.max())
        )


def test_nf4_is_a_normal_distribution_cut_into_equal_shares() -> None:
    """As in QLoRA, appendix E: eight from zero up, seven from zero down, each divided by the largest."""
    normal = NormalDist()
    down, up = (np.linspace(0.9677083, 0.5, count)[:-1] for count in (8, 9))
    numbers = sorted([0.0, *(-normal.inv_cdf(p) for p in down), *(normal.inv_cdf(p) for p in up)])
    assert tuple(round(127 * number / numbers[-1]) for number in numbers) == NF4


@pytest.mark.parametrize("name", ["q1g128", "b1"])
def test_of_binary_weights_the_mean_magnitude_is_the_best(name: str) -> None:
    x = matrix((3, 128))
    parts = formats.quantize(x, name)
    decoded = formats.dequantize(parts, name)
    assert np.array_equal(np.signbit(decoded), np.signbit(x))
    assert np.allclose(np.abs(decoded), np.abs(x).mean(axis=1, keepdims=True), rtol=1e-3)
    for factor in (0.99, 1.01):
        assert (np.square(decoded - x).sum(axis=1) < np.square(factor * decoded - x).sum(axis=1)).all()


def test_a_row_or_the_tensor_has_one_float() -> None:
    """The largest magnitude of it is 127, however many blocks the matrix is worked on in."""
    x = matrix((300, 1000)) * np.linspace(0.1, 1, 300, dtype=np.float32)[:, None]
    largest = np.abs(x).max(axis=1, keepdims=True)
    rows, tensor = (formats.quantize(x, name) for name in ("q8r", "q8t"))
    assert same(rows["row"], largest / np.float32(127))
    assert same(tensor["row"], np.full((300, 1), largest.max() / np.float32(127), np.float32))
    for parts, most in ((rows, largest), (tensor, largest.max())):
        codes = np.rint(x / (most / np.float32(127)).astype(np.float32)) + 128
        assert np.abs(parts["codes"][:, :1000] - codes).max() <= 1  # of two equally near either
        assert np.count_nonzero(parts["codes"][:, :1000] != codes) < 30
    assert not SCHEMES["q8t"].holds(SCHEMES["q8r"])


# of normally distributed numbers: the error that rounding leaves, relative to their size
ERRORS = {
    "fp8": 0.0264, "fp8e5": 0.0526, "q8": 0.0054, "q4": 0.0861, "q5": 0.0428, "q4m": 0.0783, "q5m": 0.0379,
    "q2m": 0.3926,
    "t4": 0.0833, "q1g128": 0.6004, "nf4": 0.0921, "fp4": 0.1012, "log4": 0.1795, "pow4": 0.0933,
    "q4g64": 0.0953, "q4g128": 0.1036, "q8r": 0.0079, "q8t": 0.0108, "b1": 0.6023,
}  # fmt: skip


@pytest.mark.parametrize("name", ROUNDED)
def test_the_error_is_the_one_that_was_measured(name: str) -> None:
    x = matrix((256, 1024))
    change = formats.decode(formats.encode(x, name), name, x.shape) - x
    assert np.linalg.norm(change) / np.linalg.norm(x) == pytest.approx(ERRORS[name], rel=0.03)


def every_number(name: str) -> Array:
    """All that are finite, of a byte."""
    codes = np.arange(256, dtype=np.uint8)
    return NUMBERS[name].floats(codes[NUMBERS[name].finite(codes)])


@pytest.mark.parametrize("name", ["fp8", "fp8e5"])
def test_the_largest_of_a_row_is_the_largest_of_its_format(name: str) -> None:
    """And the others are the nearest of what the row's float leaves of them."""
    row = SCHEMES[name]
    x = matrix((20, 50)) * np.float32(10) ** np.random.default_rng(3).integers(-35, 30, (20, 1))
    x[3], x[4], x[4, 5] = 0, 1e-44, -1.5e-44
    x = x.astype(np.float32)
    parts = formats.quantize(x, name)
    largest = NUMBERS[row.number].largest
    assert same(parts["row"], np.abs(x).max(axis=1, keepdims=True) / np.float32(largest))
    values = NUMBERS[row.number].floats(parts["value"])
    assert (np.abs(values[5:]).max(axis=1) == largest).all() and not values[3:5].any()
    numbers = every_number(row.number)
    distance = np.abs((x[5:] / parts["row"][5:])[..., None] - numbers)
    assert np.array_equal(np.abs(x[5:] / parts["row"][5:] - values[5:]), distance.min(axis=-1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FLOATS)
def test_float_tensor_value_by_value(name: str, shape: tuple[int, int]) -> None:
    x = matrix(shape)
    data = formats.encode(x, name)
    rows, cols = shape
    tiles = -(-rows // 16)
    stored = data.view(NUMBERS[name].dtype).reshape(tiles, cols, 16)
    assert data.size == formats.nbytes(name, "lines16", shape)
    decoded = formats.decode(data, name, shape)
    for row in range(tiles * 16):
        for col in range(cols):
            element = stored[row // 16, col, row % 16]
            if row >= rows:
                assert element == 0
            elif name == "bf16":
                assert decoded[row, col] == np.array(int(element) << 16, np.uint32).view(np.float32)
            else:
                assert decoded[row, col] == np.float32(element)
    assert np.allclose(decoded, x, rtol={"f32": 0, "f16": 2**-11, "bf16": 2**-8}[name], atol=1e-7)


def scalar_q4(group: Array) -> tuple[np.float16, list[int]]:
    """ggml's Q4_0 rounding of 32 values, an operation at a time."""
    largest = np.float32(0)
    for value in group:
        if abs(value) > abs(largest):
            largest = value
    d = largest / np.float32(-8)
    inverse = np.float32(1) / d if d else np.float32(0)
    codes = [min(15, int(np.float32(value * inverse) + np.float32(8.5))) for value in group]
    return np.float16(d), codes


def scalar_q8(group: Array) -> tuple[np.float16, list[int]]:
    d = np.abs(group).max() / np.float32(127)
    inverse = np.float32(1) / d if d else np.float32(0)
    scaled = [float(np.float32(value * inverse)) for value in group]
    return np.float16(d), [int(np.sign(s) * np.floor(abs(s) + 0.5)) + 128 for s in scaled]


def scalar_q4m(group: Array) -> tuple[np.float16, list[int], np.float16]:
    """ggml's Q4_1 rounding: the scale, the codes, the min."""
    low = group.min()
    d = (group.max() - low) / np.float32(15)
    inverse = np.float32(1) / d if d else np.float32(0)
    codes = [min(15, int(np.float32((value - low) * inverse) + np.float32(0.5))) for value in group]
    return np.float16(d), codes, np.float16(low)


@pytest.mark.parametrize(("name", "scalar"), [("q4", scalar_q4), ("q8", scalar_q8), ("q4m", scalar_q4m)])
def test_quantize_is_ggmls_reference(name: str, scalar: Any) -> None:
    x = np.concatenate(
        [
            matrix((200, 32)) * np.float32(10.0) ** np.random.default_rng(3).integers(-4, 4, (200, 1)),
            np.zeros((1, 32)),
            np.arange(-16, 16)[None],  # halves and whole steps
            np.tile([-3.0, 3.0], 16)[None],  # the negative of two equal magnitudes comes first
            np.tile([3.0, -3.0], 16)[None],
            np.linspace(-127, 127, 32).round()[None] + 0.5 * (np.arange(32) % 2),
            np.full((1, 32), 1e-30),  # the scale underflows to zero
        ]
    ).astype(np.float32)
    parts = formats.quantize(x, name)
    for row, group in enumerate(x):
        scale, expected, *low = scalar(group)
        assert parts["scale"][row, 0].view(np.uint16) == scale.view(np.uint16), row
        assert parts["codes"][row].tolist() == expected, row
        assert not low or parts["min"][row, 0].view(np.uint16) == low[0].view(np.uint16), row


def test_quantize_of_the_smallest_numbers_is_quiet() -> None:
    """1 / scale overflows here; codes must still be codes and decode to almost nothing."""
    x = np.full((2, 32), 1e-44, np.float32)
    x[1, 3] = -1e-40
    for name in ROUNDED:
        assert np.abs(formats.dequantize(formats.quantize(x, name), name)).max() < 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ROUNDED + FLOATS)
def test_encode_refuses_what_is_not_finite(name: str, bad: float) -> None:
    x = matrix((40, 70))
    x[33, 65] = bad
    with pytest.raises(FormatError, match="not finite"):
        formats.encode(x, name)
    if name in ROUNDED:
        columns = next(iter(SCHEMES[name].floats.values())).columns
        first = 65 // columns * columns if columns else 0
        with pytest.raises(FormatError, match=f"row 33, columns from {first}: a value is not finite"):
            formats.quantize(x, name)


@pytest.mark.parametrize("bits", [0x7F800001, 0xFF800001, 0x7FC00000, 0x7FFFFFFF])
@pytest.mark.parametrize("name", ROUNDED + FLOATS)
def test_every_kind_of_nan_is_refused_without_a_warning(name: str, bits: int) -> None:
    x = matrix((40, 70))
    x.view(np.uint32)[:, 33:41] = bits
    with np.errstate(all="raise"), pytest.raises(FormatError, match="not finite"):
        formats.encode(x, name)


@pytest.mark.parametrize("name", ["q4", "q5", "q8", "f16"])
def test_encode_refuses_what_is_too_large(name: str) -> None:
    x = matrix((20, 40))
    x[17, 2] = 1e38
    with pytest.raises(FormatError, match="too large"):
        formats.encode(x, name)


def test_bf16_refuses_a_value_that_rounds_to_infinity() -> None:
    with pytest.raises(FormatError, match="too large for bf16"):
        formats.encode(np.full(3, np.finfo(np.float32).max, np.float32), "bf16")


def test_unknown_scheme_and_wrong_pairs() -> None:
    with pytest.raises(UnsupportedError, match="scheme 'q3' is not one of"):
        formats.encode(matrix((2, 2)), "q3")
    with pytest.raises(UnsupportedError, match="scheme f16 has no scales to quantize to"):
        formats.quantize(matrix((2, 2)), "f16")
    for name in set(CODES) - set(ROUNDED):
        with pytest.raises(UnsupportedError, match=f"nothing rounds to scheme {name} yet"):
            formats.encode(matrix((2, 2)), name)
    for scheme, layout, shape in [
        ("q4", "plain", (32,)),
        ("bytes", "lines16", (2, 2)),
        ("bytes", "plain", (2, 2)),
        ("f32", "lines16", (2,)),
        ("f32", "lines32", (2, 2)),
        ("fp8", "plain", (32,)),
        ("f32", "plain", ()),
        ("f32", "plain", (1,) * 5),
        ("f32", "plain", (0,)),
        ("f32", "plain", (True,)),
        ("f32", "plain", (1 << 31,)),
    ]:
        with pytest.raises(FormatError):
            formats.nbytes(scheme, layout, shape)
    with pytest.raises(FormatError, match="scheme q4 needs layout lines16, not plain"):
        list(formats.encode_blocks(matrix((32,)), "q4"))
    with pytest.raises(FormatError, match="data has 3 bytes, but q4"):
        formats.decode(b"abc", "q4", (1, 1))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(f"Q{bits}_{kind}", f"q{bits}{'m' * kind}") for bits, kind in ((4, 0), (5, 0), (8, 0), (4, 1), (5, 1))],
)
def test_quantize_equals_gguf_py(kind: str, name: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is the reference here")
    x = matrix((100, 320), 7)
    blocks = gguf.quants.quantize(x, gguf.GGMLQuantizationType[kind])
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
    assert same(formats.decode(formats.encode(x, name), name, x.shape), expected)


class Rows:
    """Looks like float16 [rows, cols]; makes rows when they are asked for."""

    ndim = 2

    def __init__(self, rows: int, cols: int) -> None:
        self.shape = (rows, cols)

    def __getitem__(self, index: slice) -> Array:
        start, stop, _ = index.indices(self.shape[0])
        return np.ones((stop - start, self.shape[1]), np.float16)


@pytest.mark.parametrize("name", [*ONE_OF_A_RULE, "q8t", "bf16"])
def test_encode_blocks_needs_few_row_blocks_of_memory(name: str) -> None:
    source: Any = Rows(8192, 2048)  # 64 MiB as float32
    tracemalloc.start()
    total = sum(chunk.size for chunk in formats.encode_blocks(source, name))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == formats.nbytes(name, "lines16", source.shape)
    assert peak < 8 << 20
