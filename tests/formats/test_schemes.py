"""What the schemes mean: against loops over the specification, and against ggml's own converter."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from edgeq import formats
from edgeq.errors import FormatError, UnsupportedError, UsageError
from edgeq.formats import SCHEMES, Scheme

Array = np.ndarray[Any, Any]
QUANTIZED = [row.name for row in SCHEMES.values() if row.bits]
FLOATS = ["f32", "f16", "bf16"]
SHAPES = [(1, 1), (15, 31), (16, 32), (17, 33), (40, 172), (3, 500), (64, 64)]


def matrix(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("bits", "group", "zero", "message"),
    [
        (3, 32, 4, "scheme new: bits is 3, but 0 or 1 or 2 or 4 or 8 is needed"),
        (4, 16, 8, "scheme new: group is 16, but 32 is needed: activations have one scale"),
        (4, 64, 8, "scheme new: group is 64, but 32 is needed"),
        (8, 0, 128, "scheme new: group is 0, but 32 is needed"),
        (4, 32, 16, "scheme new: zero is 16, but 0 to 15 is needed: it is one of the codes"),
        (2, 32, -1, "scheme new: zero is -1, but 0 or 1 or 2 or 3 is needed"),
        (0, 32, 0, "scheme new: group is 32, but 0 is needed"),
        (0, 0, 1, "scheme new: zero is 1, but 0 is needed"),
    ],
)
def test_a_row_that_kernels_would_misread_is_refused(bits: int, group: int, zero: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Scheme("new", bits, group, zero, "|u1")


def test_rows_that_kernels_can_read_are_not_refused() -> None:
    for bits in (1, 2, 4, 8):
        for zero in (0, 1 << (bits - 1), (1 << bits) - 1):
            assert Scheme("new", bits, 32, zero, "|u1").planes == 8 // bits


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_pack_puts_each_code_where_the_specification_says(bits: int) -> None:
    planes = 8 // bits
    codes = np.random.default_rng(1).integers(0, 1 << bits, (32, 8 * 4 * planes), dtype=np.uint8)
    lines = formats.pack(codes, bits)
    assert lines.shape == (2, 8, 64) and lines.dtype == np.uint8
    for row in range(32):
        for col in range(codes.shape[1]):
            line, inside = divmod(col, 4 * planes)
            plane, j = divmod(inside, 4)
            byte = int(lines[row // 16, line, row % 16 * 4 + j])
            assert byte >> (bits * plane) & ((1 << bits) - 1) == codes[row, col]
    assert np.array_equal(formats.unpack(lines, bits), codes)


def test_pack_refuses_what_is_not_whole_lines() -> None:
    with pytest.raises(ValueError, match="whole lines"):
        formats.pack(np.zeros((15, 32), np.uint8), 4)
    with pytest.raises(ValueError, match="whole lines"):
        formats.pack(np.zeros((16, 12), np.uint8), 4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_tensor_byte_by_byte(name: str, shape: tuple[int, int]) -> None:
    """Codes, scales and padding lie where README.md puts them."""
    scheme = SCHEMES[name]
    x = matrix(shape)
    codes, scales = formats.quantize(x, name)
    data = formats.encode(x, name)
    sizes = formats.geometry(scheme, "lines16", shape)
    assert data.size == sizes.nbytes == formats.nbytes(name, "lines16", shape)
    lines = data[: sizes.codes_bytes].reshape(sizes.tiles, -1, 64)
    stored_scales = data[sizes.codes_bytes :].view("<f2")
    for row in range(sizes.rows_padded):
        for col in range(0, sizes.cols_padded, 3):
            line, inside = divmod(col, 4 * scheme.planes)
            plane, j = divmod(inside, 4)
            byte = int(lines[row // 16, line, row % 16 * 4 + j])
            code = byte >> (scheme.bits * plane) & ((1 << scheme.bits) - 1)
            group = col // scheme.group
            scale = stored_scales[(row // 16 * sizes.groups + group) * 16 + row % 16]
            if row < shape[0]:
                assert code == codes[row, col] and scale == scales[row, group]
            else:
                assert code == scheme.zero and scale.view(np.uint16) == 0
            if col >= shape[1]:
                assert code == scheme.zero


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", QUANTIZED)
def test_decode_is_code_minus_zero_times_scale(name: str, shape: tuple[int, int]) -> None:
    scheme = SCHEMES[name]
    x = matrix(shape)
    codes, scales = formats.quantize(x, name)
    wide = np.repeat(scales.astype(np.float32), scheme.group, axis=1)
    expected = ((codes.astype(np.float32) - np.float32(scheme.zero)) * wide)[:, : shape[1]]
    decoded = formats.decode(formats.encode(x, name), name, shape)
    assert decoded.dtype == np.float32 and decoded.shape == shape
    assert np.array_equal(decoded.view(np.uint32), np.ascontiguousarray(expected).view(np.uint32))
    steps = np.abs(wide[:, : shape[1]])
    assert (np.abs(decoded - x) <= steps * 1.01).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FLOATS)
def test_float_tensor_value_by_value(name: str, shape: tuple[int, int]) -> None:
    x = matrix(shape)
    data = formats.encode(x, name)
    rows, cols = shape
    tiles = -(-rows // 16)
    stored = data.view(SCHEMES[name].dtype).reshape(tiles, cols, 16)
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


def test_bf16_rounds_to_nearest_even() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is the reference for bfloat16 rounding")
    random = np.random.default_rng(2)
    bits = random.integers(0, 1 << 32, 20000, dtype=np.uint32)
    bits[:4000] = bits[:4000] & 0xFFFF0000 | 0x8000  # exact halves
    x = bits.view(np.float32)
    x = x[np.isfinite(x) & (np.abs(x) < 3.38e38)]
    expected = x.astype(ml_dtypes.bfloat16).view(np.uint16)
    assert np.array_equal(formats.encode(x, "bf16").view("<u2"), expected)


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


@pytest.mark.parametrize(("name", "scalar"), [("q4", scalar_q4), ("q8", scalar_q8)])
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
    codes, scales = formats.quantize(x, name)
    for row, group in enumerate(x):
        scale, expected = scalar(group)
        assert scales[row, 0].view(np.uint16) == scale.view(np.uint16), row
        assert codes[row].tolist() == expected, row


def test_quantize_of_the_smallest_numbers_is_quiet() -> None:
    """1 / scale overflows here; codes must still be codes and decode to almost nothing."""
    x = np.full((2, 32), 1e-44, np.float32)
    x[1, 3] = -1e-40
    for name in QUANTIZED:
        codes, scales = formats.quantize(x, name)
        assert np.abs(formats.dequantize(codes, scales, name)).max() < 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", QUANTIZED + FLOATS)
def test_encode_refuses_what_is_not_finite(name: str, bad: float) -> None:
    x = matrix((40, 70))
    x[33, 65] = bad
    with pytest.raises(FormatError, match="not finite"):
        formats.encode(x, name)
    if name in QUANTIZED:
        with pytest.raises(FormatError, match="row 33, columns from 64: a value is not finite"):
            formats.quantize(x, name)


@pytest.mark.parametrize("bits", [0x7F800001, 0xFF800001, 0x7FC00000, 0x7FFFFFFF])
@pytest.mark.parametrize("name", QUANTIZED + FLOATS)
def test_every_kind_of_nan_is_refused_without_a_warning(name: str, bits: int) -> None:
    x = matrix((40, 70))
    x.view(np.uint32)[:, 33:41] = bits
    with np.errstate(all="raise"), pytest.raises(FormatError, match="not finite"):
        formats.encode(x, name)


@pytest.mark.parametrize("name", ["q4", "q8", "f16"])
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
    with pytest.raises(UnsupportedError, match="scheme f16 has no codes to quantize to"):
        formats.quantize(matrix((2, 2)), "f16")
    for scheme, layout, shape in [
        ("q4", "plain", (32,)),
        ("bytes", "lines16", (2, 2)),
        ("bytes", "plain", (2, 2)),
        ("f32", "lines16", (2,)),
        ("f32", "lines32", (2, 2)),
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


@pytest.mark.parametrize("rows", [32, 37])
@pytest.mark.parametrize("name", QUANTIZED)
def test_encode_codes_packs_ready_codes(name: str, rows: int) -> None:
    x = matrix((rows, 96))
    packed = np.concatenate(list(formats.encode_codes(*formats.quantize(x, name), name)))
    assert np.array_equal(packed, formats.encode(x, name))
    with pytest.raises(ValueError, match="do not fit"):
        list(formats.encode_codes(np.zeros((2, 32), np.uint8), np.zeros((2, 2), np.float16), name))


@pytest.mark.parametrize(("kind", "name"), [("Q4_0", "q4"), ("Q8_0", "q8")])
def test_quantize_equals_gguf_py(kind: str, name: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is the reference here")
    x = matrix((100, 320), 7)
    blocks = gguf.quants.quantize(x, gguf.GGMLQuantizationType[kind])
    codes, scales = (formats.from_q4_0 if name == "q4" else formats.from_q8_0)(blocks)
    ours, our_scales = formats.quantize(x, name)
    assert np.array_equal(our_scales.view(np.uint16), scales.view(np.uint16))
    assert np.array_equal(ours, codes)


@pytest.mark.parametrize(("kind", "name", "block_bytes"), [("Q4_0", "q4", 18), ("Q8_0", "q8", 34)])
def test_ggml_blocks_are_held_without_loss(kind: str, name: str, block_bytes: int) -> None:
    """Any blocks with finite scales: what comes back is bit-equal to gguf-py's dequantizer."""
    gguf = pytest.importorskip("gguf", reason="the gguf package is the reference here")
    random = np.random.default_rng(11)
    blocks = random.integers(0, 256, (37, 5, block_bytes), dtype=np.uint8)
    scale_bits = random.integers(0, 1 << 16, (37, 5), dtype=np.uint16)
    scale_bits[(scale_bits & 0x7C00) == 0x7C00] = 0x8000  # no infinities; minus zero instead
    blocks[:, :, :2] = scale_bits.view(np.uint8).reshape(37, 5, 2)
    rows = blocks.reshape(37, -1)
    expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
    codes, scales = (formats.from_q4_0 if name == "q4" else formats.from_q8_0)(rows)
    data = np.concatenate(list(formats.encode_codes(codes, scales, name)))
    decoded = formats.decode(data, name, (37, 160))
    assert np.array_equal(decoded.view(np.uint32), expected.view(np.uint32))


class Rows:
    """Looks like float16 [rows, cols]; makes rows when they are asked for."""

    ndim = 2

    def __init__(self, rows: int, cols: int) -> None:
        self.shape = (rows, cols)

    def __getitem__(self, index: slice) -> Array:
        start, stop, _ = index.indices(self.shape[0])
        return np.ones((stop - start, self.shape[1]), np.float16)


@pytest.mark.parametrize("name", ["q4", "q8", "bf16"])
def test_encode_blocks_needs_few_row_blocks_of_memory(name: str) -> None:
    source: Any = Rows(8192, 2048)  # 64 MiB as float32
    tracemalloc.start()
    total = sum(chunk.size for chunk in formats.encode_blocks(source, name))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == formats.nbytes(name, "lines16", source.shape)
    assert peak < 8 << 20
