"""Block types of GGUF: as the parts of a scheme that holds them without loss, or else as float32.

What each value is worth is ggml's definition. A type is one function and its row of source.KINDS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def q4_0(raw: Array) -> dict[str, Array]:
    """uint8 [rows, blocks * 18] -> parts of q4. A block is the scale, then 16 bytes as those of q4_1."""
    blocks = raw.reshape(len(raw), -1, 18)
    codes = np.concatenate([blocks[:, :, 2:] & 15, blocks[:, :, 2:] >> 4], axis=2)
    return {"codes": codes.reshape(len(raw), -1), "scale": _scale(blocks)}


def q8_0(raw: Array) -> dict[str, Array]:
    """uint8 [rows, blocks * 34] -> parts of q8. A block is the scale, then 32 int8."""
    blocks = raw.reshape(len(raw), -1, 34)
    return {"codes": (blocks[:, :, 2:] ^ np.uint8(128)).reshape(len(raw), -1), "scale": _scale(blocks)}


def _scale(blocks: Array) -> Array:
    return np.ascontiguousarray(blocks[:, :, :2]).view("<f2")[:, :, 0]


def q4_1(raw: Array) -> Array:
    """uint8 [rows, blocks * 20] -> float32 [rows, blocks * 32]: 0 to 15 times a scale, plus a minimum.

    A block is scale and minimum, both float16, then 16 bytes; byte i holds value i (low half) and 16 + i.
    """
    blocks = raw.reshape(len(raw), -1, 20)
    scale, minimum = (np.ascontiguousarray(blocks[:, :, at : at + 2]).view("<f2") for at in (0, 2))
    codes = np.concatenate([blocks[:, :, 4:] & 15, blocks[:, :, 4:] >> 4], axis=2)
    with np.errstate(invalid="ignore"):  # a scale that is not finite is found where the values are used
        values = codes * scale.astype(np.float32) + minimum.astype(np.float32)
    return values.reshape(len(raw), -1)


def q6_k(raw: Array) -> Array:
    """uint8 [rows, blocks * 210] -> float32 [rows, blocks * 256], exact: codes from -32 to 31, an int8 scale
    for 16 of them, a float16 scale for all.

    A block is 128 bytes of low bits, 64 bytes of high bits, 16 scales, the scale of all. Each half of its
    values is 4 rows of 32: value i of row j has the low (j < 2) or high half of low byte 32 (j % 2) + i, and
    bits 2j and 2j + 1 of high byte i.
    """
    blocks = raw.reshape(-1, 210)
    low = blocks[:, :128].reshape(-1, 2, 1, 2, 32) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1, 1)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    codes = (low.reshape(-1, 2, 4, 32) & 15 | (high & 3) << 4).astype(np.int8) - np.int8(32)
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    scale = np.ascontiguousarray(blocks[:, 208:]).view("<f2").astype(np.float32)
    with np.errstate(invalid="ignore"):
        values = codes.reshape(-1, 16, 16) * (scale * scales)[:, :, None]
    return values.reshape(len(raw), -1)
