"""Random parts of a matrix for any row of SCHEMES, and their values: what tests are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.formats import NUMBERS, SCHEMES, Part, Scheme, TensorPlan, Writer, encode_parts
from edgeq.formats.schemes import Floats, Integers
from tests.formats.samples import HEADER

Array = np.ndarray[Any, Any]


TABLES = tuple(v * 67 % 256 - 128 for v in range(32))  # four of eight integers, in no order
TOYS = {  # rows that the table lacks, for what none of its rows has
    row.name: row
    for row in (
        Scheme("toy6", planes=(4, 2), zero=32, scale=Floats("f16", 32)),
        Scheme("toy7", planes=(4, 2, 1), zero=64, scale=Floats("f16", 32)),
        Scheme("toy1", planes=(1,), table=(-1, 1), scale=Floats("bf16", 128)),
        Scheme("toyz", planes=(2,), zeros=(0, 1, 2, 3), sub=Integers("u6c2", 32), row=Floats("f32", 0)),
        Scheme("toys", planes=(2,), zeros=(-1, 0, 2, 3), sub=Integers("s6c2", 16), scale=Floats("f16", 64)),
        Scheme("toyt", planes=(2, 1), table=TABLES, sub=Integers("s6c2", 16), scale=Floats("f16", 64)),
        Scheme("toym", planes=(2, 1), min=Floats("bf16", 64), row=Floats("f32", 0)),
        Scheme("toyh", planes=(4, 2), zero=32, scale=Floats("f16", 16)),
        Scheme("toyn", planes=(2,), scale=Floats("f16", 64), min=Floats("f16", 16)),
        Scheme("toyf", "f16", row=Floats("f32", 0)),
        Scheme("toyr", planes=(2,), zero=2, scale=Floats("f16", 32), row=Floats("f32", 0)),
    )
}

ROWS = {row.name: row for row in (*SCHEMES.values(), *TOYS.values()) if row.name != "bytes"}


def random_parts(scheme: Scheme, rows: int, cols: int, seed: int = 0) -> dict[str, Array]:
    """Sound parts of a matrix [rows, cols], row-major: any code, any integer, floats of both signs and small
    ones, and padding as R9 wants it.
    """
    random = np.random.default_rng(seed)
    cols_padded = -(-cols // scheme.step) * scheme.step
    return {part.name: _random(random, scheme, part, (rows, cols, cols_padded)) for part in scheme.arrays}


def _random(random: np.random.Generator, scheme: Scheme, part: Part, size: tuple[int, int, int]) -> Array:
    rows, cols, cols_padded = size
    shape = rows, part.entries(cols_padded)
    if part.bits:
        found = random.integers(0, 1 << part.bits, shape, dtype=np.uint8)
    elif part.number:
        number = NUMBERS[part.number]
        values = (random.standard_normal(shape) * 2.0 ** random.integers(-9, 3, shape)).astype(np.float32)
        bits = random.integers(*{"e8m0": (100, 130), "ue4m3": (0, 127)}.get(part.number, (0, 1)), shape)
        found = number.stored(values) if number.stored else bits.astype(part.dtype)
    else:
        kind = np.iinfo(part.dtype)
        found = random.integers(kind.min, kind.max + 1, shape).astype(part.dtype)
    real = -(-cols // part.columns) if part.columns else 1
    found[:, real:] = scheme.padding if part.bits else 0
    return found


def write_parts(path: Path, scheme: Scheme, shape: tuple[int, int], parts: Mapping[str, Array]) -> Path:
    """A file with one tensor "a" of these parts."""
    with Writer(path, HEADER, [TensorPlan("a", scheme, "lines16", shape)]) as writer:
        writer.write("a", *encode_parts(parts, scheme))
        writer.commit()
    return path


def value_at(scheme: Scheme, parts: dict[str, Array], row: int, col: int) -> np.float32:
    """One value, operation by operation as formats/schemes/scheme.py defines it."""

    def entry(name: str) -> Any:
        part = next(part for part in scheme.arrays if part.name == name)
        return parts[name][row, col // part.columns if part.columns else 0]

    def number(name: str) -> np.float32:
        kind = next(part.number for part in scheme.parts if part.name == name)
        return np.float32(NUMBERS[kind].floats(np.array([entry(name)]))[0])

    if scheme.number:
        return np.float32(number("value") * (number("row") if scheme.row else np.float32(1)))
    code, choice, sub = int(entry("codes")), 0, 1
    if scheme.sub:
        sub = int(entry("sub"))
        if scheme.sub.kind == "u4m4":
            sub &= 15
        if scheme.sub.kind in ("s6c2", "u6c2"):
            choice = (sub & 255) >> 6
            sub &= 63
            sub -= 64 if scheme.sub.kind == "s6c2" and sub >= 32 else 0
    if len(scheme.table) > 1 << scheme.bits:
        code += choice << scheme.bits
    v = scheme.table[code] if scheme.table else code - scheme.zero
    v -= scheme.zeros[choice] if len(scheme.zeros) > 1 else 0
    result = np.float32(v * sub)
    if scheme.scale:
        result *= number("scale") * np.float32(scheme.unit)
    if scheme.min:
        low = number("min")
        if scheme.sub:
            low *= np.float32(int(entry("submin")) if scheme.sub.kind == "u8+m" else int(entry("sub")) >> 4)
        result += low
    return np.float32(result * number("row") if scheme.row else result)
