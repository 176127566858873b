"""The number schemes, a row each, and what they mean, in NumPy.

Everything that packs, unpacks, computes with or lists schemes walks `SCHEMES`; these functions are the
definition that kernels are tested against.  Matrices are [rows, cols]; codes are uint8 [rows, cols_padded];
scales are float16 [rows, groups]; a value is (code - zero) * scale in float32.  Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.errors import FormatError, UnsupportedError, UsageError

from .layout import TILE_ROWS, Geometry, geometry, quote, round_up

Array = np.ndarray[Any, Any]
GROUP = 32  # columns that share a scale: those that int8 activations have one scale for
CODES = {bits: range(1 << bits) for bits in (0, 1, 2, 4, 8)}  # that there are of so many bits
BLOCK_VALUES = 1 << 17  # worked on at a time: a block and its temporaries stay in a core's second-level cache


@dataclass(frozen=True)
class Scheme:
    """One row of the table.  `bits` is 0 where values are stored as they are.

    UsageError for a row that kernels would read as other numbers than it means.
    """

    name: str  # what the file says; never reused for another meaning
    bits: int  # of one code
    group: int  # columns that share a scale
    zero: int  # the code whose value is 0
    dtype: str  # NumPy's word for one stored element; bf16 is held as its 16 bits

    def __post_init__(self) -> None:
        rules = (
            ("bits", self.bits, tuple(CODES), "codes fill whole bytes"),
            ("group", self.group, (GROUP if self.bits else 0,), "activations have one scale for as many"),
            ("zero", self.zero, CODES.get(self.bits, ()), "it is one of the codes"),
        )
        for word, value, known, why in rules:
            if value not in known:
                right = " or ".join(map(str, known)) if len(known) < 6 else f"0 to {known[-1]}"
                raise UsageError(f"scheme {self.name}: {word} is {value}, but {right} is needed: {why}.")

    @property
    def planes(self) -> int:
        """Codes in one byte; 0 for schemes without codes."""
        return 8 // self.bits if self.bits else 0

    @property
    def itemsize(self) -> int:
        """Bytes of one stored element."""
        return np.dtype(self.dtype).itemsize

    @property
    def bits_per_weight(self) -> float:
        """Bits of one value with its share of the scale, without padding."""
        return self.bits + 16 / self.group if self.bits else 8.0 * self.itemsize


SCHEMES: dict[str, Scheme] = {
    row.name: row
    for row in (
        Scheme("f32", 0, 0, 0, "<f4"),
        Scheme("f16", 0, 0, 0, "<f2"),
        Scheme("bf16", 0, 0, 0, "<u2"),
        Scheme("q8", 8, 32, 128, "|u1"),
        Scheme("q4", 4, 32, 8, "|u1"),
        Scheme("bytes", 0, 0, 0, "|u1"),
    )
}


def scheme_of(name: str | Scheme) -> Scheme:
    """The row of that name; UnsupportedError for a name this version does not know."""
    if isinstance(name, Scheme):
        return name
    if name not in SCHEMES:
        raise UnsupportedError(f"scheme {quote(name)} is not one of {', '.join(SCHEMES)}")
    return SCHEMES[name]


def nbytes(scheme: str | Scheme, layout: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor's data in the file."""
    return geometry(scheme_of(scheme), layout, shape).nbytes


# ---- values <-> codes ----


def quantize(x: Array, scheme: str | Scheme) -> tuple[Array, Array]:
    """Round float32 [rows, cols] to (codes uint8 [rows, cols_padded], scales float16 [rows, groups]).

    q4 is ggml's Q4_0 and q8 its Q8_0, operation by operation in float32; padding columns get the zero point.
    FormatError when a value is not finite or too large for a float16 scale.
    """
    scheme = scheme_of(scheme)
    if not scheme.bits:
        raise UnsupportedError(f"scheme {scheme.name} has no codes to quantize to")
    rows, cols = x.shape
    groups = round_up(cols, scheme.group) // scheme.group
    codes = np.empty((rows, groups * scheme.group), np.uint8)
    scales = np.empty((rows, groups), np.float16)
    for start, stop in _row_blocks(rows, cols):
        block = _padded_block(x, start, stop, stop, groups * scheme.group)
        codes[start:stop], scales[start:stop] = _quantize_block(block, scheme)
        _check_scales(x, scales[start:stop], start, scheme)
    return codes, scales


def dequantize(codes: Array, scales: Array, scheme: str | Scheme) -> Array:
    """float32 [rows, cols_padded] of uint8 codes [rows, cols_padded] and float16 scales [rows, groups]."""
    scheme = scheme_of(scheme)
    rows, cols = codes.shape
    values = codes.astype(np.float32)
    values -= np.float32(scheme.zero)
    grouped = values.reshape(rows, cols // scheme.group, scheme.group)
    grouped *= scales.astype(np.float32)[:, :, None]
    return values


def _quantize_block(x: Array, scheme: Scheme) -> tuple[Array, Array]:
    """`quantize` for float32 [rows, groups * group] that may be overwritten."""
    grouped = x.reshape(-1, scheme.group)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # the caller checks the scales
        high, low = _extremes(grouped)
        if scheme.bits == 8:
            d = np.abs(np.maximum(high, -low)) / np.float32(127)  # abs: no minus zero
        else:
            d = _signed_maximum(grouped, high, low) / np.float32(-scheme.zero)
        scales = d.astype(np.float16)
        inverse = np.float32(1) / d
        inverse[~np.isfinite(inverse)] = 0
        grouped *= inverse[:, None]
        if scheme.bits == 8:
            # Adding the float just below a half and cutting off rounds halves away from zero, without
            # lifting 0.49999997 to 1 as a half would.
            grouped += np.copysign(np.float32(0.49999997), grouped)
            codes = grouped.astype(np.int8).view(np.uint8)
            codes ^= 0x80
        else:
            grouped += np.float32(scheme.zero + 0.5)
            codes = grouped.astype(np.uint8)
            np.minimum(codes, (1 << scheme.bits) - 1, out=codes)
    return codes.reshape(x.shape), scales.reshape(len(x), -1)


def _extremes(grouped: Array) -> tuple[Array, Array]:
    """Largest and smallest value of each row of [n, group], by halving: NumPy reduces short rows slowly."""
    high = low = grouped
    while high.shape[1] > 1:
        half = high.shape[1] // 2
        high = np.maximum(high[:, :half], high[:, half:])
        low = np.minimum(low[:, :half], low[:, half:])
    return high[:, 0], low[:, 0]


def _signed_maximum(grouped: Array, high: Array, low: Array) -> Array:
    """The value of largest magnitude of each row, its sign kept; of two equal ones the first."""
    result = np.where(high > -low, high, low)
    ties = np.nonzero((high == -low) & (high != 0))[0]
    if ties.size:
        rows = grouped[ties]
        result[ties] = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    # A NaN anywhere in the row must show in the scale; `where` may have picked the other side.
    return np.where(np.isnan(high), high, result)


def _check_scales(x: Array, scales: Array, start: int, scheme: Scheme) -> None:
    """FormatError naming the place in `x` when one of the scales of its rows from `start` is not finite."""
    bad = ~np.isfinite(scales)
    if bad.any():
        row, group = (int(i) for i in np.argwhere(bad)[0])
        values = np.asarray(x[start + row, group * scheme.group : (group + 1) * scheme.group])
        finite = np.isfinite(values.astype(np.float32)).all()
        what = "too large for a float16 scale" if finite else "not finite"
        raise FormatError(f"row {start + row}, columns from {group * scheme.group}: a value is {what}")


# ---- codes <-> lines ----


def pack(codes: Array, bits: int) -> Array:
    """Codes uint8 [rows, cols] -> lines uint8 [tiles, cols / (4 * planes), 64]; rows a multiple of 16.

    Byte r * 4 + j of line i holds in plane p's bits the code of row r, column i * 4 * planes + 4 * p + j.
    """
    rows, cols = codes.shape
    planes = 8 // bits
    if rows % TILE_ROWS or cols % (4 * planes):
        raise ValueError(f"codes [{rows}, {cols}] are not whole lines of 16 rows x {4 * planes} columns")
    lines = cols // (4 * planes)
    quads = np.ascontiguousarray(codes).view(np.uint32).reshape(rows // TILE_ROWS, TILE_ROWS, lines, planes)
    packed = quads[..., 0].copy() if planes > 1 else quads[..., 0]
    for plane in range(1, planes):
        packed |= quads[..., plane] << np.uint32(bits * plane)
    turned = np.ascontiguousarray(packed.transpose(0, 2, 1))
    return turned.view(np.uint8).reshape(rows // TILE_ROWS, lines, 64)


def unpack(lines: Array, bits: int) -> Array:
    """The inverse of `pack`: lines uint8 [tiles, n, 64] -> codes uint8 [tiles * 16, n * 4 * planes]."""
    tiles, count, _ = lines.shape
    planes = 8 // bits
    quads = np.ascontiguousarray(lines).view(np.uint32).transpose(0, 2, 1)  # [tiles, 16, lines]
    mask = np.uint32(((1 << bits) - 1) * 0x01010101)
    codes = np.empty((tiles, TILE_ROWS, count, planes), np.uint32)
    for plane in range(planes):
        codes[..., plane] = (quads >> np.uint32(bits * plane)) & mask
    return codes.view(np.uint8).reshape(tiles * TILE_ROWS, count * planes * 4)


# ---- whole tensors ----


def encode(x: Array, scheme: str | Scheme) -> Array:
    """A tensor's data as uint8 [nbytes]: a matrix in lines16, anything else in plain; see `encode_blocks`."""
    scheme = scheme_of(scheme)
    layout = "lines16" if x.ndim == 2 else "plain"
    out = np.empty(geometry(scheme, layout, x.shape).nbytes, np.uint8)
    position = 0
    for chunk in encode_blocks(x, scheme):
        out[position : position + chunk.size] = chunk
        position += chunk.size
    return out


def encode_blocks(x: Array, scheme: str | Scheme) -> Iterator[Array]:
    """`encode` in uint8 pieces, in file order: a few row blocks and the scales in memory, whatever the size.

    `x` may be anything with shape and row slices that convert to float32 (float16, ml_dtypes' bfloat16, …).
    FormatError when a value is not finite or too large for the scheme.
    """
    scheme = scheme_of(scheme)
    if scheme.name == "bytes":
        yield np.ascontiguousarray(x, np.uint8).reshape(-1)
        return
    if x.ndim != 2:
        geometry(scheme, "plain", x.shape)  # refuses a scheme with codes
        yield _encode_floats(np.asarray(x, np.float32).reshape(-1), scheme)
        return
    sizes = geometry(scheme, "lines16", x.shape)
    all_scales = []
    for start, stop in _row_blocks(sizes.rows_padded, sizes.cols):
        block = _padded_block(x, start, min(stop, sizes.rows), stop, sizes.cols_padded)
        if not scheme.bits:
            tiles = block.reshape(-1, TILE_ROWS, sizes.cols).transpose(0, 2, 1)
            yield _encode_floats(np.ascontiguousarray(tiles).reshape(-1), scheme, start)
            continue
        codes, scales = _quantize_block(block, scheme)
        real = min(stop, sizes.rows) - start
        scales[real:] = 0
        _check_scales(x, scales, start, scheme)
        yield pack(codes, scheme.bits).reshape(-1)
        all_scales.append(_turn_scales(scales))
    yield from all_scales


def encode_codes(codes: Array, scales: Array, scheme: str | Scheme) -> Iterator[Array]:
    """Like `encode_blocks`, of ready codes uint8 [rows, groups * group] and scales float16 [rows, groups]."""
    scheme = scheme_of(scheme)
    rows, cols = codes.shape
    if scales.shape != (rows, cols // scheme.group) or cols % scheme.group or scales.dtype != np.float16:
        raise ValueError(f"scales {scales.dtype} {scales.shape} do not fit {scheme.name} codes {codes.shape}")
    rows_padded = round_up(rows, TILE_ROWS)
    for start, stop in _row_blocks(rows_padded, cols):
        block = codes[start:stop]
        if stop > rows:
            block = np.full((stop - start, cols), scheme.zero, np.uint8)
            block[: rows - start] = codes[start:]
        yield pack(block, scheme.bits).reshape(-1)
    padded = np.zeros((rows_padded, cols // scheme.group), np.float16)
    padded[:rows] = scales
    yield _turn_scales(padded)


def decode(data: Any, scheme: str | Scheme, shape: Sequence[int]) -> Array:
    """float32 of the logical shape from a tensor's data: matrices are lines16, anything else is plain."""
    scheme = scheme_of(scheme)
    sizes = geometry(scheme, "lines16" if len(shape) == 2 else "plain", shape)
    raw = np.frombuffer(data, np.uint8)
    if raw.size != sizes.nbytes:
        raise FormatError(f"data has {raw.size} bytes, but {scheme.name} {list(shape)} needs {sizes.nbytes}")
    if scheme.name == "bytes":
        raise UnsupportedError("scheme bytes holds no numbers to decode")
    if scheme.bits:
        codes, scales = split(raw, scheme, sizes)
        return dequantize(codes, scales, scheme)[: sizes.rows, : sizes.cols]
    values = decode_floats(raw.view(scheme.dtype), scheme)
    if len(shape) == 2:
        values = values.reshape(sizes.tiles, sizes.cols, TILE_ROWS).transpose(0, 2, 1)
        values = np.ascontiguousarray(values).reshape(sizes.rows_padded, sizes.cols)[: sizes.rows]
    return values.reshape(shape)


def split(raw: Array, scheme: Scheme, sizes: Geometry) -> tuple[Array, Array]:
    """(codes [rows_padded, cols_padded], scales [rows_padded, groups]) of quantized data uint8 [nbytes]."""
    codes = unpack(raw[: sizes.codes_bytes].reshape(sizes.tiles, -1, 64), scheme.bits)
    scales = raw[sizes.codes_bytes :].view("<f2").reshape(sizes.tiles, sizes.groups, TILE_ROWS)
    return codes, np.ascontiguousarray(scales.transpose(0, 2, 1)).reshape(sizes.rows_padded, sizes.groups)


def decode_floats(stored: Array, scheme: Scheme) -> Array:
    """float32 of stored elements; a bf16 is the upper half of a float32."""
    if scheme.name == "bf16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32)


def _encode_floats(values: Array, scheme: Scheme, row: int = 0) -> Array:
    """float32 [n] -> uint8 [n * itemsize], rounded to nearest, ties to even."""
    with np.errstate(over="ignore", invalid="ignore"):
        if scheme.name == "bf16":
            bits = values.view(np.uint32)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            stored = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype("<u2")
            finite = np.isfinite(values).all() and ((stored & 0x7F80) != 0x7F80).all()
        else:
            stored = values.astype(scheme.dtype)
            finite = np.isfinite(stored).all()
    if not finite:
        raise FormatError(f"rows from {row}: a value is not finite or too large for {scheme.name}")
    return stored.view(np.uint8)


def _turn_scales(scales: Array) -> Array:
    """float16 [rows, groups], rows a multiple of 16 -> the bytes of [tiles, groups, 16]."""
    tiles = scales.reshape(-1, TILE_ROWS, scales.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(tiles, "<f2").reshape(-1).view(np.uint8)


def _row_blocks(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of blocks of whole tiles and about BLOCK_VALUES values."""
    step = max(TILE_ROWS, BLOCK_VALUES // cols // TILE_ROWS * TILE_ROWS)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _padded_block(x: Array, start: int, stop: int, stop_padded: int, cols_padded: int) -> Array:
    """A fresh float32 [stop_padded - start, cols_padded] of rows start..stop of `x`, zeros around."""
    cols = x.shape[1]
    block = np.empty((stop_padded - start, cols_padded), np.float32)
    block[: stop - start, :cols] = x[start:stop]
    block[: stop - start, cols:] = 0
    block[stop - start :] = 0
    return block


# ---- ggml's blocks ----


def from_q4_0(blocks: Array) -> tuple[Array, Array]:
    """(codes, scales) of ggml Q4_0 blocks uint8 [rows, groups * 18], lossless: scale, 16 bytes of nibbles."""
    rows = len(blocks)
    grouped = blocks.reshape(rows, -1, 18)
    codes = np.empty((rows, grouped.shape[1], 32), np.uint8)
    np.bitwise_and(grouped[:, :, 2:], 15, out=codes[:, :, :16])
    np.right_shift(grouped[:, :, 2:], 4, out=codes[:, :, 16:])
    return codes.reshape(rows, -1), _block_scales(grouped)


def from_q8_0(blocks: Array) -> tuple[Array, Array]:
    """(codes, scales) of ggml Q8_0 blocks uint8 [rows, groups * 34], lossless: scale, 32 int8."""
    rows = len(blocks)
    grouped = blocks.reshape(rows, -1, 34)
    return (grouped[:, :, 2:] ^ np.uint8(128)).reshape(rows, -1), _block_scales(grouped)


def _block_scales(grouped: Array) -> Array:
    return np.ascontiguousarray(grouped[:, :, :2]).view("<f2")[:, :, 0].astype(np.float16)
