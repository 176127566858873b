"""Random blocks of ggml's types, and what gguf-py reads in them."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np

from edgeq.formats.ggml import TensorType


def blocks(row: TensorType, count: int, *, scale: float | None = None) -> Any:
    """uint8 [count, bytes]: random blocks; their floats have any finite bits, or about the size `scale`."""
    random = np.random.default_rng(7)
    raw = random.integers(0, 256, (count, row.nbytes), np.uint8)
    view = raw.reshape(-1).view(row.layout)
    for name in row.layout.names or ():
        if row.layout[name] == np.dtype("<f2"):
            view[name] = _halves(random, count, scale)
    if row.name == "IQ1_M":
        spread = _halves(random, count, scale).view("<u2")[:, None] >> np.array([0, 4, 8, 12], np.uint16) & 15
        view["scales"] = view["scales"] & 0x0FFF | spread << 12
    if row.name == "MXFP4":  # up to 12 times the largest is finite
        view["e"] = random.integers(0, 252, count) if scale is None else 127 + int(np.log2(scale))
    if row.name == "NVFP4":  # seven bits, and all of them set are 0
        view["scale"] &= 127
    return raw


def _halves(random: np.random.Generator, count: int, scale: float | None) -> Any:
    """float16: of any finite bits, so normal, subnormal, of both signs and zero; or around `scale`."""
    if scale is not None:
        return (random.standard_normal(count) * scale).astype("<f2")
    bits = random.integers(0, 0x7C00, count, np.uint16) | random.integers(0, 2, count, np.uint16) << 15
    bits[::50] &= 0x8000
    return bits.view("<f2")


def reference(row: TensorType, raw: Any) -> Any:
    """float32 [rows, columns] of stored rows, by gguf-py; what it does not read is written out."""
    if row.name == "F64":
        return raw.view("<f8").astype(np.float32)
    if row.name in ("Q1_0", "Q2_0"):
        bits = 1 if row.name == "Q1_0" else 2
        each = raw.reshape(-1, row.nbytes)
        d = each[:, :2].copy().view("<f2").astype(np.float32)
        codes = [[byte >> shift & (1 << bits) - 1 for byte in block for shift in range(0, 8, bits)]
                 for block in each[:, 2:].tolist()]  # fmt: skip
        values = np.array(codes, np.float32)
        return (d * (2 * values - 1 if bits == 1 else values - 1)).reshape(len(raw), -1)
    return gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[row.name])
